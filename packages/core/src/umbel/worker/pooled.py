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
from collections.abc import Sequence
from typing import TYPE_CHECKING

from umbel.error_info import error_info
from umbel.outcomes import Failure, Outcome, Rejected
from umbel.worker import loops
from umbel.worker.board import Board, slot_key
from umbel.worker.dumps import Run
from umbel.worker.jobs import Job, Settlement
from umbel.worker.limits import DeadlineWatch
from umbel.worker.pooled_job import PooledJob
from umbel.worker.quarantine import Quarantine, patience_s
from umbel.worker.report import log_finished
from umbel.worker.slot_names import slot_name
from umbel.worker.solo import MAX_BACKLOG
from umbel.worker.unfinished import unfinished
from umbel.worker.watchdog import Pulse

if TYPE_CHECKING:
    from umbel.interfaces.pool import Pool
    from umbel.messages import Delivery
    from umbel.worker.consumer import Consumer
    from umbel.worker.memory import MemoryMeter

logger = logging.getLogger("umbel.worker")

_WAIT_S = 5.0
#: How long the settler waits for company while other tasks are about to finish.
_GATHER_S = 0.001
#: A task that runs this long is marked as started.
_STARTED_AFTER_S = 0.05
#: Seconds between two looks at what an outage holds up.
_AGAIN_S = 0.1
#: Seconds to wait after an error that should not have been.
_MEND_S = 0.5
_FETCH_MOST = 200


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
        meter: MemoryMeter | None = None,
    ):
        """Run in the slots of `pool`.

        Args:
            consumer: Whose deliveries to run.
            pool: Where to.
            board: What is shared with a supervisor; None: there is none.
            burst: End when the queues are empty.
            max_tasks: End after so many; None: don't.
            meter: Tells when the process has grown so large that it is to end; None: never.
        """
        self._consumer, self.pool, self._board, self._burst = consumer, pool, board, burst
        self._max_tasks, self._meter = max_tasks, meter
        self._by_receipt = consumer.by_receipt
        self._quarantine = Quarantine()
        self.now = consumer.host.clock.time
        self.watch = DeadlineWatch()
        #: Guards what follows; notified when any of it changes. Never held during I/O.
        self._changed = threading.Condition()
        self._free = list(range(pool.slots - 1, -1, -1))
        self._running: dict[int, PooledJob] = {}
        #: Not given back yet, since the broker was out of reach.
        self._owed: list[Delivery] = []
        self._done = 0
        self._closing = False
        self._given_up = threading.Event()
        self._loops: dict[int, asyncio.AbstractEventLoop] = {}
        self._settler_thread = threading.Thread(
            target=self._settle_forever, name="umbel-settler", daemon=True
        )
        self._pulse = Pulse(consumer.source, board, self._settler_thread)

    # -- the consumer thread ------------------------------------------------------------------

    def run(self) -> None:
        """Consume until the consumer is told to stop, or the queues are empty in a burst."""
        self.pool.start()
        self._settler_thread.start()
        try:
            while not self._consumer.stopping.is_set():
                try:
                    if self._turn():
                        break
                except (Exception, SystemExit):
                    logger.exception("the worker met an error that is not a task's; it goes on")
                    self._consumer.stopping.wait(_MEND_S)
        finally:
            self._finish()

    def _turn(self) -> bool:
        """Receive and begin a batch; tell whether a burst is over."""
        consumer = self._consumer
        self._give_back()
        if self._quarantine:
            self._isolate()
            return False
        free = self._wait_for_slots()
        if not free:
            self._pulse.beat()
            return False
        consumer.source.reconcile(self._known())
        batch = self._pulse.receive(
            max_messages=min(free, _FETCH_MOST), wait_s=0.0 if self._burst else _WAIT_S
        )
        if not batch:
            return self._burst and self._is_idle() and not consumer.source.is_down
        if consumer.stopping.is_set():
            self._owed += batch
            return False
        consumer.refresh_revocations()
        jobs = consumer.intake.take(batch)
        if any(job.delivery.strikes for job in jobs):
            jobs = self._quarantine.keep(jobs, time.monotonic())
        self._submit(jobs)
        with self._changed:  # what was not to run waits for the settler
            self._changed.notify_all()
        return False

    def _wait_for_slots(self) -> int:
        """Return how many slots are free, after a wait for the first; 0: look again."""
        with self._changed:
            if not self._free or self._consumer.settler.backlog > MAX_BACKLOG:
                self._changed.wait(1.0)
            if self._consumer.settler.backlog > MAX_BACKLOG:
                return 0
            return len(self._free)

    def _isolate(self) -> None:
        """Begin what is to run alone once nothing else runs; nothing else begins meanwhile."""
        self._pulse.beat()
        with self._changed:
            if self._running:
                self._changed.wait(1.0)
            is_empty = not self._running
        if is_empty:
            job = self._quarantine.next()
            self._submit([job] if job is not None else [])
            return
        for job in self._quarantine.give_up(time.monotonic()):
            later = Rejected("it is to run alone", requeue=True, delay_s=patience_s(job))
            self._consumer.settler.add(Settlement(job.delivery, later, job, self.now()))
        with self._changed:
            self._changed.notify_all()  # the settler

    def _submit(self, jobs: Sequence[Job]) -> None:
        pooled = []
        with self._changed:
            # A broker that hands over more than it was asked for gets the rest back.
            self._owed += [job.delivery for job in jobs[len(self._free) :]]
            for job in jobs[: len(self._free)]:
                slot = self._free.pop()
                one = self._running[slot] = PooledJob(self, job, slot)
                pooled.append(one)
        if pooled:
            self.pool.submit(pooled)

    def _known(self) -> set[str]:
        with self._changed:
            held = {one.job.delivery.receipt for one in self._running.values()}
            held.update(job.delivery.receipt for job in self._quarantine.waiting)
        return held | self._consumer.settler.pending_receipts()

    def _is_idle(self) -> bool:
        with self._changed:
            if self._running or self._owed or self._consumer.settler.backlog:
                self._changed.wait(0.05)
                return False
            return True

    def _give_back(self) -> None:
        back, self._owed = self._owed, []
        if not self._consumer.give_back(back):
            self._owed += back
            self._consumer.stopping.wait(_AGAIN_S)

    def _finish(self) -> None:
        """Wait for what runs; how long is up to whoever stopped the lane (see `give_up`)."""
        self._owed += [job.delivery for job in self._quarantine.clear()]
        self._give_back()
        with self._changed:
            while self._running and not self._given_up.is_set():
                self._changed.wait(1.0)
        if not self._given_up.is_set():
            self._consumer.settler.drain(self._given_up)
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        self._settler_thread.join()
        self.watch.stop()
        if self.pool.stop(timeout_s=0.5):
            for loop in self._loops.values():
                loops.close(loop)

    # -- the threads or the loop of the pool --------------------------------------------------

    def begin(self, one: PooledJob) -> bool:
        """Note that `one` starts; False: it isn't to run after all, and its slot is free."""
        if self._given_up.is_set():
            return False  # it was given back already
        if not self._consumer.intake.may_begin(one.job):
            self._release(one)
            return False
        one.begun_at = time.monotonic()
        if self._board is not None:
            delivery = one.job.delivery
            name = delivery.receipt if self._by_receipt else slot_name(delivery.message)
            self._board.begin(one.slot, slot_key(name), one.begun_at, one.job.hard_limit_s)
        return True

    def finished(self, one: PooledJob, outcome: Outcome) -> None:
        """Take the outcome of `one`, and free its slot."""
        job = one.job
        settlement = Settlement(job.delivery, outcome, job, self.now(), job.early_ack)
        with self._changed:
            if self._running.get(one.slot) is not one:
                return  # it was given back already
            self._consumer.settler.add(settlement)
        try:
            if self._board is not None:
                self._board.end(one.slot)
            log_finished(job, outcome)
        finally:
            self._release(one)

    def broke(self, one: PooledJob, exc: BaseException) -> None:
        """Take note that `one` ended outside of the task's own code, and free its slot."""
        with self._changed:
            if self._running.get(one.slot) is not one:
                return
        logger.error("%s: failed outside of the task's own code", one.job.label, exc_info=exc)
        if one.begun_at is None:
            self.finished(one, Rejected("it could not be begun", requeue=True, delay_s=1.0))
        else:
            self.finished(one, Failure(error_info(exc)))

    def loop_of_thread(self) -> asyncio.AbstractEventLoop:
        """Return the event loop of the calling thread, the same for all its tasks."""
        ident = threading.get_ident()
        loop = self._loops.get(ident)
        if loop is None or loop.is_closed():
            loop = self._loops[ident] = asyncio.new_event_loop()
            asyncio.set_event_loop(loop)
        return loop

    def _release(self, one: PooledJob) -> None:
        with self._changed:
            if self._running.pop(one.slot, None) is not None:
                self._free.append(one.slot)
                if one.begun_at is not None:
                    self._done += 1
                    if self._board is not None:
                        self._board.count_done(self._done)
            self._changed.notify_all()
        is_worn = self._max_tasks is not None and self._done >= self._max_tasks
        if is_worn or (self._meter is not None and self._meter.is_over(time.monotonic())):
            if self._board is not None:
                self._board.set_retiring()
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

    def runs(self) -> list[Run]:
        """Return what runs now, for people. Takes no lock."""
        return [one.seen() for one in list(self._running.values())]

    def running(self) -> list[tuple[Job, float]]:
        """Return what runs, and since when (monotonic seconds)."""
        with self._changed:
            found = [(one.job, one.begun_at) for one in self._running.values()]
        return [(job, begun_at) for job, begun_at in found if begun_at is not None]

    def unstarted(self) -> list[Job]:
        """Return what is held and hasn't begun."""
        with self._changed:
            waiting = [one.job for one in self._running.values() if one.begun_at is None]
            return waiting + list(self._quarantine.waiting)

    @property
    def done(self) -> int:
        """How many tasks it has run."""
        return self._done

    def give_up(self) -> None:
        """Give back what runs, for a process that is about to end. The runs go on until then."""
        self._consumer.stop()
        settler = self._consumer.settler
        with self._changed:
            self._given_up.set()
            for one in self._running.values():
                has_begun = one.begun_at is not None
                settler.add(unfinished(one.job, self.now(), has_begun=has_begun))
            self._running.clear()
            self._changed.notify_all()
        settler.flush(force=True)

    # -- the settler thread -------------------------------------------------------------------

    def _settle_forever(self) -> None:
        while not self._closing:
            try:
                self._settle_turn()
            except Exception:
                logger.exception("the settler met an error that is not a task's; it goes on")
                time.sleep(_MEND_S)

    def _settle_turn(self) -> None:
        settler = self._consumer.settler
        with self._changed:
            if not settler.backlog and not self._closing:
                has_unmarked = any(not one.marked for one in self._running.values())
                self._changed.wait(_STARTED_AFTER_S if has_unmarked else None)
            if self._closing:
                return
            long_running = self._to_mark()
            is_busy = bool(self._running)
        if long_running:
            self._mark_started(long_running)
        if not settler.backlog:
            return
        if is_busy:
            time.sleep(_GATHER_S)
        is_settled = settler.flush()
        with self._changed:
            if is_settled:  # which a full lane waits for
                self._changed.notify_all()
            else:
                self._changed.wait(_AGAIN_S)

    def _to_mark(self) -> list[PooledJob]:
        """Return what has run for a while now. Called with the lock held."""
        due_at = time.monotonic() - _STARTED_AFTER_S
        found = [
            one
            for one in self._running.values()
            if not one.marked and one.begun_at is not None and one.begun_at <= due_at
        ]
        for one in found:
            one.marked = True
        return found

    def _mark_started(self, found: Sequence[PooledJob]) -> None:
        """Store that these run."""
        backend, planner = self._consumer.backend, self._consumer.planner
        try:
            stored = [planner.started(one.job, os.getpid()) for one in found]
            if backend is not None:
                backend.store([each for each in stored if each is not None])
        except Exception as exc:  # noqa: BLE001 - the tasks go on without the mark
            logger.debug("can't store that %d tasks started: %s", len(found), exc)
