"""A dictionary whose items expire, and which drops them by itself as it is written to.

Not thread-safe: its store's lock guards it.
"""

from __future__ import annotations

from collections.abc import Iterator
from heapq import heapify, heappop, heappush
from math import inf
from typing import Generic, TypeVar

V = TypeVar("V")

#: Below this many stale entries of its heap, a rebuild isn't worth the time.
_SPARE_ENTRIES = 64


class _Item(Generic[V]):
    __slots__ = ("expires_at", "listed_at", "value")

    def __init__(self, value: V, expires_at: float, listed_at: float) -> None:
        self.value, self.expires_at = value, expires_at
        # Where the heap has this item; a later expiry is only found out when that comes up.
        self.listed_at = listed_at


class ExpiringMap(Generic[V]):
    """Values by key, each until a time; `now` and expiry are seconds of one clock."""

    __slots__ = ("_heap", "_items")

    def __init__(self) -> None:
        self._items: dict[str, _Item[V]] = {}
        self._heap: list[tuple[float, str]] = []

    def __len__(self) -> int:
        """Count all items, those that are expired and not dropped yet among them."""
        return len(self._items)

    def get(self, key: str, now: float) -> V | None:
        """Return the value, or None where there is none or it is expired."""
        item = self._items.get(key)
        return item.value if item is not None and item.expires_at > now else None

    def put(self, key: str, value: V, now: float, expires_at: float | None = None) -> None:
        """Set `key` (None: it never expires), and drop what is expired by now."""
        self.sweep(now)
        ends = inf if expires_at is None else expires_at
        old = self._items.get(key)
        listed_at = inf if old is None else old.listed_at
        if ends < listed_at:
            heappush(self._heap, (ends, key))
            listed_at = ends
        self._items[key] = _Item(value, ends, listed_at)

    def change(self, key: str, value: V) -> None:
        """Set the value of a key that is there; its expiry stays."""
        self._items[key].value = value

    def shorten(self, key: str, expires_at: float) -> None:
        """Let a key that is there expire no later than that."""
        item = self._items[key]
        item.expires_at = min(item.expires_at, expires_at)
        if item.expires_at < item.listed_at:
            item.listed_at = item.expires_at
            heappush(self._heap, (item.expires_at, key))

    def pop(self, key: str, now: float) -> V | None:
        """Drop `key`; return its value, or None where there is none or it is expired."""
        item = self._items.pop(key, None)
        if len(self._heap) > 2 * len(self._items) + _SPARE_ENTRIES:
            self._rebuild()
        return item.value if item is not None and item.expires_at > now else None

    def items(self, now: float) -> Iterator[tuple[str, V]]:
        """Go through all that isn't expired, in order of first setting."""
        return ((key, item.value) for key, item in self._items.items() if item.expires_at > now)

    def sweep(self, now: float, *, limit: int | None = None) -> int:
        """Drop what is expired, at most `limit`; return how many."""
        dropped = 0
        while self._heap and self._heap[0][0] <= now and (limit is None or dropped < limit):
            listed_at, key = heappop(self._heap)
            item = self._items.get(key)
            if item is None or item.listed_at != listed_at:
                continue  # an entry of an item that was dropped or replaced since
            if item.expires_at <= now:
                del self._items[key]
                dropped += 1
                continue
            item.listed_at = item.expires_at
            if item.expires_at < inf:
                heappush(self._heap, (item.expires_at, key))
        return dropped

    def _rebuild(self) -> None:
        for item in self._items.values():
            item.listed_at = item.expires_at
        self._heap = [
            (item.expires_at, key) for key, item in self._items.items() if item.expires_at < inf
        ]
        heapify(self._heap)
