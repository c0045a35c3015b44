"""Keep what must not cross a fork from crossing it.

An SQLite connection that was made before a fork belongs to the parent: the child may neither
use nor close it. And a lock that another thread held at that instant would stay locked in the
child for ever. So the locks are taken around each fork, and the child starts afresh.
"""

from __future__ import annotations

import os
import threading
from typing import Protocol
from weakref import WeakSet


class ForkAware(Protocol):
    """Something with a state that belongs to one process."""

    def before_fork(self) -> None:
        """Come to rest."""

    def after_fork_in_parent(self) -> None:
        """Go on."""

    def after_fork_in_child(self) -> None:
        """Forget all that belongs to the parent, without closing it."""


_tracked: WeakSet[ForkAware] = WeakSet()
_resting: list[ForkAware] = []
#: Held from before a fork until after it: two threads may fork at once.
_turn = threading.RLock()


def track(thing: ForkAware) -> None:
    """Tell `thing` of forks for as long as it lives."""
    with _turn:
        _tracked.add(thing)


def _before() -> None:
    _turn.acquire()
    _resting[:] = list(_tracked)
    for thing in _resting:
        thing.before_fork()


def _in_parent() -> None:
    for thing in _resting:
        thing.after_fork_in_parent()
    _resting.clear()
    _turn.release()


def _in_child() -> None:
    global _turn  # noqa: PLW0603 - other threads of the parent may wait for the old one
    _turn = threading.RLock()
    for thing in _resting:
        thing.after_fork_in_child()
    _resting.clear()


if hasattr(os, "register_at_fork"):  # not on Windows, where nothing forks
    os.register_at_fork(before=_before, after_in_parent=_in_parent, after_in_child=_in_child)
