"""A child's journal: what it has done or begun, and its broker doesn't know yet, or any more.

Kept on the board, where the supervisor finds it should the process die. One writer at a time:
its caller holds a lock.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from umbel.messages import Message
from umbel.worker.board import EarlyAcked, JournalEntry

if TYPE_CHECKING:
    from umbel.messages import Delivery
    from umbel.worker.board import Board
    from umbel.worker.jobs import Settlement


class Journal:
    """Outcomes that aren't settled yet, and deliveries that are acknowledged before they run."""

    def __init__(self, board: Board):
        self._board = board
        #: By receipt: acknowledged, and not settled yet.
        self._early: dict[str, EarlyAcked] = {}

    def note(self, settlement: Settlement) -> bool:
        """Note an outcome; False: it doesn't fit in, settle now."""
        return settlement.job is None or self._board.note(self._entry(settlement))

    def note_early(self, delivery: Delivery) -> None:
        """Note a delivery that is about to be acknowledged and run: its broker will forget it."""
        if isinstance(delivery.message, Message):
            early = EarlyAcked(delivery.message, delivery.queue, delivery.token)
            self._early[delivery.receipt] = early
            self._board.note(JournalEntry(delivery.receipt, None, 0.0, early))

    def forget_early(self, delivery: Delivery, unsettled: Sequence[Settlement]) -> None:
        """Take `note_early` back: it could not be acknowledged."""
        if self._early.pop(delivery.receipt, None) is not None:
            self._board.rewrite_journal(self._entries(unsettled))

    def forget_settled(
        self, settled: Sequence[Settlement], unsettled: Sequence[Settlement]
    ) -> None:
        """Hold `unsettled` and what runs, and nothing of `settled` any more."""
        if self._early:
            kept = {settlement.delivery.receipt for settlement in unsettled}
            for settlement in settled:
                if settlement.acked is not False and settlement.delivery.receipt not in kept:
                    self._early.pop(settlement.delivery.receipt, None)
        self._board.rewrite_journal(self._entries(unsettled))

    def _entries(self, unsettled: Sequence[Settlement]) -> Iterator[JournalEntry]:
        if self._early:
            finished = {settlement.delivery.receipt for settlement in unsettled}
            for receipt, early in self._early.items():
                if receipt not in finished:
                    yield JournalEntry(receipt, None, 0.0, early)
        for settlement in unsettled:
            if settlement.job is not None:
                yield self._entry(settlement)

    def _entry(self, settlement: Settlement) -> JournalEntry:
        receipt = settlement.delivery.receipt
        early = self._early.get(receipt) if settlement.acked is not False else None
        if settlement.acked is None:  # what becomes of it isn't decided yet
            return JournalEntry(receipt, None, 0.0, early)
        return JournalEntry(receipt, settlement.outcome, settlement.done_at, early)
