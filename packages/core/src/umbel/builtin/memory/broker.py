"""The broker of ``memory://``: every capability but durability and other processes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import islice
from typing import Any, ClassVar, Self

import msgspec

from umbel.builtin.memory.queues import Entry
from umbel.builtin.memory.space import Space, open_space
from umbel.builtin.memory.waiting import Waiter
from umbel.clock import Clock
from umbel.errors import BrokerError
from umbel.ids import new_id
from umbel.interfaces.broker import Broker, Capability
from umbel.messages import DeadLetter, Delivery, Malformed, Message, QueueStats


class _Envelope(msgspec.Struct, frozen=True, array_like=True):
    """A message but for its queue and body, in the order of `Message`.

    Stored as JSON, as on any other broker: what can't travel is refused here too, and nobody's
    later change of a header reaches the queue.
    """

    id: str
    task: str
    headers: dict[str, Any]
    content_type: str
    content_encoding: str
    priority: int
    due_at: float | None
    expires_at: float | None
    exchange: str
    routing_key: str
    reply_to: str | None
    delivery_mode: int
    properties: dict[str, Any]


_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(_Envelope).decode


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
        raws = [_written(message) for message in messages]
        with self._changed:
            self._put(messages, raws)

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
        raws = [_written(message) for message in follow_ups]
        with self._changed:
            self._put(follow_ups, raws)
            return self._ack(deliveries)

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

    def recover_consumer(self, consumer: str, *, struck: Sequence[str] = ()) -> int:
        """Give back all that `consumer` holds; `struck` receipts get a strike."""
        with self._changed:
            given_back = self._store.recover(consumer, self._clock.time(), struck=frozenset(struck))
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
            return [_read(entry) for entry in islice(entries, offset, offset + limit)]

    def purge(self, queue: str) -> int:
        """Drop all that waits in `queue`; returns how many."""
        with self._changed:
            return self._store.purge(queue)

    # -- DEAD_LETTER --------------------------------------------------------------------------

    def bury(self, deliveries: Sequence[tuple[Delivery, str]]) -> None:
        """Move each delivery to the dead letters; what isn't held any more is passed over."""
        with self._changed:
            for delivery, reason in deliveries:
                entry = self._store.holds(delivery.receipt, delivery.token)
                if entry is not None:
                    self._store.bury(entry, reason, self._clock.time())

    def dead_letters(
        self, queue: str | None = None, *, limit: int = 100, offset: int = 0
    ) -> Sequence[DeadLetter]:
        """Return dead letters, newest first."""
        with self._changed:
            return [
                DeadLetter(
                    message=_read(letter.entry),
                    queue=letter.entry.queue,
                    reason=letter.reason,
                    died_at=letter.died_at,
                    deliveries=letter.entry.token,
                    receipt=letter.entry.receipt,
                )
                for letter in islice(self._store.dead(queue), offset, offset + limit)
            ]

    # -- with the lock held -------------------------------------------------------------------

    def _put(self, messages: Sequence[Message], raws: Sequence[bytes]) -> None:
        now = self._clock.time()
        for message, raw in zip(messages, raws, strict=True):
            self._store.put(
                raw,
                message.body,
                message.queue,
                now,
                priority=message.priority,
                due_at=message.due_at,
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
        return lost


def _written(message: Message) -> bytes:
    try:
        return _encode(
            _Envelope(
                message.id,
                message.task,
                message.headers,
                message.content_type,
                message.content_encoding,
                message.priority,
                message.due_at,
                message.expires_at,
                message.exchange,
                message.routing_key,
                message.reply_to,
                message.delivery_mode,
                message.properties,
            )
        )
    except (TypeError, ValueError, OverflowError, RecursionError) as error:
        raise BrokerError(
            f"message {message.id!r} of task {message.task!r} can't be sent, since its headers or "
            f"properties aren't JSON: {error}"
        ) from error


def _read(entry: Entry) -> Message | Malformed:
    try:
        envelope = _decode(entry.raw)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        return Malformed(raw=entry.raw, reason=f"not a message of this broker: {error}")
    return Message(
        id=envelope.id,
        task=envelope.task,
        queue=entry.queue,
        headers=envelope.headers,
        body=entry.body,
        content_type=envelope.content_type,
        content_encoding=envelope.content_encoding,
        priority=envelope.priority,
        due_at=envelope.due_at,
        expires_at=envelope.expires_at,
        exchange=envelope.exchange,
        routing_key=envelope.routing_key,
        reply_to=envelope.reply_to,
        delivery_mode=envelope.delivery_mode,
        properties=envelope.properties,
    )


def _delivery(entry: Entry) -> Delivery:
    return Delivery(
        message=_read(entry),
        queue=entry.queue,
        receipt=entry.receipt,
        token=entry.token,
        strikes=entry.strikes,
    )
