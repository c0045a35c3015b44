"""The broker of ``memory://``: every capability but durability and other processes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import islice
from types import MappingProxyType
from typing import Any, ClassVar, Self

from umbel.builtin.details import read_details, write_details
from umbel.builtin.memory.envelopes import read, written
from umbel.builtin.memory.once import check_room, sort, unsent
from umbel.builtin.memory.queues import Entry
from umbel.builtin.memory.space import Space, open_space
from umbel.builtin.memory.waiting import Waiter
from umbel.clock import Clock
from umbel.ids import new_id
from umbel.interfaces.broker import Broker, Capability
from umbel.messages import (
    Burial,
    DeadLetter,
    Delayed,
    Delivery,
    Malformed,
    Message,
    OnConflict,
    QueueStats,
)


class MemoryBroker(Broker):
    """A handle on the queues of a space.

    A handle that receives without `join` holds without a lease, until it is closed.
    """

    capabilities: ClassVar[frozenset[Capability]] = frozenset(
        {
            Capability.DELAY,
            Capability.PRIORITY,
            Capability.LEASE,
            Capability.INSPECT,
            Capability.PURGE,
            Capability.DEAD_LETTER,
            Capability.ATOMIC_SETTLE,
            Capability.UNIQUE,
            Capability.BOUNDED,
            Capability.PAUSE,
            Capability.DELAYED,
        }
    )

    def __init__(self, space: Space, clock: Clock) -> None:
        self._store = space.messages
        self._changed = self._store.changed
        self._clock = clock
        self._waiter = Waiter(self._changed, clock)
        self._node: str | None = None
        self._consumer = new_id()

    @classmethod
    def from_url(cls, url: str, *, options: Mapping[str, Any], clock: Clock) -> Self:
        """Return a handle on what `url` names. Raises: ConfigError."""
        return cls(open_space(url, options), clock)

    def send(self, messages: Sequence[Message]) -> None:
        """Store `messages`, all or none. Raises: BrokerError: one can't be encoded."""
        raws = [written(message) for message in messages]
        with self._changed:
            if self.bounds:
                self._check_room(messages)
            self._put(messages, raws)

    def send_once(
        self, messages: Sequence[Message], *, on_conflict: OnConflict = OnConflict.RETURN
    ) -> Sequence[str]:
        """Store those of `messages` that aren't known yet.

        What was purged, or is with the dead letters, isn't known.
        """
        raws = [written(message) for message in messages]
        with self._changed:
            now, sent = self._clock.time(), self._store.sent
            found = sort(sent, messages, now, OnConflict(on_conflict))
            new = [messages[index] for index in found.new]
            moved = [
                messages[index]
                for entry, index in found.replaced
                if entry.queue != messages[index].queue
            ]
            self._check_room([*new, *moved])
            self._put(new, [raws[index] for index in found.new], once=True)
            for entry, index in found.replaced:
                message = messages[index]
                self._store.replace(
                    entry,
                    raws[index],
                    message.body,
                    message.queue,
                    now,
                    priority=message.priority,
                    due_at=message.due_at,
                    once_key=message.once_key,
                )
            return found.known

    def send_raw(self, queue: str, raw: bytes) -> None:
        """Put bytes into `queue` as they are, as a foreign or broken sender might."""
        with self._changed:
            self._store.put(raw, b"", queue, self._clock.time())
            self._changed.notify_all()

    def receive(
        self, queues: Sequence[str], *, max_messages: int, wait_s: float
    ) -> Sequence[Delivery]:
        """Take up to `max_messages`, waiting at most `wait_s` seconds for the first."""
        if not queues:
            raise ValueError("receive needs the name of at least one queue")
        if max_messages < 1:
            raise ValueError(f"max_messages={max_messages!r} must be 1 or more")

        def take() -> list[Delivery]:
            entries = self._store.take(
                queues, max_messages, self._consumer, self._node, self._clock.time()
            )
            return [_delivery(entry) for entry in entries]

        def next_in() -> float | None:
            at = self._store.next_at(queues)
            return None if at is None else at - self._clock.time()

        return self._waiter.wait_for(take, timeout_s=wait_s, next_in=next_in)

    def ack(self, deliveries: Sequence[Delivery]) -> Sequence[Delivery]:
        """Remove `deliveries` for good; returns those that were not held any more."""
        with self._changed:
            return self._ack(deliveries)

    def nack(self, deliveries: Sequence[Delivery], *, delay_s: float = 0.0) -> None:
        """Give `deliveries` back, at their old place, to be received after `delay_s`."""
        with self._changed:
            now = self._clock.time()
            for delivery in deliveries:
                entry = self._store.holds(delivery.receipt, delivery.token)
                if entry is not None:
                    self._store.give_back(entry, now, delay_s=delay_s)
            self._changed.notify_all()

    def settle(
        self, deliveries: Sequence[Delivery], follow_ups: Sequence[Message]
    ) -> Sequence[Delivery]:
        """Send `follow_ups` and ack `deliveries`, both or neither."""
        raws = [written(message) for message in follow_ups]
        with self._changed:
            new: list[int] = []
            if follow_ups:
                new = unsent(self._store.sent, follow_ups, self._clock.time())
            lost = self._ack(deliveries)
            self._put(
                [follow_ups[index] for index in new], [raws[index] for index in new], once=True
            )
            return lost

    def interrupt(self) -> None:
        """End the waiting `receive` calls of this handle, or else its next one that would wait."""
        self._waiter.interrupt()

    def close(self) -> None:
        """End waiting calls; without a lease, give back what is held. Repeatable."""
        self.interrupt()
        if self._node is None:
            self.recover_consumer(self._consumer)

    # -- LEASE --------------------------------------------------------------------------------

    def join(self, node: str, consumer: str, *, lease_s: float) -> None:
        """Say who receives through this handle."""
        with self._changed:
            self._node, self._consumer = node, consumer
            self._store.join(node, self._clock.monotonic() + lease_s)

    def renew(self, node: str, *, lease_s: float) -> bool:
        """Prolong the node's lease; False where it was taken over, or never began.

        A lease that ran out while nobody looked is prolonged, and all stays held: the store
        knows that nothing was taken, so a jump of a test's clock costs a live worker nothing.
        """
        with self._changed:
            known = self._store.renew(node, self._clock.monotonic() + lease_s)
            if not known:
                self._changed.notify_all()
            return known

    def held(self, consumer: str) -> Sequence[Delivery]:
        """Return what `consumer` holds, in order of handing over."""
        with self._changed:
            return [_delivery(entry) for entry in self._store.held_by(consumer)]

    def recover_consumer(
        self, consumer: str, *, struck: Mapping[str, float] = MappingProxyType({})
    ) -> int:
        """Give back all that `consumer` holds; `struck` receipts get a strike and a delay."""
        with self._changed:
            given_back = self._store.recover(consumer, self._clock.time(), struck=struck)
            self._changed.notify_all()
            return given_back

    def recover_expired(self) -> int:
        """Give back all that nodes with an expired lease hold, without strikes."""
        with self._changed:
            nodes = self._store.expired(self._clock.monotonic())
            given_back = sum(self._store.end(node, self._clock.time()) for node in nodes)
            if given_back:
                self._changed.notify_all()
            return given_back

    def leave(self, node: str) -> None:
        """End the node's lease and give back all that its consumers still hold."""
        with self._changed:
            self._store.end(node, self._clock.time())
            self._changed.notify_all()

    # -- INSPECT, PURGE -----------------------------------------------------------------------

    def queues(self) -> Sequence[str]:
        """Return the names of all queues that hold or held messages, sorted."""
        with self._changed:
            return self._store.names()

    def stats(self, queue: str) -> QueueStats:
        """Return how `queue` stands."""
        with self._changed:
            return self._store.stats(queue, self._clock.time())

    def peek(
        self, queue: str, *, limit: int = 10, offset: int = 0
    ) -> Sequence[Message | Malformed]:
        """Return waiting messages, next to be received first, those of later at the end."""
        with self._changed:
            entries = self._store.waiting(queue, self._clock.time())
            return [read(entry) for entry in islice(entries, offset, offset + limit)]

    def purge(self, queue: str) -> int:
        """Drop all that waits in `queue`; returns how many."""
        with self._changed:
            return self._store.purge(queue)

    # -- DELAYED, PAUSE -----------------------------------------------------------------------

    def delayed(
        self, queue: str | None = None, *, limit: int = 100, offset: int = 0
    ) -> Sequence[Delayed]:
        """Return what waits for its time, the next due first."""
        with self._changed:
            entries = self._store.delayed(queue, self._clock.time())
            return [
                Delayed(
                    message=read(entry),
                    queue=entry.queue,
                    due_at=entry.ready_at,
                    receipt=entry.receipt,
                )
                for entry in entries[offset : offset + limit]
            ]

    def promote(self, receipts: Sequence[str]) -> int:
        """Make delayed messages ready now; returns how many."""
        with self._changed:
            promoted = self._store.promote(frozenset(receipts), self._clock.time())
            if promoted:
                self._changed.notify_all()
            return promoted

    def drop_delayed(self, receipts: Sequence[str]) -> int:
        """Remove delayed messages for good; returns how many."""
        with self._changed:
            return self._store.drop_delayed(frozenset(receipts), self._clock.time())

    def pause(self, queue: str) -> None:
        """Hand out nothing of `queue` until `resume`. A consumer that waits gets nothing more."""
        with self._changed:
            self._store.paused.add(queue)

    def resume(self, queue: str) -> None:
        """Hand out messages of `queue` again."""
        with self._changed:
            self._store.paused.discard(queue)
            self._changed.notify_all()

    def paused(self) -> Sequence[str]:
        """Return the names of the queues that are paused, sorted."""
        with self._changed:
            return sorted(self._store.paused)

    # -- DEAD_LETTER --------------------------------------------------------------------------

    def bury(self, burials: Sequence[Burial]) -> None:
        """Move each delivery to the dead letters; what isn't held any more is passed over."""
        details = [write_details(burial) for burial in burials]
        with self._changed:
            for each, known in zip(burials, details, strict=True):
                entry = self._store.holds(each.delivery.receipt, each.delivery.token)
                if entry is not None:
                    self._store.bury(entry, each.reason, each.kind, known, self._clock.time())

    def dead_letters(
        self, queue: str | None = None, *, limit: int = 100, offset: int = 0
    ) -> Sequence[DeadLetter]:
        """Return dead letters, newest first."""
        with self._changed:
            return [
                DeadLetter(
                    message=read(letter.entry),
                    queue=letter.entry.queue,
                    reason=letter.reason,
                    kind=letter.kind,
                    details=read_details(letter.details),
                    died_at=letter.died_at,
                    deliveries=letter.entry.token,
                    receipt=letter.entry.receipt,
                )
                for letter in islice(self._store.dead(queue), offset, offset + limit)
            ]

    def drop_dead(self, receipts: Sequence[str]) -> int:
        """Remove dead letters for good; returns how many."""
        with self._changed:
            return sum(self._store.unbury(receipt) for receipt in receipts)

    def replay(self, replays: Sequence[tuple[str, Message]]) -> Sequence[str]:
        """Send a message in the place of each dead letter; returns the receipts of no letter."""
        raws = [written(message) for _, message in replays]
        with self._changed:
            gone: list[str] = []
            for (receipt, message), raw in zip(replays, raws, strict=True):
                if self._store.unbury(receipt):
                    self._put([message], [raw])
                else:
                    gone.append(receipt)
            return gone

    # -- with the lock held -------------------------------------------------------------------

    def _check_room(self, messages: Iterable[Message]) -> None:
        queues = [message.queue for message in messages]
        check_room(self.bounds, queues, self._store.count)

    def _put(
        self, messages: Sequence[Message], raws: Sequence[bytes], *, once: bool = False
    ) -> None:
        now = self._clock.time()
        for message, raw in zip(messages, raws, strict=True):
            self._store.put(
                raw,
                message.body,
                message.queue,
                now,
                priority=message.priority,
                due_at=message.due_at,
                id=message.id,
                once_key=message.once_key if once else None,
            )
        self._changed.notify_all()

    def _ack(self, deliveries: Sequence[Delivery]) -> list[Delivery]:
        lost = []
        for delivery in deliveries:
            entry = self._store.holds(delivery.receipt, delivery.token)
            if entry is None:
                lost.append(delivery)
            else:
                self._store.drop(entry)
                if entry.once_key is not None:
                    self._store.sent.finish(entry, self._clock.time(), self.once_window_s)
        return lost


def _delivery(entry: Entry) -> Delivery:
    return Delivery(
        message=read(entry),
        queue=entry.queue,
        receipt=entry.receipt,
        token=entry.token,
        strikes=entry.strikes,
    )
