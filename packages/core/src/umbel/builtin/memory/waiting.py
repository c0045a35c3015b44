"""How the threads of a handle wait for a store to change, for the clock, or for `interrupt`.

A wait ends at its bound on the handle's clock or after as many real seconds, whichever is first:
so a test may move a virtual clock past a timeout, and a clock that nobody moves hangs nobody.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Protocol, TypeVar, runtime_checkable

from umbel.clock import Clock

T = TypeVar("T")

_LONGEST_PAUSE_S = 3600.0


@runtime_checkable
class DrivenClock(Protocol):
    """A clock that is moved by hand and tells who waits on it (umbel_testing.FakeClock)."""

    def subscribe(self, wake: Callable[[], None]) -> Callable[[], None]:
        """Call `wake` after each move, without holding a lock; return what ends that."""


class Waiter:
    """The waits of one handle on the `changed` condition of its store."""

    __slots__ = ("_calls", "_changed", "_clock", "_driven", "_early", "_waiting")

    def __init__(self, changed: threading.Condition, clock: Clock) -> None:
        self._changed, self._clock = changed, clock
        self._driven = clock if isinstance(clock, DrivenClock) else None
        self._waiting = 0
        self._calls = 0
        self._early = False

    def wait_for(
        self,
        look: Callable[[], T],
        *,
        timeout_s: float,
        next_in: Callable[[], float | None] | None = None,
    ) -> T:
        """Return what `look` finds as soon as it is true, or its last answer at the end.

        Args:
            look: Called with the condition's lock held, at least once.
            timeout_s: 0 looks once.
            next_in: Tells in how many seconds time alone changes the answer; None: never.
        """
        with self._changed:
            found = look()
            if found or timeout_s <= 0:
                return found
            if self._early:
                self._early = False
                return found
            # A driven clock says when it moved: no need to look again as real time goes by.
            return self._until(look, timeout_s, None if self._driven else next_in)

    def interrupt(self) -> None:
        """End all waits of this handle; where there is none, the next one."""
        with self._changed:
            if self._waiting:
                self._calls += 1
                self._changed.notify_all()
            else:
                self._early = True

    def _until(
        self, look: Callable[[], T], timeout_s: float, next_in: Callable[[], float | None] | None
    ) -> T:
        calls, clock = self._calls, self._clock
        ends_at, machine_ends_at = clock.monotonic() + timeout_s, time.monotonic() + timeout_s
        unsubscribe = self._driven.subscribe(self._wake) if self._driven else None
        self._waiting += 1
        try:
            while True:
                found = look()
                left = min(ends_at - clock.monotonic(), machine_ends_at - time.monotonic())
                if found or left <= 0 or self._calls != calls:
                    return found
                soon = next_in() if next_in is not None else None
                pause = left if soon is None else min(left, max(soon, 0.0))
                self._changed.wait(min(pause, _LONGEST_PAUSE_S))
        finally:
            self._waiting -= 1
            if unsubscribe is not None:
                unsubscribe()

    def _wake(self) -> None:
        with self._changed:
            self._changed.notify_all()
