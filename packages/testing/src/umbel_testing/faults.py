"""Faults on demand: what breaks in production, made to break at one step of a test.

    def test_customer_is_charged_once(umbel_queue, umbel_faults):
        umbel_faults.backend.lose_reply("store")       # stored, and the worker isn't told
        umbel_faults.broker.crash("before", "settle")  # the process dies with the task unsettled
        charge.delay(7)
        umbel_queue.drain()

A step is a method of the broker, the backend or the coordinator, by its name in the contract:
`send`, `receive`, `settle`, `store` … A fault waits for the next such call of anybody in the app.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from datetime import timedelta
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from umbel.errors import BackendUnavailableError, BrokerUnavailableError, near_matches
from umbel.interfaces.backend import Backend
from umbel.interfaces.broker import Broker
from umbel.interfaces.coordinator import Coordinator
from umbel_testing.clock import seconds_of
from umbel_testing.fault_effects import (
    Call,
    Effect,
    When,
    crashing,
    delivering_twice,
    failing,
    losing_reply,
    steps_of,
)

if TYPE_CHECKING:
    from umbel.clock import Clock


class Outage:
    """A time without the broker or backend; as a context manager, it ends with the block."""

    def __init__(self, clock: Clock, seconds: float) -> None:
        self._clock = clock
        self._until = clock.monotonic() + seconds

    @property
    def is_on(self) -> bool:
        """Whether it lasts still, by the app's clock."""
        return self._clock.monotonic() < self._until

    def end(self) -> None:
        """End it now. Repeatable."""
        self._until = float("-inf")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        _kind: type[BaseException] | None,
        _error: BaseException | None,
        _traceback: TracebackType | None,
    ) -> None:
        self.end()


class _Rule:
    """A fault that waits for its step."""

    def __init__(self, what: str, steps: Iterable[str], effect: Effect, times: int, skip: int):
        self.what, self.steps, self.effect = what, frozenset(steps), effect
        self.times, self.skip = times, skip


class HandleFaults:
    """The faults of one kind of handle: of the broker, the backend or the coordinator."""

    def __init__(self, name: str, contract: type[Any], error: type[Exception], clock: Clock):
        """`error`: what a caller gets while the store can't be reached."""
        self.name = name
        #: The steps, by name.
        self.steps: Sequence[str] = steps_of(contract)
        #: How often each step was asked for, in vain or not.
        self.calls: Counter[str] = Counter()
        self._error, self._clock = error, clock
        self._outage: Outage | None = None
        self._rules: list[_Rule] = []
        self._lock = threading.Lock()

    # -- what tests say -------------------------------------------------------------------------

    def outage(self, duration: float | str | timedelta | None = None) -> Outage:
        """Make every call fail for `duration` of the app's clock; None: until `Outage.end`.

        Args:
            duration: Seconds, a timedelta, or text such as ``"1m 30s"``.
        """
        self._outage = Outage(
            self._clock, float("inf") if duration is None else seconds_of(duration)
        )
        return self._outage

    def fail(
        self, step: str, *, times: int = 1, skip: int = 0, error: Exception | None = None
    ) -> None:
        """Make `step` fail with nothing done.

        Args:
            step: Its name, one of `steps`.
            times: How many calls fail.
            skip: How many calls succeed before that.
            error: What it raises; None: that the store can't be reached.
        """
        effect = failing(error or self._error(f"{self.name}.{step} failed: the test says so"))
        self._wait_for(f"fail({step!r})", [step], effect, times=times, skip=skip)

    def lose_reply(self, step: str, *, times: int = 1, skip: int = 0) -> None:
        """Let `step` be done and its caller not know of it: it fails as if it were out of reach.

        Args:
            step: Its name, one of `steps`.
            times: How many replies are lost.
            skip: How many come before that.
        """
        effect = losing_reply(self._lost(step))
        self._wait_for(f"lose_reply({step!r})", [step], effect, times=times, skip=skip)

    def crash(self, when: When, step: str, *, skip: int = 0, node: bool = False) -> None:
        """Let the process die right before or right after `step`.

        `drain` goes on with the next process, as a worker does. Anybody else who makes the call
        gets the `Crash` raised.

        Args:
            when: ``"before"`` (nothing of the step is done) or ``"after"`` (all of it is).
            step: Its name, one of `steps`.
            skip: How many calls succeed before that.
            node: The whole machine is gone: what it holds comes back when its lease has run out.
        """
        if when not in ("before", "after"):
            raise ValueError(f"a process crashes 'before' or 'after' a step, not {when!r}")
        effect = crashing(when, f"{self.name}.{step}", node=node)
        self._wait_for(f"crash({when!r}, {step!r})", [step], effect, times=1, skip=skip)

    def clear(self) -> None:
        """Forget all faults that wait, and end the outage. Repeatable."""
        with self._lock:
            self._rules.clear()
        self._outage = None

    @property
    def pending(self) -> Sequence[str]:
        """The faults that haven't happened yet, as they were asked for."""
        with self._lock:
            return [f"{self.name}.{rule.what}" for rule in self._rules]

    # -- what the handles ask -------------------------------------------------------------------

    def carry_out(self, call: Call) -> Any:
        """Make `call`, with whatever is to go wrong with it."""
        self.calls[call.step] += 1
        if self._outage is not None:
            if self._outage.is_on:
                raise self._error(f"the {self.name} can't be reached: the test's outage lasts")
            self._outage = None
        effect = self._next(call.step) if self._rules else None
        return call() if effect is None else effect(call)

    def _wait_for(
        self, what: str, steps: Collection[str], effect: Effect, *, times: int, skip: int
    ) -> None:
        for step in steps:
            if step not in self.steps:
                raise ValueError(unknown_step(step, f"the {self.name}", self.steps))
        if times < 1 or skip < 0:
            raise ValueError(f"times={times!r} must be 1 or more, and skip={skip!r} 0 or more")
        with self._lock:
            self._rules.append(_Rule(what, steps, effect, times, skip))

    def _next(self, step: str) -> Effect | None:
        """Return what becomes of this call of `step`; None: nothing special."""
        with self._lock:
            for rule in self._rules:
                if step not in rule.steps:
                    continue
                if rule.skip:
                    rule.skip -= 1
                    continue
                rule.times -= 1
                if not rule.times:
                    self._rules.remove(rule)
                return rule.effect
        return None

    def _lost(self, step: str) -> Exception:
        return self._error(f"the reply of {self.name}.{step} is lost: the test says so")


class BrokerFaults(HandleFaults):
    """The faults of the broker."""

    def drop_ack(self, *, done: bool = True, times: int = 1, skip: int = 0) -> None:
        """Lose an acknowledgement, be it of `settle` or of `ack`.

        Args:
            done: The broker had it and its reply is lost; False: it never arrived.
            times: How many are lost.
            skip: How many come through before that.
        """
        error = self._lost("settle")
        effect = losing_reply(error) if done else failing(error)
        self._wait_for("drop_ack()", ["settle", "ack"], effect, times=times, skip=skip)

    def deliver_twice(self, *, times: int = 1, skip: int = 0) -> None:
        """Hand what is received next over twice, as if the first lease had run out at once."""
        self._wait_for("deliver_twice()", ["receive"], delivering_twice, times=times, skip=skip)


class Faults:
    """The faults of one app: of its broker, its backend and its coordinator."""

    def __init__(self, clock: Clock):
        self.broker = BrokerFaults("broker", Broker, BrokerUnavailableError, clock)
        self.backend = HandleFaults("backend", Backend, BackendUnavailableError, clock)
        self.coordinator = HandleFaults("coordinator", Coordinator, BackendUnavailableError, clock)

    def crash(self, when: When, step: str, *, skip: int = 0, node: bool = False) -> None:
        """Let the process die before or after a step, named as in ``"backend.store"``.

        The kind may be left out where only one has such a step: ``"store"``.

        Args: as `HandleFaults.crash`.
        """
        faults, name = self._of(step)
        faults.crash(when, name, skip=skip, node=node)

    def clear(self) -> None:
        """Forget all faults that wait, and end the outages. Repeatable."""
        for each in self._all():
            each.clear()

    @property
    def pending(self) -> Sequence[str]:
        """The faults that haven't happened yet: a test may want none left."""
        return [what for each in self._all() for what in each.pending]

    def _all(self) -> tuple[HandleFaults, ...]:
        return self.broker, self.backend, self.coordinator

    def _of(self, step: str) -> tuple[HandleFaults, str]:
        kind, _, name = step.rpartition(".")
        found = [each for each in self._all() if each.name == (kind or each.name)]
        owners = [each for each in found if name in each.steps]
        if len(owners) == 1:
            return owners[0], name
        dotted = [f"{each.name}.{known}" for each in found or self._all() for known in each.steps]
        if owners:
            both = " or ".join(f"{each.name}.{name}" for each in owners)
            raise ValueError(f"step {step!r} may be {both}: say which")
        raise ValueError(unknown_step(step, "an app", dotted))


def unknown_step(step: str, whose: str, steps: Sequence[str]) -> str:
    """Return the text about a step that isn't there: the near match, and all that are."""
    short = {known.rpartition(".")[2]: known for known in steps}
    near = near_matches(step, steps, limit=1) or near_matches(step, short, limit=1)
    hint = f"; did you mean {short.get(near[0], near[0])!r}?" if near else ""
    return f"{whose} has no step {step!r}{hint} (steps: {', '.join(steps)})"
