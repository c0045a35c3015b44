"""All queues of one space, who holds what of them, and the leases of those who do.

Methods are called with `changed` held; who makes something receivable notifies it. Times are told to it: `now` in unix seconds for what is
due, `tick` in monotonic seconds for leases, which no change of the wall clock shall end.
"""

from __future__ import annotations

import threading
from collections.abc import Collection, Iterable, Mapping, Sequence
from itertools import count
from types import MappingProxyType

from umbel.builtin.memory.once import Sent
from umbel.builtin.memory.queues import Entry, Queue
from umbel.messages import QueueStats


class DeadEntry:
    """An entry that was given up, with the reason."""

    __slots__ = ("details", "died_at", "entry", "kind", "reason")

    def __init__(
        self, entry: Entry, reason: str, kind: str, details: bytes, died_at: float
    ) -> None:
        self.entry, self.reason, self.kind, self.died_at = entry, reason, kind, died_at
        #: JSON.
        self.details = details


class MessageStore:
    """What a memory broker keeps."""

    def __init__(self) -> None:
        #: Guards all of it; notified when something may have become receivable.
        self.changed = threading.Condition(threading.Lock())
        self._queues: dict[str, Queue] = {}
        self._held: dict[str, Entry] = {}
        self.sent = Sent()
        #: Queues that nothing is handed out of.
        self.paused: set[str] = set()
        #: By consumer: what it holds, by receipt.
        self._holdings: dict[str, dict[str, Entry]] = {}
        #: By consumer that holds something: its node. One that isn't here has no lease.
        self._node_of: dict[str, str] = {}
        #: By node: the tick that its lease ends at.
        self._leases: dict[str, float] = {}
        #: By receipt, in order of dying.
        self._dead: dict[str, DeadEntry] = {}
        self._numbers = count(1)

    # -- messages -----------------------------------------------------------------------------

    def put(
        self,
        raw: bytes,
        body: bytes,
        queue: str,
        now: float,
        *,
        priority: int = 0,
        due_at: float | None = None,
        id: str = "",
        once_key: str | None = None,
    ) -> None:
        """Store an encoded message."""
        ready_at = now if due_at is None else max(now, due_at)
        number = next(self._numbers)
        entry = Entry(raw, body, queue, priority, number, ready_at, id, once_key)
        self.sent.note(entry)
        self._queue(queue).add(entry, now)

    def replace(
        self,
        entry: Entry,
        raw: bytes,
        body: bytes,
        queue: str,
        now: float,
        *,
        priority: int,
        due_at: float | None,
        once_key: str,
    ) -> None:
        """Put another message in the place of one that waits."""
        self._queue(entry.queue).remove(entry)
        self.sent.forget(entry)
        entry.raw, entry.body, entry.queue, entry.priority = raw, body, queue, priority
        entry.ready_at = now if due_at is None else max(now, due_at)
        entry.strikes, entry.once_key = 0, once_key
        self.sent.note(entry)
        self._queue(queue).add(entry, now)

    def take(
        self, queues: Iterable[str], limit: int, consumer: str, node: str | None, now: float
    ) -> list[Entry]:
        """Hand up to `limit` entries to `consumer` (of no node: without lease), first queue first.

        A node that was declared dead gets nothing before it renews: nobody would take it back.
        """
        if node is not None:
            if node not in self._leases:
                return []
            self._node_of[consumer] = node
        taken: list[Entry] = []
        holding = self._holdings.setdefault(consumer, {})
        for name in queues:
            queue = None if name in self.paused else self._queues.get(name)
            while queue is not None and len(taken) < limit:
                entry = queue.pop(now)
                if entry is None:
                    break
                entry.token += 1
                entry.consumer = consumer
                self._held[entry.receipt] = holding[entry.receipt] = entry
                taken.append(entry)
        return taken

    def next_at(self, queues: Iterable[str]) -> float | None:
        """Return when time alone makes something receivable (unix seconds); None: never."""
        times = [
            at
            for name in queues
            if name not in self.paused
            and (queue := self._queues.get(name)) is not None
            and (at := queue.next_at()) is not None
        ]
        return min(times, default=None)

    def holds(self, receipt: str, token: int) -> Entry | None:
        """Return what is held by `receipt`, or None where that handing-over is over."""
        entry = self._held.get(receipt)
        return entry if entry is not None and entry.token == token else None

    def drop(self, entry: Entry) -> None:
        """Remove a held entry for good."""
        self._release(entry)
        self.sent.forget(entry)

    def give_back(
        self, entry: Entry, now: float, *, delay_s: float = 0.0, struck: bool = False
    ) -> None:
        """Put a held entry at its old place."""
        self._release(entry)
        if struck:
            entry.strikes += 1
        if delay_s > 0:
            entry.ready_at = now + delay_s
        self._queue(entry.queue).add(entry, now)

    def bury(self, entry: Entry, reason: str, kind: str, details: bytes, now: float) -> None:
        """Move a held entry to the dead letters."""
        self._release(entry)
        self.sent.forget(entry)
        self._dead[entry.receipt] = DeadEntry(entry, reason, kind, details, now)

    def unbury(self, receipt: str) -> bool:
        """Remove a dead letter for good; False where it isn't there any more."""
        return self._dead.pop(receipt, None) is not None

    # -- leases -------------------------------------------------------------------------------

    def join(self, node: str, ends_at: float) -> None:
        """Give `node` a lease until the tick `ends_at`; a longer one stays."""
        self._leases[node] = max(ends_at, self._leases.get(node, ends_at))

    def renew(self, node: str, ends_at: float) -> bool:
        """Prolong a lease; False where nobody of that node has one.

        A lease that ran out unnoticed is prolonged too: nothing was taken from the node.
        """
        known = node in self._leases
        self._leases[node] = ends_at
        return known

    def held_by(self, consumer: str) -> Sequence[Entry]:
        """Return what `consumer` holds, in order of handing over."""
        return list(self._holdings.get(consumer, {}).values())

    def recover(
        self,
        consumer: str,
        now: float,
        *,
        struck: Mapping[str, float] = MappingProxyType({}),
    ) -> int:
        """Give back all that `consumer` holds and forget it; return how many.

        What is `struck` gets a strike, and is ready after so many seconds.
        """
        entries = self.held_by(consumer)
        for entry in entries:
            delay_s = struck.get(entry.receipt)
            self.give_back(entry, now, delay_s=delay_s or 0.0, struck=delay_s is not None)
        self._holdings.pop(consumer, None)
        self._node_of.pop(consumer, None)
        return len(entries)

    def expired(self, tick: float) -> list[str]:
        """Return the nodes whose lease is over."""
        return [node for node, ends_at in self._leases.items() if ends_at <= tick]

    def end(self, node: str, now: float) -> int:
        """End the lease of `node` and give back all that its consumers hold; return how many."""
        self._leases.pop(node, None)
        members = [consumer for consumer, owner in self._node_of.items() if owner == node]
        return sum(self.recover(consumer, now) for consumer in members)

    # -- looking ------------------------------------------------------------------------------

    def names(self) -> list[str]:
        """Return the names of all queues ever used, sorted."""
        return sorted(self._queues)

    def stats(self, queue: str, now: float) -> QueueStats:
        """Return how `queue` stands."""
        held = sum(entry.queue == queue for entry in self._held.values())
        dead = sum(letter.entry.queue == queue for letter in self._dead.values())
        return self._queues.get(queue, Queue()).stats(queue, now, held=held, dead=dead)

    def waiting(self, queue: str, now: float) -> Iterable[Entry]:
        """Go through what waits in `queue`, the next to be received first."""
        return self._queues.get(queue, Queue()).in_order(now)

    def count(self, queue: str) -> int:
        """Return how many wait in `queue`, the delayed included."""
        return len(self._queues.get(queue, ()))

    def purge(self, queue: str) -> int:
        """Drop all that waits in `queue`; return how many."""
        waiting = self._queues.get(queue, Queue())
        for entry in waiting:
            self.sent.forget(entry)
        return waiting.clear()

    def delayed(self, queue: str | None, now: float) -> list[Entry]:
        """Return what waits for its time, the next due first."""
        names = list(self._queues) if queue is None else [queue]
        found = [entry for name in names for entry in self._queues.get(name, Queue()).later(now)]
        return sorted(found, key=lambda entry: (entry.ready_at, entry.number))

    def promote(self, receipts: Collection[str], now: float) -> int:
        """Make ready those of `receipts` that wait for their time; return how many."""
        entries = self._pull(receipts, now)
        for entry in entries:
            entry.ready_at = now
            self._queue(entry.queue).add(entry, now)
        return len(entries)

    def drop_delayed(self, receipts: Collection[str], now: float) -> int:
        """Drop those of `receipts` that wait for their time; return how many."""
        entries = self._pull(receipts, now)
        for entry in entries:
            self.sent.forget(entry)
        return len(entries)

    def dead(self, queue: str | None) -> Iterable[DeadEntry]:
        """Go through the dead letters, newest first."""
        return (
            letter
            for letter in reversed(self._dead.values())
            if queue is None or letter.entry.queue == queue
        )

    def _queue(self, name: str) -> Queue:
        queue = self._queues.get(name)
        if queue is None:
            queue = self._queues[name] = Queue()
        return queue

    def _pull(self, receipts: Collection[str], now: float) -> list[Entry]:
        return [entry for queue in self._queues.values() for entry in queue.pull(receipts, now)]

    def _release(self, entry: Entry) -> None:
        del self._held[entry.receipt]
        if entry.consumer is not None:
            del self._holdings[entry.consumer][entry.receipt]
            entry.consumer = None
