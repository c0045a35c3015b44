"""The fast path: one thread receives a batch, runs it, and settles it as a batch.

A helper thread acts only when a task takes longer than a few milliseconds: it settles what is
finished, gives the unstarted messages back so that a long task never sits on short ones, and
notes that the task is running.
"""

from __future__ import annotations

import asyncio
import logging
import os
import threading
import time
from collections import deque
from collections.abc import Sequence
from typing import TYPE_CHECKING

from umbel.errors import SoftTimeLimitExceeded, UmbelError
from umbel.outcomes import Outcome, Rejected
from umbel.worker.board import Board, slot_key
from umbel.worker.execute import run_async, run_sync
from umbel.worker.jobs import Job, Settlement
from umbel.worker.limits import Interruptible, MainThreadGuard
from umbel.worker.report import log_finished

if TYPE_CHECKING:
    from umbel.messages import Delivery
    from umbel.worker.consumer import Consumer
    from umbel.worker.limits import ThreadGuard

logger = logging.getLogger("umbel.worker")

#: A finished outcome waits at most this long for company.
SETTLE_AFTER_S = 0.005
#: The helper looks this often: a task that stands at two looks is a long one.
LOOK_EVERY_S = 0.005
#: … and this often at a task that it has relieved already.
_LOOK_AGAIN_EVERY_S = 0.05
#: Seconds that a receive waits in the broker.
_WAIT_S = 5.0
_WAIT_WITH_BACKLOG_S = 0.2
#: Outcomes that may wait out a backend's outage before nothing more is received.
MAX_BACKLOG = 1000


class SoloLane:
    """Runs one task at a time on the thread that calls `run`."""

    def __init__(
        self,
        consumer: Consumer,
        *,
        guard: MainThreadGuard | ThreadGuard,
        board: Board | None = None,
        burst: bool = False,
        max_tasks: int | None = None,
    ):
        """`burst`: end when the queues are empty; `max_tasks`: end after so many."""
        self._consumer, self._guard, self._board, self._burst = consumer, guard, board, burst
        self._max_tasks = max_tasks
        self._lock = threading.Lock()
        self._unstarted: deque[Job] = deque()
        self._current: Job | None = None
        #: Counts the jobs begun: the helper tells by it whether a task is still the same.
        self._begun = 0
        self._done = 0
        self._busy = threading.Event()
        self._closed = False
        self._relieved = -1
        self._loop: asyncio.AbstractEventLoop | None = None
        self._awaited: tuple[asyncio.Task[Outcome], Interruptible] | None = None
        self._helper = threading.Thread(target=self._help, name="umbel-helper", daemon=True)

    # -- the main thread ----------------------------------------------------------------------

    def run(self) -> None:
        """Consume until the consumer is told to stop, or the queues are empty in a burst."""
        consumer = self._consumer
        settler = consumer.settler
        self._helper.start()
        try:
            while not consumer.stopping.is_set():
                consumer.source.reconcile(settler.pending_receipts())
                if settler.backlog > MAX_BACKLOG:
                    settler.flush()
                    consumer.stopping.wait(_WAIT_WITH_BACKLOG_S)
                    continue
                wait_s = _WAIT_WITH_BACKLOG_S if settler.backlog else _WAIT_S
                batch = consumer.source.receive(
                    max_messages=consumer.prefetch.size, wait_s=0.0 if self._burst else wait_s
                )
                if batch:
                    self._work(batch)
                else:
                    settler.flush()
                    if self._burst and not settler.backlog and settler.outage is None:
                        break
        finally:
            self._finish()

    def _work(self, batch: Sequence[Delivery]) -> None:
        consumer = self._consumer
        consumer.refresh_revocations()
        jobs = consumer.intake.take(batch)
        with self._lock:
            self._unstarted.extend(jobs)
        self._busy.set()
        began = time.monotonic()
        first_finished: float | None = None
        ran = size = 0
        while (job := self._next()) is not None:
            if consumer.intake.may_begin(job):
                self._run_one(job)
                ran += 1
                size += len(getattr(job.delivery.message, "body", b""))
            else:
                self._current = None
            now = time.monotonic()
            if first_finished is None:
                first_finished = now
            elif now - first_finished >= SETTLE_AFTER_S:
                consumer.settler.flush()
                first_finished = None
        consumer.settler.flush()
        self._busy.clear()
        if ran:
            consumer.prefetch.observe(ran, time.monotonic() - began, size)

    def _next(self) -> Job | None:
        with self._lock:
            if not self._unstarted:
                return None
            if self._consumer.stopping.is_set():
                given = [job.delivery for job in self._unstarted]
                self._unstarted.clear()
                self._give_back(given)
                return None
            self._current = job = self._unstarted.popleft()
            self._begun += 1
            return job

    def _run_one(self, job: Job) -> None:
        host, board = self._consumer.host, self._board
        if board is not None:
            board.begin(0, slot_key(job.delivery.receipt), time.monotonic(), job.hard_limit_s)
        if job.runner.is_coroutine:
            outcome = self._await(job)
        else:
            outcome = run_sync(job, self._guard, host.clock.time)
        settlement = Settlement(job.delivery, outcome, job, host.clock.time(), job.early_ack)
        has_room = self._consumer.settler.add(settlement)
        self._current = None
        self._done += 1
        if board is not None:
            board.end(0)
            board.count_done(self._done)
        if self._max_tasks is not None and self._done >= self._max_tasks:
            self._consumer.stop()
        log_finished(job, outcome)
        if not has_room:
            self._consumer.settler.flush()

    def _await(self, job: Job) -> Outcome:
        """Run an ``async def`` task on this thread's loop."""
        if self._loop is None:
            self._loop = asyncio.new_event_loop()
            asyncio.set_event_loop(self._loop)
        loop = self._loop
        timer: asyncio.TimerHandle | None = None

        def running(handle: Interruptible) -> None:
            nonlocal timer
            task = asyncio.current_task()
            assert task is not None  # noqa: S101 - called from within the task
            self._awaited = (task, handle)
            if job.soft_limit_s is not None:
                timer = loop.call_later(
                    job.soft_limit_s, handle.interrupt, task, SoftTimeLimitExceeded
                )

        try:
            return loop.run_until_complete(run_async(job, self._consumer.host.clock.time, running))
        finally:
            self._awaited = None
            if timer is not None:
                timer.cancel()

    def _finish(self) -> None:
        self._closed = True
        self._busy.set()
        self._helper.join()
        self._consumer.settler.flush(force=True)
        if self._loop is not None:
            self._loop.run_until_complete(self._loop.shutdown_asyncgens())
            self._loop.close()

    # -- from other threads -------------------------------------------------------------------

    def stop(self) -> None:
        """Begin nothing more; what is unstarted is given back."""
        self._consumer.stop()

    def interrupt(self, error: type[BaseException]) -> None:
        """Raise `error` in the task that runs now, if one does."""
        awaited = self._awaited
        if awaited is not None and self._loop is not None:
            task, handle = awaited
            self._loop.call_soon_threadsafe(handle.interrupt, task, error)
        elif self._current is not None:
            self._guard.interrupt(error)

    def give_up(self) -> None:
        """Give back what runs, for a process that is about to end. The run goes on until then."""
        job = self._current
        if job is not None and not job.early_ack:
            back = Rejected("its worker had to end", requeue=True)
            self._consumer.settler.add(Settlement(job.delivery, back))
        self._consumer.settler.flush(force=True)

    # -- the helper thread --------------------------------------------------------------------

    def _help(self) -> None:
        while True:
            self._busy.wait()
            if self._closed:
                return
            seen = self._begun
            time.sleep(LOOK_EVERY_S if self._relieved != seen else _LOOK_AGAIN_EVERY_S)
            if self._begun == seen and self._current is not None:
                self._relieve(seen)

    def _relieve(self, seen: int) -> None:
        """Do for a main thread that is held up what it would have done between tasks."""
        with self._lock:
            job = self._current
            if self._begun != seen or job is None:
                return
            given = [each.delivery for each in self._unstarted]
            self._unstarted.clear()
        self._give_back(given)
        if self._relieved != seen:
            self._relieved = seen
            self._mark_started(job)
        self._consumer.settler.flush()

    def _mark_started(self, job: Job) -> None:
        backend = self._consumer.backend
        stored = self._consumer.planner.started(job, os.getpid())
        if backend is None or stored is None:
            return
        try:
            backend.store([stored])
        except UmbelError as exc:
            logger.debug("%s: can't store that it started: %s", job.label, exc)

    def _give_back(self, deliveries: Sequence[Delivery]) -> None:
        if not deliveries:
            return
        try:
            self._consumer.broker.nack(deliveries)
        except UmbelError as exc:
            # They stay held in the broker; reconciling gives them back when it is there again.
            logger.warning("can't give %d unstarted messages back yet: %s", len(deliveries), exc)
