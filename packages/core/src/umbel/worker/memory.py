"""How much memory a process has, and what follows from too much of it.

A child looks at itself between tasks and ends in order when it has grown too large
(``worker_max_memory_per_child``). The supervisor looks at all of them, and ends one at once that
is over the hard ceiling (``worker_memory_ceiling_bytes``).
"""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from umbel.worker.board import Board
    from umbel.worker.processes import Child

if sys.platform != "win32":
    import resource

logger = logging.getLogger("umbel.worker")

#: How often a child looks at itself, and a supervisor at children that run nothing.
_LOOK_EVERY_S = 0.1
_LOOK_IDLE_S = 1.0
_IS_LINUX = sys.platform.startswith("linux")
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE") if _IS_LINUX else 0
KIB = 1024


def memory_of(pid: int | None = None) -> int | None:
    """Return the bytes of memory that a process has in RAM; None: not known.

    Args:
        pid: Which one; None: this one. Others are known on Linux only. Elsewhere than on Linux
            it is the most that this process ever had, and on Windows not known.
    """
    if _IS_LINUX:
        try:
            with Path(f"/proc/{pid or 'self'}/statm").open("rb") as file:
                return int(file.read().split()[1]) * _PAGE_BYTES or None  # 0: it has ended
        except (OSError, ValueError, IndexError):
            return None
    if pid is not None or sys.platform == "win32":
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * KIB


class MemoryMeter:
    """A child's look at itself, between tasks."""

    def __init__(self, most_bytes: int | None, board: Board | None):
        """`most_bytes`: what it may have; None: it only tells its board, where others can't see."""
        self._most_bytes, self._board = most_bytes, board
        self._next_at = 0.0
        #: What it had at the last look; None: not known.
        self.size_bytes: int | None = None

    @classmethod
    def for_child(cls, most_bytes: int | None, board: Board | None) -> MemoryMeter | None:
        """Return a meter; None where there is nothing to be done."""
        if most_bytes is None and (_IS_LINUX or board is None):
            return None
        return cls(most_bytes, board)

    def is_over(self, now: float) -> bool:
        """Tell whether the process has grown too large; cheap, for it looks only now and then."""
        if now < self._next_at:
            return False
        self._next_at = now + _LOOK_EVERY_S
        size = self.size_bytes = memory_of()
        if size is None:
            return False
        if self._board is not None:
            self._board.set_memory(size)
        if self._most_bytes is None or size <= self._most_bytes:
            return False
        logger.info(
            "this process has %d bytes of memory, over worker_max_memory_per_child (%d kilobytes): "
            "it makes room for another one",
            size,
            self._most_bytes // KIB,
        )
        return True


class MemoryWatch:
    """A supervisor's look at its children."""

    def __init__(self, ceiling_bytes: int | None):
        """`ceiling_bytes`: what one may have at most; None: anything."""
        self.ceiling_bytes = ceiling_bytes
        self._next_idle_at = 0.0

    def look(self, children: Iterable[Child], now: float) -> list[Child]:
        """Note what each child has; return those that are over the ceiling.

        Those that run something are looked at each time, the others once a second.
        """
        look_at_all = now >= self._next_idle_at
        if look_at_all:
            self._next_idle_at = now + _LOOK_IDLE_S
        over = []
        for child in children:
            if not look_at_all and next(child.board.running(), None) is None:
                continue
            size = memory_of(child.pid) if _IS_LINUX else child.board.memory_bytes
            if size:
                child.memory_bytes = size
            if self.ceiling_bytes is not None and (child.memory_bytes or 0) > self.ceiling_bytes:
                over.append(child)
        return over
