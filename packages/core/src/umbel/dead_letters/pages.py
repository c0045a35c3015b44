"""A walk through dead letters, newest first, page by page, while others bury and replay.

A broker knows pages by their offset alone, and what others do moves the offsets. So each page
overlaps the one before: where nothing in it is known, letters were taken out meanwhile, and the
walk steps back until it meets what it knows. No letter that stays is passed over or met twice.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from umbel.interfaces.broker import Broker
from umbel.messages import DeadLetter

#: Letters that are in memory at once.
PAGE = 100


class Walk:
    """One walk. Only the receipts of what it has met are remembered, not the letters."""

    def __init__(self, broker: Broker, queue: str | None, *, page: int = PAGE) -> None:
        """Go through the letters of `queue`, or of all."""
        self._broker, self._queue, self._page = broker, queue, page
        self._met: set[str] = set()
        self._offset = 0

    def __iter__(self) -> Iterator[list[DeadLetter]]:
        """Go on with the next page of letters that weren't met yet."""
        step = self._page - 1
        while True:
            found = self._broker.dead_letters(self._queue, limit=self._page, offset=self._offset)
            new = [letter for letter in found if letter.receipt not in self._met]
            if self._offset and len(new) == len(found):
                self._offset = max(0, self._offset - step)
                continue
            if not new and len(found) < self._page:
                return
            self._offset += max(0, len(found) - 1)
            if new:
                self._met.update(letter.receipt for letter in new)
                yield new

    def removed(self, receipts: Iterable[str]) -> None:
        """Note that these, all met, are no dead letters any more: those behind them move up."""
        before = len(self._met)
        self._met.difference_update(receipts)
        self._offset = max(0, self._offset - (before - len(self._met)))
