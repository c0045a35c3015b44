"""How messages come into the file through one handle: plainly, once, as follow-ups, as replays.

Each method but `note` is a transaction, or a part of one.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from umbel.builtin.sqlite import inspection, transactions
from umbel.builtin.sqlite.once import Once, Parcel, check_room
from umbel.builtin.sqlite.rows import read_receipt
from umbel.builtin.sqlite.store import Store
from umbel.builtin.sqlite.transactions import Receipt
from umbel.builtin.sqlite.wakeup import Wakeup
from umbel.messages import Delivery, OnConflict


class Terms(NamedTuple):
    """On which terms a handle takes messages, at a moment."""

    now: float
    once_window_s: float
    bounds: Mapping[str, int]


class Arrivals:
    """Stores messages for one handle, and tells who is to be woken for them."""

    def __init__(self, store: Store, wakeup: Wakeup):
        self.once = Once()
        self._store, self._wakeup = store, wakeup
        #: Queues whose names the file has already.
        self._known: set[str] = set()
        self._known_epoch = 0

    def note(self, queues: Iterable[str]) -> None:
        """Remember that a transaction that named these queues was committed."""
        self._known.update(queues)

    def send(
        self, cx: sqlite3.Connection, rows: Sequence[Any], queues: set[str], terms: Terms
    ) -> list[int]:
        """Store rows for `queues`; return the ports to ring. Raises: FullError."""
        if terms.bounds:
            check_room(cx, terms.bounds, [row[1] for row in rows])
        return self._insert(cx, rows, queues)

    def send_once(
        self,
        cx: sqlite3.Connection,
        parcels: Sequence[Parcel],
        on_conflict: OnConflict,
        terms: Terms,
    ) -> tuple[list[str], set[str], list[int]]:
        """Store what isn't known; return ids of what is, queues and ports.

        Raises: KnownError, FullError.
        """
        since = terms.now - terms.once_window_s
        known, queues = self.once.send(
            cx, parcels, since=since, bounds=terms.bounds, on_conflict=on_conflict
        )
        self.once.sweep(cx, terms.now, since)
        return known, queues, self._insert(cx, (), queues)

    def settle_all(
        self,
        cx: sqlite3.Connection,
        deliveries: Sequence[Delivery],
        receipts: Sequence[Receipt],
        parcels: Sequence[Parcel],
        terms: Terms,
    ) -> list[int]:
        """Store follow-ups and remove what they follow; return ports. Raises: NotAllHeldError."""
        ports = self._follow_up(cx, parcels, terms) if parcels else []
        if receipts:
            transactions.remove(cx, receipts)
            self.once.finish(cx, deliveries, terms.now)
        return ports

    def settle_each(
        self,
        cx: sqlite3.Connection,
        deliveries: Sequence[Delivery],
        parcels: Sequence[Parcel],
        terms: Terms,
    ) -> tuple[list[int], list[int]]:
        """As `settle_all`, but what isn't held is told: return its indexes, and ports."""
        receipts = [read_receipt(delivery.receipt) for delivery in deliveries]
        ports = self._follow_up(cx, parcels, terms) if parcels else []
        lost = transactions.remove_each(cx, receipts)
        gone = set(lost)
        done = [delivery for index, delivery in enumerate(deliveries) if index not in gone]
        self.once.finish(cx, done, terms.now)
        return lost, ports

    def replay(
        self, cx: sqlite3.Connection, rows: Sequence[tuple[str, str, Any]]
    ) -> tuple[list[str], list[int]]:
        """Store a row in the place of each dead letter: receipt, queue and row of each.

        Returns: Receipts of those that weren't there, and ports.
        """
        dropped = inspection.drop_dead(cx, [dead_seq(receipt) for receipt, _, _ in rows])
        found = [row for row, there in zip(rows, dropped, strict=True) if there]
        gone = [row[0] for row, there in zip(rows, dropped, strict=True) if not there]
        if not found:
            return gone, []
        return gone, self._insert(
            cx, [row for _, _, row in found], {queue for _, queue, _ in found}
        )

    def _follow_up(
        self, cx: sqlite3.Connection, parcels: Sequence[Parcel], terms: Terms
    ) -> list[int]:
        since = terms.now - terms.once_window_s
        queues = self.once.follow_up(cx, parcels, since=since)
        self.once.sweep(cx, terms.now, since)
        return self._insert(cx, (), queues)

    def _insert(self, cx: sqlite3.Connection, rows: Sequence[Any], queues: set[str]) -> list[int]:
        if self._known_epoch != self._store.epoch:  # may be another file
            self._known, self._known_epoch = set(), self._store.epoch
        transactions.insert(cx, rows, queues - self._known)
        return self._wakeup.listeners(cx, topics(queues))


def topics(queues: Iterable[str]) -> list[str]:
    """Return what those who wait for `queues` listen to."""
    return [f"queue:{name}" for name in queues]


def dead_seq(receipt: str) -> int:
    """Return the row that a dead letter's receipt names; none has the number 0."""
    return int(receipt) if receipt.isascii() and receipt.isdigit() and len(receipt) < 19 else 0
