"""What can become of one call of a broker, backend or coordinator: the faults themselves.

An effect takes a call that is about to be made and makes of it what it wants.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal

from umbel.interfaces.broker import Capability
from umbel.messages import Delivery, OnConflict
from umbel.worker.execute import ProcessDeath

When = Literal["before", "after"]
#: Methods that ask the store for nothing.
NO_STEPS = frozenset({"configure", "close", "interrupt"})
#: Methods that a handle need not have: what the contract makes of them are steps of their own.
_MADE_OF_STEPS = frozenset({"settle_and_receive"})


def steps_of(contract: type[Any]) -> Sequence[str]:
    """Return the methods of a contract that ask its store for something, in its order."""
    return [
        name
        for name, value in vars(contract).items()
        if not name.startswith("_") and callable(value) and name not in NO_STEPS | _MADE_OF_STEPS
    ]


class Crash(ProcessDeath):
    """The process died here: nothing of it goes on, and nothing of it is cleaned up.

    A task may raise it too: that is a poisoned one.

    Args:
        where: The step, for people.
        node: The whole machine is gone, and with it the supervisor that would take care.
    """

    def __init__(self, where: str = "in a task", *, node: bool = False) -> None:
        super().__init__(f"the process died {where}")
        self.node = node


class Call:
    """A call of a handle's method that is about to be made; call it to make it."""

    __slots__ = ("args", "handle", "kwargs", "step")

    def __init__(self, step: str, handle: Any, args: tuple[Any, ...], kwargs: dict[str, Any]):
        self.step, self.handle, self.args, self.kwargs = step, handle, args, kwargs

    def __call__(self) -> Any:
        """Make it."""
        return getattr(self.handle, self.step)(*self.args, **self.kwargs)


Effect = Callable[[Call], Any]


def failing(error: Exception) -> Effect:
    """Do nothing, and raise `error`."""

    def effect(_call: Call) -> Any:
        raise error

    return effect


def losing_reply(error: Exception) -> Effect:
    """Do it, and raise `error` all the same."""

    def effect(call: Call) -> Any:
        if call.step == "send" and Capability.UNIQUE in call.handle.capabilities:
            # The contract: who tries again by `send_once` is told that it is known.
            call.handle.send_once(*call.args, **call.kwargs, on_conflict=OnConflict.RETURN)
        else:
            call()
        raise error

    return effect


def crashing(when: When, where: str, *, node: bool = False) -> Effect:
    """Let the process die before or after it."""

    def effect(call: Call) -> Any:
        if when == "after":
            call()
        raise Crash(f"{when} {where}", node=node)

    return effect


def delivering_twice(call: Call) -> Sequence[Delivery]:
    """Receive, let the leases run out at once, and receive again: who comes first holds nothing."""
    first: Sequence[Delivery] = call()
    if not first:
        return first
    call.handle.nack(first)
    again: Sequence[Delivery] = call()
    return [*first, *again]
