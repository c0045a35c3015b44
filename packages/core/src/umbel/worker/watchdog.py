"""Proof that a child consumes: it says on its board when it asks the broker, and when it is back.

A child that lives, and hasn't come round for too long, is connected to nothing and would never be
missed: a call of its broker hangs, or a thread that it needs has died. It is replaced.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from umbel.worker.board import Doing

if TYPE_CHECKING:
    from umbel.messages import Delivery, Message
    from umbel.worker.board import Board
    from umbel.worker.processes import Child
    from umbel.worker.source import Source

#: A supervisor that hasn't looked for so long was itself held up, and its children with it.
_GAP_S = 5.0
#: How fresh an answer of the broker must be where no timeout says so.
_FRESH_S = 60.0


class Pulse:
    """A lane's side: receives for it, and says so."""

    def __init__(self, source: Source, board: Board | None, helper: threading.Thread):
        """`helper`: the lane's other thread, without which it is of no use."""
        self._source, self._board, self._helper = source, board, helper

    def receive(self, *, max_messages: int, wait_s: float) -> Sequence[Delivery]:
        """Receive, as `Source.receive`."""
        board = self._board
        if board is None:
            return self._source.receive(max_messages=max_messages, wait_s=wait_s)
        if self._helper.is_alive():
            board.set_doing(Doing.RECEIVING, time.monotonic())
        got = self._source.receive(max_messages=max_messages, wait_s=wait_s)
        now = time.monotonic()
        if not self._source.is_down:
            board.set_answered(now)
        if self._helper.is_alive():
            board.set_doing(Doing.WORKING, now)
        return got

    def settle_and_receive(
        self, deliveries: Sequence[Delivery], follow_ups: Sequence[Message], max_messages: int
    ) -> tuple[Sequence[Delivery], Sequence[Delivery]]:
        """Do as `Source.settle_and_receive`; the answer shows as much as that to a receive."""
        found = self._source.settle_and_receive(deliveries, follow_ups, max_messages=max_messages)
        if self._board is not None:
            self._board.set_answered(time.monotonic())
        self.beat()
        return found

    def beat(self) -> None:
        """Say that the lane comes round, though there is no room to receive anything."""
        if self._board is not None and self._helper.is_alive():
            self._board.set_doing(Doing.WORKING, time.monotonic())


class Watchdog:
    """A supervisor's side: finds children that don't consume."""

    def __init__(self, timeout_s: float | None):
        """`timeout_s`: how long a child may take to come round; None: for ever."""
        self._timeout_s = timeout_s
        self._since = self._looked_at = 0.0

    def look(self, children: Iterable[Child], now: float) -> list[Child]:
        """Return the children that are stuck."""
        if now - self._looked_at > _GAP_S:
            self._since = now
        self._looked_at = now
        if self._timeout_s is None:
            return []
        return [child for child in children if self._is_stuck(child.board, now)]

    def is_consuming(self, child: Child, now: float) -> bool:
        """Tell whether a child runs something, or had an answer of the broker lately."""
        board = child.board
        if not board.is_ready or board.has_ended:
            return False
        is_fresh = now - board.answered_at <= (self._timeout_s or _FRESH_S)
        return is_fresh or next(board.running(), None) is not None

    def _is_stuck(self, board: Board, now: float) -> bool:
        if not board.is_ready or board.has_ended or self._timeout_s is None:
            return False
        if now - max(board.turned_at, self._since) <= self._timeout_s:
            return False
        # The thread that runs a long task doesn't come round either.
        return board.doing is Doing.RECEIVING or next(board.running(), None) is None
