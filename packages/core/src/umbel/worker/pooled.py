"""Many tasks at once in one process: the consumer feeds a pool, a settler thread settles.

The consumer asks the broker for as many messages as the pool has free slots, so nothing waits
behind a running task. Outcomes are settled in the batches that form while the batch before is
on its way.
"""

from __future__ import annotations

import asyncio
import logging
import os
import threading
import time
from collections.abc import Coroutine, Sequence
from typing import TYPE_CHECKING, Any

from umbel.errors import SoftTimeLimitExceeded, UmbelError
from umbel.outcomes import Outcome, Rejected
from umbel.worker.board import Board, slot_key
from umbel.worker.execute import run_async, run_sync
from umbel.worker.jobs import Job, Settlement
from umbel.worker.limits import DeadlineWatch, Interruptible, ThreadGuard
from umbel.worker.report import log_finished
from umbel.worker.solo import MAX_BACKLOG

if TYPE_CHECKING:
    from umbel.interfaces.pool import Pool
    from umbel.worker.consumer import Consumer

logger = logging.getLogger("umbel.worker")

_WAIT_S = 5.0
#: How long the settler waits for company while other tasks are about to finish.
_GATHER_S = 0.001
#: A task that runs this long is marked as started.
_STARTED_AFTER_S = 0.05
_FETCH_MOST = 200


class PooledJob:
    """A job in a slot of the pool."""

    def __init__(self, lane: PooledLane, job: Job, slot: int):
        self._lane, self.job, self.slot = lane, job, slot
        self.is_coroutine = job.runner.is_coroutine
        self.begun_at: float | None = None
        self.marked = False
        self._guard = ThreadGuard(lane.watch)
        self._handle: Interruptible | None = None
        self._loop: Any = None
        self._task: Any = None

    def run(self) -> None:
        """Run the task on this thread; an ``async def`` task on a loop of its own."""
        if self.is_coroutine:
            self._lane.loop_of_thread().run_until_complete(self.arun())
            return
        if self._lane.begin(self):
            self._lane.finished(self, run_sync(self.job, self._guard, self._lane.now))

    async def _run_coroutine(self) -> None:
        self._loop, self._task = asyncio.get_running_loop(), asyncio.current_task()
        limit, timer = self.job.soft_limit_s, None

        def running(handle: Interruptible) -> None:
            nonlocal timer
            self._handle = handle
            if limit is not None:
                timer = self._loop.call_later(
                    limit, handle.interrupt, self._task, SoftTimeLimitExceeded
                )

        outcome = await run_async(self.job, self._lane.now, running)
        self._handle = None
        if timer is not None:
            timer.cancel()
        self._lane.finished(self, outcome)

    def arun(self) -> Coroutine[Any, Any, None]:
        """Run the task on the running loop."""
        return self._arun()

    async def _arun(self) -> None:
        if self._lane.begin(self):
            await self._run_coroutine()

    def interrupt(self, error: type[BaseException]) -> None:
        """Raise `error` in the task, if it runs."""
        handle = self._handle
        if handle is not None:
            self._loop.call_soon_threadsafe(handle.interrupt, self._task, error)
        else:
            self._guard.interrupt(error)


class PooledLane:
    """Runs as many tasks at once as its pool has slots."""

    def __init__(
        self,
        consumer: Consumer,
        pool: Pool,
        *,
        board: Board | None = None,
        burst: bool = False,
        max_tasks: int | None = None,
    ):
        """`burst`: end when the queues are empty; `max_tasks`: end after so many."""
        self._consumer, self._pool, self._board, self._burst = consumer, pool, board, burst
        self._max_tasks = max_tasks
        self.now = consumer.host.clock.time
        self.watch = DeadlineWatch()
        self._changed = threading.Condition()
        self._free = list(range(pool.slots - 1, -1, -1))
        self._running: dict[int, PooledJob] = {}
        self._done = 0
        self._closing = False
        self._gave_up = False
        self._loops: dict[int, asyncio.AbstractEventLoop] = {}
        self._settler_thread = threading.Thread(
            target=self._settle_forever, name="umbel-settler", daemon=True
        )

    # -- the consumer thread ------------------------------------------------------------------

    def run(self) -> None:
        """Consume until the consumer is told to stop, or the queues are empty in a burst."""
        consumer = self._consumer
        self._pool.start()
        self._settler_thread.start()
        try:
            while not consumer.stopping.is_set():
                free = self._wait_for_slots()
                if not free:
                    continue
                consumer.source.reconcile(self._known())
                batch = consumer.source.receive(
                    max_messages=min(free, _FETCH_MOST), wait_s=0.0 if self._burst else _WAIT_S
                )
                if batch:
                    consumer.refresh_revocations()
                    self._submit(consumer.intake.take(batch))
                    self._wake_settler()
                elif self._burst and self._is_idle():
                    break
        finally:
            self._finish()

    def _wait_for_slots(self) -> int:
        """Return how many slots are free, after a wait for the first; 0: look again."""
        with self._changed:
            if not self._free or self._consumer.settler.backlog > MAX_BACKLOG:
                self._changed.wait(1.0)
            if self._consumer.settler.backlog > MAX_BACKLOG:
                return 0
            return len(self._free)

    def _submit(self, jobs: Sequence[Job]) -> None:
        pooled = []
        with self._changed:
            for job in jobs:
                slot = self._free.pop()
                one = self._running[slot] = PooledJob(self, job, slot)
                pooled.append(one)
        if pooled:
            self._pool.submit(pooled)

    def _known(self) -> set[str]:
        with self._changed:
            held = {one.job.delivery.receipt for one in self._running.values()}
        return held | self._consumer.settler.pending_receipts()

    def _is_idle(self) -> bool:
        with self._changed:
            if self._running or self._consumer.settler.backlog:
                self._changed.wait(0.05)
                return False
            return True

    def _finish(self) -> None:
        """Wait for what runs; how long is up to whoever stopped the lane (see `give_up`)."""
        with self._changed:
            while self._running and not self._closing:
                self._changed.wait(1.0)
            self._closing = True
            self._changed.notify_all()
        self._settler_thread.join()
        self._consumer.settler.flush(force=True)
        self.watch.stop()
        if self._pool.stop(timeout_s=0.5):
            for loop in self._loops.values():
                loop.close()

    # -- the threads or the loop of the pool --------------------------------------------------

    def begin(self, one: PooledJob) -> bool:
        """Note that `one` starts; False: it isn't to run after all, and its slot is free."""
        if not self._consumer.intake.may_begin(one.job):
            self._release(one)
            return False
        one.begun_at = time.monotonic()
        if self._board is not None:
            key = slot_key(one.job.delivery.receipt)
            self._board.begin(one.slot, key, one.begun_at, one.job.hard_limit_s)
        return True

    def finished(self, one: PooledJob, outcome: Outcome) -> None:
        """Take the outcome of `one`, and free its slot."""
        job = one.job
        if self._gave_up:
            return  # it was given back already
        self._consumer.settler.add(
            Settlement(job.delivery, outcome, job, self.now(), job.early_ack)
        )
        if self._board is not None:
            self._board.end(one.slot)
        log_finished(job, outcome)
        self._release(one)

    def loop_of_thread(self) -> asyncio.AbstractEventLoop:
        """Return the event loop of the calling thread, the same for all its tasks."""
        ident = threading.get_ident()
        loop = self._loops.get(ident)
        if loop is None:
            loop = self._loops[ident] = asyncio.new_event_loop()
            asyncio.set_event_loop(loop)
        return loop

    def _release(self, one: PooledJob) -> None:
        with self._changed:
            if self._running.pop(one.slot, None) is not None:
                self._free.append(one.slot)
                self._done += 1
                if self._board is not None:
                    self._board.count_done(self._done)
            self._changed.notify_all()
        if self._max_tasks is not None and self._done >= self._max_tasks:
            self.stop()

    # -- from other threads -------------------------------------------------------------------

    def stop(self) -> None:
        """Begin nothing more; what runs goes on."""
        self._consumer.stop()
        with self._changed:
            self._changed.notify_all()

    def interrupt(self, error: type[BaseException]) -> None:
        """Raise `error` in all tasks that run."""
        with self._changed:
            running = list(self._running.values())
        for one in running:
            one.interrupt(error)

    def give_up(self) -> None:
        """Give back what runs, for a process that is about to end. The runs go on until then."""
        with self._changed:
            running, self._running = list(self._running.values()), {}
            self._closing = self._gave_up = True
            self._changed.notify_all()
        for one in running:
            if not one.job.early_ack:
                back = Rejected("its worker had to end", requeue=True)
                self._consumer.settler.add(Settlement(one.job.delivery, back))
        self._consumer.settler.flush(force=True)

    # -- the settler thread -------------------------------------------------------------------

    def _wake_settler(self) -> None:
        with self._changed:
            self._changed.notify_all()

    def _settle_forever(self) -> None:
        settler = self._consumer.settler
        while True:
            with self._changed:
                while not settler.backlog and not self._closing:
                    self._changed.wait(_STARTED_AFTER_S if self._running else None)
                    self._mark_started()
                if self._closing:
                    return
                is_busy = bool(self._running)
            if is_busy:
                time.sleep(_GATHER_S)
            if not settler.flush():
                with self._changed:
                    self._changed.wait(0.1)

    def _mark_started(self) -> None:
        """Store that the tasks that run for a while do so. Called with the lock held."""
        backend = self._consumer.backend
        due_at = time.monotonic() - _STARTED_AFTER_S
        long_running = [
            one
            for one in self._running.values()
            if not one.marked and one.begun_at is not None and one.begun_at <= due_at
        ]
        if not long_running or backend is None:
            return
        for one in long_running:
            one.marked = True
        stored = [self._consumer.planner.started(one.job, os.getpid()) for one in long_running]
        self._changed.release()
        try:
            backend.store([each for each in stored if each is not None])
        except UmbelError as exc:
            logger.debug("can't store that %d tasks started: %s", len(stored), exc)
        finally:
            self._changed.acquire()
