"""Draining: all that is due now is run here, in this thread, by a worker's own code.

    add.delay(2, 3)
    [run] = drain(app)
    assert run.value == 5

Nothing waits: what is due later stays where it is. With a `FakeClock`, `drain_on_advance` runs
each task at its due time as the clock passes that.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, cast
from weakref import WeakKeyDictionary

from umbel.errors import ConfigError, UmbelError
from umbel.interfaces.broker import Capability
from umbel.messages import Message
from umbel.worker.requirements import queues_of
from umbel_testing.clock import FakeClock
from umbel_testing.fault_effects import Call, Crash
from umbel_testing.faulty_handles import FaultyBroker, without_faults
from umbel_testing.stepping import StepNode, StepProcess, TaskRun, run_of

if TYPE_CHECKING:
    from umbel import Umbel
    from umbel.interfaces.broker import Broker
    from umbel.worker.host import Host

#: Runs that one drain makes at most, unless it is told another number.
LIMIT = 10_000
#: How often a drain asks a broker or backend that fails, without a pause.
_TRIES = 20
#: Seconds after which what couldn't be settled is due again.
_AGAIN_S = 1.0
_PEEK = 500


class EndlessDrainError(UmbelError, AssertionError):
    """A drain ran more tasks than it may: they seem to send each other for ever."""


class Drainer:
    """Drains the queues of one app; keeps from one drain to the next what an outage holds up."""

    def __init__(self, app: Umbel):
        self._app = app
        self._host = cast("Host", _NotingHost(app, self._note_due))
        self._node: StepNode | None = None
        self._process: StepProcess | None = None
        self._queues: list[str] = []
        #: Unix seconds at which something becomes due, of what no message says it.
        self._due: list[float] = []

    def drain(
        self,
        *,
        queues: Sequence[str] | None = None,
        raise_errors: bool = False,
        limit: int = LIMIT,
    ) -> list[TaskRun]:
        """Run what is due; see the function `drain`."""
        self._app.import_tasks()
        runs: list[TaskRun] = []
        try:
            for some in self._turns(self._wanted(queues)):
                runs += some
                if raise_errors:
                    _raise_first(some)
                if len(runs) > limit:
                    raise EndlessDrainError(
                        f"{len(runs)} runs in one drain, the last of {runs[-1].name!r}, and there "
                        "is more; do tasks send each other for ever? (else raise limit=)"
                    )
        finally:
            self._rest()
        return runs

    def next_at(self) -> float | None:
        """Return when something is due that isn't now (unix seconds); None: nothing is."""
        now, broker = self._app.clock.time(), without_faults(self._app.broker)
        self._due = [at for at in self._due if at > now]
        times = [
            message.due_at
            for queue in self._wanted(None)
            for message in peek_all(broker, queue)
            if message.due_at is not None and message.due_at > now
        ]
        return min([*self._due, *times], default=None)

    def close(self) -> None:
        """End it, and give back what it holds. Repeatable."""
        node, self._node, self._process = self._node, None, None
        if node is not None:
            node.leave()

    # -- its worker -----------------------------------------------------------------------------

    def _wanted(self, queues: Sequence[str] | None) -> list[str]:
        if queues is not None:
            return list(queues)
        found = queues_of(self._app.conf, None, ())
        broker = without_faults(self._app.broker)
        if Capability.INSPECT in broker.capabilities:
            found += [each for each in broker.queues() if each not in found]
        return found

    def _turns(self, queues: list[str]) -> Iterator[list[TaskRun]]:
        """Take one delivery after the other, until there is none or everything fails."""
        if self._queues != queues:
            self.close()
            self._queues = queues
        tries = 0
        has_beaten = False
        while tries < _TRIES:
            runs: list[TaskRun] = []
            try:
                if self._node is None:
                    self._node = StepNode(self._host, queues)
                if not has_beaten:
                    self._node.beat()
                    has_beaten = True
                is_done, has_moved = self._turn(self._node, runs)
            except Crash as crash:
                self._mourn(crash, runs)
                is_done, has_moved, has_beaten = False, True, False
            yield runs
            if is_done:
                return
            tries = 0 if has_moved else tries + 1

    def _turn(self, node: StepNode, runs: list[TaskRun]) -> tuple[bool, bool]:
        """Take one delivery; return whether nothing is left, and whether anything came."""
        process = self._process
        if process is None:
            process = self._process = node.start_process()
        # What is settled late may send more, and what is recovered comes again.
        is_behind = bool(process.consumer.settler.backlog) or not node.recovery.is_done
        batch = process.receive()
        for job in process.take(batch):
            run = process.run(job)
            if run is not None:
                runs.append(run)
        is_settled = process.settle()
        runs += process.take_dropped()
        if not node.recovery.is_done:
            node.recovery.run()
        is_idle = not batch and not is_behind and not process.consumer.source.is_down
        return is_idle and is_settled and node.recovery.is_done, bool(batch)

    def _mourn(self, crash: Crash, runs: list[TaskRun]) -> None:
        """Do what happens when a process dies: its supervisor recovers what it held, if it can."""
        now, process = self._app.clock.time(), self._process
        self._process = None
        if process is not None and process.current is not None:
            runs.append(run_of(process.current, None, crash, now))
        node = self._node
        if node is None:
            return
        if process is not None and not crash.node:
            try:
                node.bury(process)
                return
            except Crash:  # the supervisor, too
                pass
        self._node = None
        self._note_due(now + node.identity.lease_s)
        node.close()

    def _rest(self) -> None:
        """End the worker between two drains, unless there is something that only it knows."""
        node, process = self._node, self._process
        if node is None:
            return
        if node.recovery.is_done and (process is None or not process.consumer.settler.backlog):
            try:
                self.close()
            except Crash:
                node.close()
        else:
            self._note_due(self._app.clock.time() + _AGAIN_S)

    def _note_due(self, at: float) -> None:
        self._due.append(at)


class _NotingHost:
    """An app whose brokers tell when something that is given back becomes due again."""

    def __init__(self, app: Umbel, note: Callable[[float], None]):
        self._app, self._note = app, note

    def __getattr__(self, name: str) -> Any:
        return getattr(self._app, name)

    def open_broker(self) -> Broker:
        return cast("Broker", FaultyBroker(self._app.open_broker(), self))

    def carry_out(self, call: Call) -> Any:
        """Make `call`, and note the delays that it asks for."""
        answer = call()
        delays: Iterable[float] = ()
        if call.step == "nack":
            delays = [call.kwargs.get("delay_s", 0.0)]
        elif call.step == "recover_consumer":
            delays = call.kwargs.get("struck", {}).values()
        now = self._app.clock.time()
        for delay_s in delays:
            if delay_s > 0:
                self._note(now + delay_s)
        return answer


_DRAINERS: WeakKeyDictionary[Umbel, Drainer] = WeakKeyDictionary()


def drainer_of(app: Umbel) -> Drainer:
    """Return the drainer of `app`, made at its first use."""
    found = _DRAINERS.get(app)
    if found is None:
        found = _DRAINERS[app] = Drainer(app)
    return found


def drain(
    app: Umbel,
    *,
    queues: Sequence[str] | None = None,
    raise_errors: bool = False,
    limit: int = LIMIT,
) -> list[TaskRun]:
    """Run all that is due now, in this thread, and what follows from it; return what ran.

    Messages are decoded, admitted, executed and settled by the code of a real worker, one at a
    time, so it works on any broker. A process that dies (`Crash`) is replaced: what it ran gets a
    strike and comes again, its time permitting. What an outage holds up waits for a later drain.

    Args:
        app: The app.
        queues: Which queues; None: those of a worker, and all others that the broker knows.
        raise_errors: Raise the exception of the first task that fails, once that is settled;
            what is due after it stays enqueued.
        limit: How many runs there may be.
    Returns: What ran, in order, and what was dropped unrun (revoked, expired …).
    Raises: EndlessDrainError: there were more than `limit`.
    """
    return drainer_of(app).drain(queues=queues, raise_errors=raise_errors, limit=limit)


@contextmanager
def drain_on_advance(app: Umbel, *, raise_errors: bool = False) -> Iterator[list[TaskRun]]:
    """Let the app's clock run what is due, at its due time, wherever ``clock.advance`` passes it.

    Args:
        app: The app; its clock is a `FakeClock`.
        raise_errors: Let ``clock.advance`` raise what a task raises.
    Returns: A list that fills with what ran.
    Raises: ConfigError: the app's clock can't be advanced.
    """
    clock = app.clock
    if not isinstance(clock, FakeClock):
        raise ConfigError(
            f"tasks run as the clock advances only where that is a FakeClock, not {clock!r}; ask "
            "for the fixture umbel_clock, or give the app clock=FakeClock()"
        )
    drainer, runs = drainer_of(app), list[TaskRun]()

    def run() -> None:
        runs.extend(drainer.drain(raise_errors=raise_errors))

    detach = clock.attach(run, drainer.next_at)
    try:
        yield runs
    finally:
        detach()


def peek_all(broker: Broker, queue: str) -> Iterator[Message]:
    """Go through the readable messages that wait in `queue`, the delayed ones last."""
    offset = 0
    while page := broker.peek(queue, limit=_PEEK, offset=offset):
        yield from (each for each in page if isinstance(each, Message))
        offset += len(page)


def _raise_first(runs: Iterable[TaskRun]) -> None:
    for run in runs:
        if run.state == "FAILURE" and run.error is not None:
            raise run.error
