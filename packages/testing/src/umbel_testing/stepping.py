"""A worker without threads or processes: each of its steps is called by hand, in this thread.

What decodes, admits, executes, settles and recovers is the worker's own code. Only the loop around
it is another one, so that a test, or a simulation, decides what happens when.
"""

from __future__ import annotations

import logging
import os
import random
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import msgspec

from umbel.messages import Delivery
from umbel.outcomes import (
    Failure,
    Ignored,
    Outcome,
    Rejected,
    Replaced,
    Retry,
    Revoked,
    Success,
)
from umbel.worker.board import Board, slot_key
from umbel.worker.consumer import Consumer
from umbel.worker.eager import run_coroutine
from umbel.worker.execute import run_for_value
from umbel.worker.identity import Identity
from umbel.worker.jobs import Job, Settlement
from umbel.worker.limits import DeadlineWatch, ThreadGuard
from umbel.worker.node import Node
from umbel.worker.planning import Planner
from umbel.worker.recovery import DeadChild, Recovery
from umbel.worker.report import log_finished
from umbel.worker.settle import Settler

if TYPE_CHECKING:
    from umbel.worker.host import Host

logger = logging.getLogger("umbel.worker")

#: How a process that a test killed has ended: by SIGKILL.
_KILLED = -9
#: A board takes 0 for "idle", and a virtual clock may stand there.
_TICK_S = 1e-9
_STATES: dict[type[Any], str] = {
    Success: "SUCCESS",
    Failure: "FAILURE",
    Retry: "RETRY",
    Rejected: "REJECTED",
    Revoked: "REVOKED",
    Ignored: "IGNORED",
    Replaced: "REPLACED",
}


class TaskRun(msgspec.Struct, frozen=True, kw_only=True):
    """What came of one delivery of a task."""

    name: str
    id: str
    args: list[Any]
    kwargs: dict[str, Any]
    queue: str
    #: ``SUCCESS``, ``FAILURE``, ``RETRY``, ``REJECTED``, ``REVOKED``, ``IGNORED``, ``REPLACED``;
    #: ``CRASHED`` where its process died.
    state: str
    #: The same with all that is known; None where its process died.
    outcome: Outcome | None
    #: What it returned; None unless it succeeded.
    value: Any = None
    #: What it raised.
    error: BaseException | None = None
    #: How many times it had been retried before.
    retries: int = 0
    #: False: it was only taken out of its queue, being expired, revoked or the like.
    has_run: bool = True
    #: Unix seconds.
    at: float = 0.0


class StepProcess:
    """One consuming process of a worker."""

    def __init__(
        self,
        host: Host,
        identity: Identity,
        queues: Sequence[str],
        *,
        pause: Callable[[float], object] = lambda _seconds: None,
        jitter: Callable[[], float] = random.random,
    ):
        """Start it: it has handles and a board of its own, and holds nothing.

        Args:
            host: The app.
            identity: Who it is.
            queues: What it consumes.
            pause: What a pause in an outage of the broker is.
            jitter: Returns a number from 0 to below 1.
        """
        self._host = host
        self.board = Board.create(1)
        self.consumer = Consumer(
            host, identity, queues, board=self.board, pause=pause, jitter=jitter
        )
        #: What was settled without running it, since `take_dropped`.
        self._dropped: list[Settlement] = []
        self._add = self.consumer.settler.add
        self.consumer.settler.add = self._note  # type: ignore[method-assign]
        self._watch = DeadlineWatch()
        #: What it runs, or was running when it died.
        self.current: Job | None = None

    def _note(self, settlement: Settlement) -> bool:
        self._dropped.append(settlement)
        return self._add(settlement)

    # -- its steps ------------------------------------------------------------------------------

    def receive(self, max_messages: int = 1) -> list[Delivery]:
        """Receive without waiting."""
        consumer = self.consumer
        consumer.source.reconcile(consumer.settler.pending_receipts())
        return list(consumer.source.receive(max_messages=max_messages, wait_s=0.0))

    def take(self, deliveries: Sequence[Delivery]) -> list[Job]:
        """Decode and admit; what isn't to run is settled with the next `settle`."""
        self.consumer.revocations.changed()
        self.consumer.refresh_revocations()
        return self.consumer.intake.take(deliveries)

    def run(self, job: Job) -> TaskRun | None:
        """Run one job; None: it isn't to run, after all."""
        self.current = job
        if not self.consumer.intake.may_begin(job):
            self.current = None
            return None
        begun_at = max(self._host.clock.monotonic(), _TICK_S)
        self.board.begin(0, slot_key(job.delivery.receipt), begun_at, None)
        outcome, value = self._outcome_of(job)
        if isinstance(value, KeyboardInterrupt):
            raise value  # Ctrl-C is meant for the tests, not for the task
        now = self._host.clock.time()
        self._add(Settlement(job.delivery, outcome, job, now, job.early_ack))
        self.board.end(0)
        self.current = None
        log_finished(job, outcome)
        return run_of(job, outcome, value, now)

    def settle(self) -> bool:
        """Settle what is finished; False: not all of it, since a store is out of reach."""
        return self.consumer.settler.flush(force=True)

    def take_dropped(self) -> list[TaskRun]:
        """Return what came out of the queue without being run, since the last look."""
        dropped, self._dropped = self._dropped, []
        return [
            run_of(each.job, each.outcome, None, each.done_at, has_run=False)
            for each in dropped
            if each.job is not None and not _is_given_back(each.outcome)
        ]

    def _outcome_of(self, job: Job) -> tuple[Outcome, Any]:
        if job.hard_limit_s is not None:
            # Nobody could end this process: a hard limit acts as a soft one.
            limits = (job.hard_limit_s, job.soft_limit_s)
            soft = min(each for each in limits if each is not None)
            job = msgspec.structs.replace(job, soft_limit_s=soft, hard_limit_s=None)
        if job.runner.is_coroutine:
            return run_coroutine(job, self._host)
        return run_for_value(job, ThreadGuard(self._watch), self._host.clock.time)

    # -- its end --------------------------------------------------------------------------------

    def close(self) -> None:
        """End it in order: what it holds and hasn't run is given back with its node's lease."""
        self.board.set_ended()
        self.consumer.close()
        self.forget()

    def forget(self) -> None:
        """Free what a dead one has left in this process, and tell nobody."""
        self._watch.stop()
        self.board.close()


class StepNode:
    """One worker node: its lease, and what its supervisor does about dead processes."""

    def __init__(self, host: Host, queues: Sequence[str], *, hostname: str = "drain@tests"):
        """Join the broker. Raises: BrokerError: it refuses."""
        self._host, self._queues = host, list(queues)
        self.identity = Identity(
            node=host.new_id(), consumer="", hostname=hostname, lease_s=host.conf.worker_lease_s
        )
        self.broker, self.backend = host.open_broker(), host.open_backend()
        planner = Planner(host, hostname)
        self.settler = Settler(host, self.broker, self.backend, planner=planner)
        self.coordinator = host.open_coordinator()
        self.recovery = Recovery(
            host,
            hostname,
            broker=self.broker,
            settler=self.settler,
            coordinator=self.coordinator,
        )
        self._lease = (0.0, 0.0)
        self._processes: list[StepProcess] = []
        self._started = 0
        self.node = Node(
            self.identity,
            broker=self.broker,
            backend=self.backend,
            coordinator=None,
            on_lease=self._set_lease,
            on_control=lambda _message: None,
            clock=host.clock,
        )
        self.node.join()

    def beat(self) -> None:
        """Renew the lease, look for dead nodes, and recover what dead processes held."""
        self.node.beat()
        self.recovery.run()

    def start_process(self, **options: Any) -> StepProcess:
        """Start a process of this node. Raises: BrokerError: the broker refuses."""
        self._started += 1
        who = msgspec.structs.replace(
            self.identity, consumer=f"{self.identity.node}/{self._started}"
        )
        process = StepProcess(self._host, who, self._queues, **options)
        process.board.set_lease(*self._lease)
        self._processes.append(process)
        return process

    def bury(self, process: StepProcess) -> None:
        """Recover what a dead process held: finished, running, or neither."""
        self._processes.remove(process)
        board = process.board
        self.recovery.add(
            DeadChild(
                consumer=process.consumer.identity.consumer,
                pid=os.getpid(),
                exitcode=_KILLED,
                running=frozenset(slot.key for slot in board.running()),
                journal={entry.receipt: entry for entry in board.journal()},
                doomed={},
                was_spared=board.has_ended,
                died_at=self._host.clock.time(),
            )
        )
        process.forget()
        self.recovery.run()

    def leave(self) -> None:
        """End it in order, with its processes."""
        for process in self._processes:
            process.close()
        self._processes.clear()
        self.node.leave()
        self.close()

    def close(self) -> None:
        """Free its handles, and tell nobody."""
        for process in self._processes:
            process.forget()
        self._processes.clear()
        for handle in (self.broker, self.backend, self.coordinator):
            if handle is not None:
                handle.close()

    def _set_lease(self, since: float, until: float) -> None:
        self._lease = (since, until)
        for process in self._processes:
            process.board.set_lease(since, until)


def run_of(
    job: Job, outcome: Outcome | None, value: Any, at: float, *, has_run: bool = True
) -> TaskRun:
    """Return what is told of a job; without an outcome, its process died with `value`."""
    request = job.request
    is_error = isinstance(value, BaseException) and not isinstance(outcome, Success)
    return TaskRun(
        name=request.task or "",
        id=request.id or "",
        args=list(request.args),
        kwargs=request.kwargs,
        queue=job.delivery.queue,
        state="CRASHED" if outcome is None else _STATES[type(outcome)],
        outcome=outcome,
        value=None if is_error else value,
        error=value if is_error else None,
        retries=request.retries,
        has_run=has_run,
        at=at,
    )


def _is_given_back(outcome: Outcome) -> bool:
    return isinstance(outcome, Rejected) and outcome.requeue
