"""The living children of a supervisor: how each is ordered, and what all of them are told.

A child that retires runs on to the end of its work, but doesn't count in the pool: a successor
is started beside it.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import TYPE_CHECKING

import msgspec

from umbel.events import notify
from umbel.ids import new_id
from umbel.worker.board import Board
from umbel.worker.child import WARM, ChildSpec
from umbel.worker.processes import Child, Starter

if TYPE_CHECKING:
    from umbel.worker.host import Host


class Children:
    """Changed by the supervisor's thread; other threads write to the boards of what is in it."""

    def __init__(self, host: Host, spec: ChildSpec, starter: Starter, *, worker: object):
        """`spec` is the pattern of a child; index and identity are filled in."""
        self._host, self._spec, self._worker = host, spec, worker
        self.starter = starter
        self._lock = threading.Lock()
        self._living: tuple[Child, ...] = ()
        self._lease = (0.0, 0.0)
        self._revokes = 0

    def __iter__(self) -> Iterator[Child]:
        return iter(self._living)

    def __len__(self) -> int:
        return len(self._living)

    @property
    def active(self) -> list[Child]:
        """Those that count in the pool."""
        return [child for child in self._living if not child.is_retiring]

    @property
    def are_busy(self) -> bool:
        """Whether one of them runs a task."""
        return any(next(child.board.running(), None) for child in self._living)

    def order(self) -> None:
        """Order one more, under the lowest number that none has. Raises: OSError: it can't be."""
        if self._host.events.process_starting:
            notify(self._host.events.process_starting, self._worker)
        taken = {child.index for child in self._living} | set(self.starter.ordered)
        index = next(number for number in range(len(taken) + 1) if number not in taken)
        identity = msgspec.structs.replace(
            self._spec.identity, consumer=f"{self._spec.identity.node}/{index}-{new_id()[-12:]}"
        )
        spec = msgspec.structs.replace(self._spec, index=index, identity=identity)
        board = Board.create(spec.slots)
        board.set_lease(*self._lease)
        board.set_revokes(self._revokes)
        self.starter.order(spec, board)

    def take_started(self) -> tuple[list[Child], list[OSError]]:
        """Take in those that were started meanwhile; returns them, and why others were not."""
        started, failures = [], []
        for answer in self.starter.answers():
            if isinstance(answer, OSError):
                failures.append(answer)
            else:
                self._add(answer)
                started.append(answer)
        return started, failures

    def _add(self, child: Child) -> None:
        with self._lock:
            self._living = (*self._living, child)
            child.board.set_lease(*self._lease)  # either may have changed meanwhile
            child.board.set_revokes(self._revokes)

    def close(self) -> None:
        """Start nothing more; those that were started meanwhile are among the living."""
        for child in self.starter.close():
            self._add(child)

    def retire(self, child: Child) -> None:
        """Let `child` finish what it runs and end; it counts in the pool no more."""
        child.is_retiring = True
        if child.board.is_alive:
            child.tell(WARM)
        else:  # it holds nothing yet, and may be long in importing the app
            child.kill()

    def remove(self, child: Child) -> None:
        """Take `child` out: from here on nobody else writes to its board."""
        with self._lock:
            self._living = tuple(each for each in self._living if each is not child)

    # -- from other threads -------------------------------------------------------------------

    def set_lease(self, since: float, until: float) -> None:
        """Tell all from when until when (monotonic seconds) the lease holds."""
        with self._lock:
            self._lease = (since, until)
            for child in self._living:
                child.board.set_lease(since, until)

    def note_revokes(self) -> None:
        """Tell all that the set of revoked tasks changed."""
        with self._lock:
            self._revokes += 1
            for child in self._living:
                child.board.set_revokes(self._revokes)
