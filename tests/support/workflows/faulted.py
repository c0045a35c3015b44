"""Workflows tried on workers that die, lose replies, and are handed messages twice."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any, Literal

from umbel import Umbel
from umbel.errors import BackendUnavailableError, BrokerUnavailableError
from umbel_testing import FakeClock, drain
from umbel_testing.draining import drainer_of
from umbel_testing.fault_effects import Call, crashing, losing_reply
from umbel_testing.faulty_handles import faults_in, without_faults
from workflows.building import Builder
from workflows.nodes import Node
from workflows.observing import differences
from workflows.tasks import Run, add_call

#: What goes wrong at a call: its process dies before or after it, with or without its node, its
#: reply is lost, or it isn't made and fails.
Fault = Literal[
    "crash before", "crash after", "node crash before", "node crash after", "lose reply", "fail"
]
FAULTS: tuple[Fault, ...] = Fault.__args__  # type: ignore[attr-defined]
#: Calls that change nothing: dying around one is like dying around its neighbours.
_READS = frozenset({"load", "get", "peek", "stats", "held", "queues", "size", "check", "scan"})
_CAPTURED = ("send", "settle")


class Faulted:
    """Tries workflows on an app with a clock of its own; its calls are numbered from 0.

    Args:
        **settings: Of the app.
    """

    def __init__(self, **settings: Any) -> None:
        settings = {"broker": "memory://faulted", "backend": "memory://faulted", **settings}
        self.clock = FakeClock()
        self.app = Umbel("faulted", clock=self.clock, worker_lease_s=5.0, **settings)
        self.runs: list[Run] = []
        add_call(self.app, self.runs.append)
        self._faults: dict[int, Fault] = {}
        self._calls: list[str] = []
        #: The calls that the last trial made: the handle and the step.
        self.made: list[str] = []
        #: Messages that the last trial sent.
        self.messages: list[Any] = []
        #: Faults that the last trial came to no call for.
        self.unmet: dict[int, Fault] = {}

    @contextmanager
    def opened(self) -> Iterator[None]:
        """Have the calls of all handles go through here, for the time of a block."""
        with faults_in(self.app) as faults:
            for each in (faults.broker, faults.backend, faults.coordinator):
                each.carry_out = partial(self._carry_out, each.name, each.carry_out)  # type: ignore[method-assign]
            self._double = faults.broker.deliver_twice
            self._clear = faults.clear
            yield

    def tried(self, node: Node, faults: dict[int, Fault], *, is_doubled: bool = False) -> list[str]:
        """Return in what way `node` didn't come to what it must, with `faults` at these calls.

        Args:
            node: The workflow.
            faults: By the number of the call, as a worker makes them.
            is_doubled: Deliver every message twice.
        """
        self.runs.clear()
        self.messages.clear()
        self._faults = {}
        result = Builder(self.app).build(node).apply_async()
        self._calls, self._faults = [], dict(faults)
        if is_doubled:
            self._double(times=1_000_000)
        try:
            self.finish()
        finally:
            self._clear()
            self.unmet, self._faults = self._faults, {}
            self.made = list(self._calls)
        return [*self._left(), *differences(self.app, node, result, self.runs, is_once=False)]

    def repeated(self) -> list[str]:
        """Send again all messages that the last trial sent, and say what is wrong then."""
        before = {(run.task_id, run.tag, run.input) for run in self.runs}
        without_faults(self.app.broker).send(list(self.messages))
        self.finish()
        after = {(run.task_id, run.tag, run.input) for run in self.runs}
        return [*self._left(), *(f"ran of a repeat: {run}" for run in sorted(after - before))]

    def finish(self) -> None:
        """Drain until nothing is due any more, however late."""
        drain(self.app)
        while True:
            at = drainer_of(self.app).next_at()
            if at is not None:
                self.clock.advance(max(at - self.clock.time(), 0.0) + 0.001)
            elif not drain(self.app):  # a node that leaves gives back what it held unknowingly
                return
            drain(self.app)

    def _left(self) -> Iterator[str]:
        broker = without_faults(self.app.broker)
        for queue in broker.queues():
            stats = broker.stats(queue)
            if (stats.ready, stats.held, stats.delayed, stats.dead) != (0, 0, 0, 0):
                yield f"queue {queue!r} isn't empty: {stats}"
                broker.purge(queue)

    def _carry_out(self, name: str, inner: Callable[[Call], Any], call: Call) -> Any:
        if name == "broker" and call.step in _CAPTURED:
            self.messages += call.args[-1]
        number = len(self._calls)
        self._calls.append(f"{name}.{call.step}")
        fault = self._faults.pop(number, None)
        if fault is None:
            return inner(call)
        return _effect(fault, name, self._calls[-1])(call)

    def close(self) -> None:
        """Free what it has."""
        self.app.close()


def worth_trying(calls: list[str]) -> Iterator[tuple[int, Fault]]:
    """Go through all faults at all calls that a trial has made."""
    for number, call in enumerate(calls):
        is_read = call.rpartition(".")[2] in _READS
        for fault in FAULTS:
            if not is_read or fault == "fail":
                yield number, fault


def _effect(fault: Fault, name: str, where: str) -> Callable[[Call], Any]:
    error_type = BrokerUnavailableError if name == "broker" else BackendUnavailableError
    error = error_type(f"{where}: the test says so")
    match fault:
        case "lose reply":
            return losing_reply(error)
        case "fail":
            return partial(_failing, error)
    when: Any = fault.rpartition(" ")[2]
    return crashing(when, where, node=fault.startswith("node"))


def _failing(error: Exception, _call: Call) -> Any:
    raise error
