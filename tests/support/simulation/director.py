"""Who decides, call by call, what breaks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from simulation.stage import CLOCK, LEASE_S
from umbel.errors import BackendUnavailableError, BrokerUnavailableError
from umbel_testing.fault_effects import Call, Crash, delivering_twice, losing_reply

if TYPE_CHECKING:
    from simulation.world import World

#: What may become of a call of a process; a client only meets the first three.
KINDS = (
    "fail", "lose", "outage", "crash before", "crash after", "node before", "node after",
    "stall before", "stall after", "freeze before", "freeze after", "twice",
)  # fmt: skip
_ERRORS = {"broker": BrokerUnavailableError, "backend": BackendUnavailableError}
#: Steps that a look from outside makes, or that only end something.
_QUIET = frozenset({"queues", "stats", "peek", "check"})


class Carrier:
    """Makes the calls of one actor's handles of one kind."""

    def __init__(self, world: World, actor: Any, kind: str):
        self.world, self.actor, self.kind = world, actor, kind

    def carry_out(self, call: Call) -> Any:
        return self.world.director.carry_out(self.actor, self.kind, call)


class Director:
    """Breaks calls as the seed says."""

    def __init__(self, world: World):
        self.world, self.rng = world, world.rng
        rng = world.rng
        wanted = [kind for kind in KINDS if rng.random() < 0.5]
        self.kinds = wanted or list(KINDS)
        self.rate = rng.choice((0.02, 0.06, 0.15))
        self.budget = rng.randint(2, 14)
        self.out_until = {"broker": 0.0, "backend": 0.0}
        self.is_off = False

    def heal(self) -> None:
        """Break nothing more."""
        self.is_off = True
        self.out_until = dict.fromkeys(self.out_until, 0.0)

    def carry_out(self, actor: Any, kind: str, call: Call) -> Any:
        """Make a call of `actor`, or break it."""
        if self.is_off or call.step in _QUIET:
            return self._make(actor, call)
        if CLOCK.monotonic() < self.out_until[kind]:
            raise _ERRORS[kind]("an outage")
        if self.budget > 0 and self.rng.random() < self.rate:
            fault = self.rng.choice(self.kinds)
            if actor.may_meet(fault, call.step):
                self.budget -= 1
                self.world.tell(actor.name, f"{kind}.{call.step}", fault)
                return self._break(actor, kind, call, fault)
        return self._make(actor, call)

    def _make(self, actor: Any, call: Call) -> Any:
        if self.world.is_verbose:
            self.world.tell(actor.name, call.step, repr(call.args)[:200])
        self.world.calling.append((actor, call))
        try:
            if call.step == "load":
                self.world.oracle.moment += 1
                actor.looked_at = self.world.oracle.moment
            return call()
        finally:
            self.world.calling.pop()

    def _break(self, actor: Any, kind: str, call: Call, fault: str) -> Any:
        error = _ERRORS[kind](fault)
        what, _, when = fault.partition(" ")
        if fault == "outage":
            self.out_until[kind] = CLOCK.monotonic() + self.rng.choice((1.0, 5.0, LEASE_S * 2))
            raise error
        if fault == "fail":
            raise error
        self.world.calling.append((actor, call))
        try:
            if fault == "lose":
                return losing_reply(error)(call)
            if fault == "twice":
                self.world.is_duplicating += 1
                try:
                    return delivering_twice(call)
                finally:
                    self.world.is_duplicating -= 1
        finally:
            self.world.calling.pop()
        answer = self._make(actor, call) if when == "after" else None
        self.strike(actor, what)
        return answer if when == "after" else self._make(actor, call)

    def strike(self, actor: Any, what: str) -> None:
        """Let `actor` die, or hold it up."""
        if what in ("crash", "node"):
            raise Crash(node=what == "node")
        self.world.hold_up(actor, with_node=what == "freeze")

    def on_run(self, actor: Any) -> None:
        """Break something in the middle of a task."""
        if self.is_off or self.budget <= 0 or self.rng.random() >= self.rate:
            return
        what, _, _ = self.rng.choice(self.kinds).partition(" ")
        if what in ("crash", "node", "stall", "freeze"):
            self.budget -= 1
            self.world.tell(actor.name, "task", what)
            self.strike(actor, what)
