"""The fast path: one thread receives a batch, runs it, and settles it as a batch.

A helper thread acts only when a task takes longer than a few milliseconds: it settles what is
finished, gives the unstarted messages back so that a long task never sits on short ones, and
notes that the task is running.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections import deque
from collections.abc import Sequence
from typing import TYPE_CHECKING

from umbel.error_info import error_info
from umbel.outcomes import Failure, Outcome
from umbel.worker.board import Board, slot_key
from umbel.worker.dumps import Run
from umbel.worker.execute import run_sync
from umbel.worker.jobs import Job, Settlement
from umbel.worker.limits import MainThreadGuard
from umbel.worker.report import log_finished
from umbel.worker.slot_names import slot_name
from umbel.worker.solo_loop import SoloLoop
from umbel.worker.unfinished import unfinished
from umbel.worker.watchdog import Pulse

if TYPE_CHECKING:
    from umbel.messages import Delivery, Message
    from umbel.worker.consumer import Consumer
    from umbel.worker.limits import ThreadGuard
    from umbel.worker.memory import MemoryMeter

logger = logging.getLogger("umbel.worker")

#: A finished outcome waits at most this long for company.
SETTLE_AFTER_S = 0.005
#: The helper looks this often: a task that stands at two looks is a long one.
LOOK_EVERY_S = 0.005
#: … and this often at a task that it has relieved already.
_LOOK_AGAIN_EVERY_S = 0.05
#: Looks without any task after which it sleeps until it is woken, which costs a batch more.
_IDLE_LOOKS = 20
#: Seconds that a receive waits in the broker.
_WAIT_S = 5.0
_WAIT_WITH_BACKLOG_S = 0.2
#: Seconds to wait after an error that should not have been.
_MEND_S = 0.5
#: Seconds between two tries to give back what the broker didn't take.
_OWED_AGAIN_S = 0.2
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
        meter: MemoryMeter | None = None,
    ):
        """Run on the thread that calls `run`.

        Args:
            consumer: Whose deliveries to run.
            guard: How a soft limit reaches a task.
            board: What is shared with a supervisor; None: there is none.
            burst: End when the queues are empty.
            max_tasks: End after so many; None: don't.
            meter: Tells when the process has grown so large that it is to end; None: never.
        """
        self._consumer, self._guard, self._board, self._burst = consumer, guard, board, burst
        self._max_tasks, self._meter = max_tasks, meter
        self._by_receipt = consumer.by_receipt
        #: Guards what is unstarted, owed and current. Never held during I/O.
        self._lock = threading.Lock()
        self._unstarted: deque[Job] = deque()
        #: Received while the batch before was settled.
        self._fetched: Sequence[Delivery] = ()
        #: Not given back yet, since the broker was out of reach.
        self._owed: list[Delivery] = []
        self._owed_until = 0.0
        self._current: Job | None = None
        #: Whether the current one was begun, and not only chosen.
        self._has_begun = False
        #: Since when (monotonic seconds) it runs, where no board says so.
        self._begun_at = 0.0
        self._thread = 0
        #: Counts the jobs begun: the helper tells by it whether a task is still the same.
        self._begun = 0
        self._done = 0
        self._works = False  # whether tasks are run
        self._busy = threading.Event()  # wakes the helper for that
        self._closed = False
        self._given_up = threading.Event()
        self._relieved = -1
        self._loop = SoloLoop(consumer.host.clock.time)
        self._helper = threading.Thread(target=self._help, name="umbel-helper", daemon=True)
        self._pulse = Pulse(consumer.source, board, self._helper)

    # -- the main thread ----------------------------------------------------------------------

    def run(self) -> None:
        """Consume until the consumer is told to stop, or the queues are empty in a burst."""
        self._thread = threading.get_ident()
        self._helper.start()
        try:
            while not self._consumer.stopping.is_set():
                try:
                    if self._turn():
                        break
                except (Exception, SystemExit):
                    logger.exception("the worker met an error that is not a task's; it goes on")
                    self._mend()
        finally:
            self._finish()

    def _turn(self) -> bool:
        """Receive and run a batch; tell whether a burst is over."""
        consumer, settler = self._consumer, self._consumer.settler
        self._give_back()
        fetched = self._fetched
        held = [one.receipt for one in fetched]
        consumer.source.reconcile(settler.pending_receipts().union(held))
        if fetched:
            self._work(fetched)
            return False
        if settler.backlog > MAX_BACKLOG:
            self._pulse.beat()
            settler.flush()
            consumer.stopping.wait(_WAIT_WITH_BACKLOG_S)
            return False
        wait_s = _WAIT_WITH_BACKLOG_S if settler.backlog or self._owed else _WAIT_S
        wait_s = 0.0 if self._burst else wait_s
        batch = self._pulse.receive(max_messages=consumer.prefetch.size, wait_s=wait_s)
        if batch:
            self._work(batch)
            return False
        is_clear = settler.flush() and not (self._owed or consumer.source.is_down)
        if self._burst and not is_clear:
            consumer.stopping.wait(_WAIT_WITH_BACKLOG_S)
        return self._burst and is_clear

    def _work(self, batch: Sequence[Delivery]) -> None:
        consumer = self._consumer
        consumer.refresh_revocations()
        jobs = consumer.intake.take(batch)
        with self._lock:
            self._unstarted.extend(jobs)
            self._fetched = ()
        self._works = True
        if not self._busy.is_set():  # the helper is awake for a while after the last batch
            self._busy.set()
        began = time.monotonic()
        first_finished: float | None = None
        passed = ran = size = 0
        while (job := self._next()) is not None:
            if consumer.intake.may_begin(job):
                self._run_one(job)
                ran += 1
                size += len(getattr(job.delivery.message, "body", b""))
            else:
                passed += 1
                self._current = None
            now = time.monotonic()
            if first_finished is None:
                first_finished = now
            elif now - first_finished >= SETTLE_AFTER_S:
                consumer.settler.flush()
                self._weigh(now)
                first_finished = None
        now = time.monotonic()
        self._weigh(now)
        if ran + passed:
            consumer.prefetch.observe(ran + passed, now - began, size)
        consumer.settler.flush(settle=self._settle)
        self._works = False

    def _settle(
        self, deliveries: Sequence[Delivery], follow_ups: Sequence[Message]
    ) -> Sequence[Delivery]:
        """Settle; where the next thing would be to receive, do that in the same exchange."""
        consumer = self._consumer
        is_down = consumer.source.is_down or consumer.settler.outage is not None
        if consumer.stopping.is_set() or is_down or self._fetched or self._owed:
            return consumer.broker.settle(deliveries, follow_ups)
        size = consumer.prefetch.size
        lost, self._fetched = self._pulse.settle_and_receive(deliveries, follow_ups, size)
        return lost

    def _next(self) -> Job | None:
        with self._lock:
            if self._unstarted and not self._consumer.stopping.is_set():
                self._current = job = self._unstarted.popleft()
                self._begun += 1
                self._has_begun = False
                return job
            self._owe_unstarted()
        self._give_back()
        return None

    def _run_one(self, job: Job) -> None:
        board, settler = self._board, self._consumer.settler
        if not self._by_receipt and job.delivery.redelivered:
            settler.flush()  # it may kill the process again, and what is finished would run again
        self._has_begun = True
        if board is not None:
            delivery = job.delivery
            name = delivery.receipt if self._by_receipt else slot_name(delivery.message)
            board.begin(0, slot_key(name), time.monotonic(), job.hard_limit_s)
        else:
            self._begun_at = time.monotonic()
        outcome = self._outcome_of(job)
        settlement = Settlement(
            job.delivery, outcome, job, self._consumer.host.clock.time(), job.early_ack
        )
        with self._lock:
            self._current = None
            # What was given up is given back already.
            has_room = self._given_up.is_set() or settler.add(settlement)
        self._done += 1
        if board is not None:
            board.end(0)
            board.count_done(self._done)
        if self._max_tasks is not None and self._done >= self._max_tasks:
            self._retire()
        log_finished(job, outcome)
        if not has_room:
            settler.flush()

    def _weigh(self, now: float) -> None:
        """Make room for a fresh process where this one has grown too large."""
        if self._meter is not None and self._meter.is_over(now):
            self._retire()

    def _retire(self) -> None:
        """Begin nothing more, for a successor to take over."""
        if self._board is not None:
            self._board.set_retiring()
        self._consumer.stop()

    def _outcome_of(self, job: Job) -> Outcome:
        try:
            if job.runner.is_coroutine:
                return self._loop.run(job)
            return run_sync(job, self._guard, self._consumer.host.clock.time)
        except BaseException as exc:
            logger.exception("%s: failed outside of the task's own code", job.label)
            return Failure(error_info(exc))

    def _mend(self) -> None:
        """Go on after an error that should not have been: one of a plugin, or of umbel's own."""
        with self._lock:
            self._current = None
            self._owe_unstarted()
        self._works = False
        if self._board is not None:
            self._board.end(0)
        self._give_back()
        self._consumer.stopping.wait(_MEND_S)

    def _finish(self) -> None:
        self._closed = True
        self._busy.set()
        self._helper.join()
        with self._lock:
            self._owe_unstarted()
        self._give_back()
        if not self._given_up.is_set():
            self._consumer.settler.drain(self._given_up)
        self._loop.close()

    # -- from other threads -------------------------------------------------------------------

    def stop(self) -> None:
        """Begin nothing more; what is unstarted is given back."""
        self._consumer.stop()

    def interrupt(self, error: type[BaseException]) -> None:
        """Raise `error` in the task that runs now, if one does."""
        if not self._loop.interrupt(error) and self._current is not None:
            self._guard.interrupt(error)

    def runs(self) -> list[Run]:
        """Return what runs now, for people. Takes no lock."""
        job, task = self._current, self._loop.task
        if job is None:
            return []
        begun = next(self._board.running(), None) if self._board is not None else None
        return [
            Run(
                slot=0,
                label=job.label,
                begun_at=begun.begun_at if begun is not None else None,
                thread=self._thread,
                task=task,
                loop=self._loop.loop,
            )
        ]

    def running(self) -> list[tuple[Job, float]]:
        """Return what runs, and since when (monotonic seconds): for a node without a board."""
        job, begun_at = self._current, self._begun_at
        return [(job, begun_at)] if job is not None and self._has_begun else []

    def unstarted(self) -> list[Job]:
        """Return what is held and hasn't begun."""
        with self._lock:
            return list(self._unstarted)

    @property
    def done(self) -> int:
        """How many tasks it has run."""
        return self._done

    def give_up(self) -> None:
        """Give back what runs, for a process that is about to end. The run goes on until then."""
        self._consumer.stop()
        with self._lock:
            self._given_up.set()
            job, self._current = self._current, None
        if job is not None:
            now = self._consumer.host.clock.time()
            self._consumer.settler.add(unfinished(job, now, has_begun=self._has_begun))
        self._consumer.settler.flush(force=True)
        self._give_back()

    # -- the helper thread --------------------------------------------------------------------

    def _help(self) -> None:
        idle = 0
        while True:
            self._busy.wait()
            if self._closed:
                return
            seen = self._begun
            time.sleep(LOOK_EVERY_S if self._relieved != seen else _LOOK_AGAIN_EVERY_S)
            idle = 0 if self._works else idle + 1
            if idle > _IDLE_LOOKS:
                idle = 0
                self._busy.clear()
                if self._works or self._closed:  # just now
                    self._busy.set()
            if self._begun == seen and self._current is not None:
                try:
                    self._relieve(seen)
                except Exception:
                    logger.exception("the helper met an error that is not a task's; it goes on")

    def _relieve(self, seen: int) -> None:
        """Do for a main thread that is held up what it would have done between tasks."""
        with self._lock:
            job = self._current
            if self._begun != seen or job is None:
                return
            self._owe_unstarted()
        self._give_back()
        if self._relieved != seen:
            self._relieved = seen
            self._mark_started(job)
        self._consumer.settler.flush()

    def _mark_started(self, job: Job) -> None:
        backend = self._consumer.backend
        try:
            stored = self._consumer.planner.started(job, os.getpid())
            if backend is not None and stored is not None:
                backend.store([stored])
        except Exception as exc:  # noqa: BLE001 - the task goes on without the mark
            logger.debug("%s: can't store that it started: %s", job.label, exc)

    # -- giving back --------------------------------------------------------------------------

    def _owe_unstarted(self) -> None:
        """Begin none of what is unstarted. Called with the lock held."""
        self._owed += [job.delivery for job in self._unstarted]
        self._owed += self._fetched
        self._unstarted.clear()
        self._fetched = ()

    def _give_back(self) -> None:
        """Give back what won't be begun here; what can't be now is tried again later."""
        if not self._owed or time.monotonic() < self._owed_until:
            return
        with self._lock:
            back, self._owed = self._owed, []
        if not self._consumer.give_back(back):
            self._owed_until = time.monotonic() + _OWED_AGAIN_S
            with self._lock:
                self._owed += back
