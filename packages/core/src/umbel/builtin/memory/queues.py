"""What waits in one queue: a heap of what is ready, and one of what is due later.

Not thread-safe: the store's lock guards it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from heapq import heapify, heappop, heappush

from umbel.messages import QueueStats


class Entry:
    """A stored message, encoded, with what the broker knows of it."""

    __slots__ = (
        "body",
        "consumer",
        "id",
        "number",
        "once_key",
        "priority",
        "queue",
        "raw",
        "ready_at",
        "receipt",
        "strikes",
        "token",
    )

    def __init__(
        self,
        raw: bytes,
        body: bytes,
        queue: str,
        priority: int,
        number: int,
        ready_at: float,
        id: str = "",
        once_key: str | None = None,
    ) -> None:
        #: All of the message but its body and queue.
        self.raw = raw
        self.body, self.queue, self.priority = body, queue, priority
        #: Place in the order of sending.
        self.number = number
        self.receipt = str(number)
        #: Unix seconds since when it can be received.
        self.ready_at = ready_at
        self.token = 0
        self.strikes = 0
        self.id = id
        #: Of what was sent once; None: it was sent plainly.
        self.once_key = once_key
        #: Who holds it; None while it waits.
        self.consumer: str | None = None


class Queue:
    """The waiting entries of one queue; higher priority first, then in order of sending."""

    __slots__ = ("_later", "_ready")

    def __init__(self) -> None:
        self._ready: list[tuple[int, int, Entry]] = []
        self._later: list[tuple[float, int, Entry]] = []

    def __len__(self) -> int:
        """Count what waits."""
        return len(self._ready) + len(self._later)

    def __iter__(self) -> Iterator[Entry]:
        """Go through what waits, in no order."""
        for _, _, entry in self._ready:
            yield entry
        for _, _, later in self._later:
            yield later

    def remove(self, entry: Entry) -> None:
        """Take a waiting entry out, wherever it stands."""
        self._ready = [item for item in self._ready if item[2] is not entry]
        self._later = [item for item in self._later if item[2] is not entry]
        heapify(self._ready)
        heapify(self._later)

    def add(self, entry: Entry, now: float) -> None:
        """Put `entry` at its place: among the ready, or among those of later."""
        if entry.ready_at > now:
            heappush(self._later, (entry.ready_at, entry.number, entry))
        else:
            heappush(self._ready, (-entry.priority, entry.number, entry))

    def pop(self, now: float) -> Entry | None:
        """Take the next one out; None where nothing is ready."""
        self._promote(now)
        return heappop(self._ready)[2] if self._ready else None

    def next_at(self) -> float | None:
        """Return when the next of the later ones is ready (unix seconds); None: there is none."""
        return self._later[0][0] if self._later else None

    def in_order(self, now: float) -> Iterator[Entry]:
        """Go through what waits, the next to be received first, the later ones at the end."""
        self._promote(now)
        for heap in (self._ready, self._later):
            for _, _, entry in sorted(heap):
                yield entry

    def later(self, now: float) -> list[Entry]:
        """Return what waits for its time, in no order."""
        self._promote(now)
        return [entry for _, _, entry in self._later]

    def pull(self, receipts: Collection[str], now: float) -> list[Entry]:
        """Take out those of `receipts` that wait for their time, and return them."""
        pulled = [entry for entry in self.later(now) if entry.receipt in receipts]
        if pulled:
            self._later = [item for item in self._later if item[2].receipt not in receipts]
            heapify(self._later)
        return pulled

    def clear(self) -> int:
        """Drop everything; return how many there were."""
        dropped = len(self)
        self._ready.clear()
        self._later.clear()
        return dropped

    def stats(self, name: str, now: float, *, held: int, dead: int) -> QueueStats:
        """Return how the queue stands, with what the store counted elsewhere."""
        self._promote(now)
        oldest_at = min((entry.ready_at for _, _, entry in self._ready), default=None)
        return QueueStats(
            name=name,
            ready=len(self._ready),
            delayed=len(self._later),
            held=held,
            dead=dead,
            oldest_age_s=None if oldest_at is None else max(0.0, now - oldest_at),
        )

    def _promote(self, now: float) -> None:
        while self._later and self._later[0][0] <= now:
            entry = heappop(self._later)[2]
            heappush(self._ready, (-entry.priority, entry.number, entry))
