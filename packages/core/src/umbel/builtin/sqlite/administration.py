"""What people do with the queues of a file: look into them, empty them, pause them, promote."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence

from umbel.builtin.sqlite import delays, inspection, pauses
from umbel.builtin.sqlite.arrivals import dead_seq, topics
from umbel.builtin.sqlite.store import Store
from umbel.builtin.sqlite.wakeup import Wakeup
from umbel.clock import Clock
from umbel.interfaces.broker import Broker
from umbel.messages import DeadLetter, Delayed, Malformed, Message, QueueStats


class Administration(Broker):
    """The part of the broker that no worker's loop uses."""

    def __init__(self, store: Store, wakeup: Wakeup, clock: Clock) -> None:
        self._store, self._wakeup, self._clock = store, wakeup, clock

    def queues(self) -> Sequence[str]:
        """Return the names of all queues that hold or held messages, sorted."""
        return self._store.read(inspection.names)

    def stats(self, queue: str) -> QueueStats:
        """Return how `queue` stands."""
        return self._store.read(inspection.stats, queue, self._clock.time())

    def peek(
        self, queue: str, *, limit: int = 10, offset: int = 0
    ) -> Sequence[Message | Malformed]:
        """Return what is ready, next first, then what is delayed, next due first."""
        return self._store.read(inspection.peek, queue, limit, offset, self._clock.time())

    def purge(self, queue: str) -> int:
        """Drop all that waits in `queue`, the delayed included; returns how many."""
        return self._store.write_durably(inspection.purge, queue)

    def dead_letters(
        self, queue: str | None = None, *, limit: int = 100, offset: int = 0
    ) -> Sequence[DeadLetter]:
        """Return dead letters, newest first."""
        return self._store.read(inspection.dead_letters, queue, limit, offset)

    def drop_dead(self, receipts: Sequence[str]) -> int:
        """Remove dead letters for good; returns how many."""
        seqs = [dead_seq(receipt) for receipt in receipts]
        return sum(self._store.write(inspection.drop_dead, seqs)) if seqs else 0

    def delayed(
        self, queue: str | None = None, *, limit: int = 100, offset: int = 0
    ) -> Sequence[Delayed]:
        """Return what waits for its time, next due first."""
        return self._store.read(delays.delayed, queue, limit, offset, self._clock.time())

    def promote(self, receipts: Sequence[str]) -> int:
        """Make delayed messages ready now; returns how many."""
        if not receipts:
            return 0
        now = self._clock.time()

        def transaction(cx: sqlite3.Connection) -> tuple[int, list[int]]:
            queues = delays.promote(cx, receipts, now)
            return len(queues), self._wakeup.listeners(cx, topics(set(queues)))

        count, ports = self._store.write_durably(transaction)
        self._wakeup.ring(ports)
        return count

    def drop_delayed(self, receipts: Sequence[str]) -> int:
        """Remove delayed messages for good; returns how many."""
        if not receipts:
            return 0
        return self._store.write_durably(delays.drop, receipts, self._clock.time())

    def pause(self, queue: str) -> None:
        """Hand out nothing of `queue` any more, in any process, until `resume`."""
        self._store.write_durably(pauses.pause, queue)

    def resume(self, queue: str) -> None:
        """Hand out messages of `queue` again, and wake who waits for them."""

        def transaction(cx: sqlite3.Connection) -> list[int]:
            pauses.resume(cx, queue)
            return self._wakeup.listeners(cx, topics([queue]))

        self._wakeup.ring(self._store.write_durably(transaction))

    def paused(self) -> Sequence[str]:
        """Return the names of the queues that are paused, sorted."""
        return self._store.read(pauses.names)
