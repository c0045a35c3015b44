"""The contract of a broker: four methods over batches, and declared capabilities.

A broker handle belongs to one process. Its methods may be called from several threads at once.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from enum import StrEnum
from types import MappingProxyType
from typing import Any, ClassVar, Protocol

from umbel.clock import Clock
from umbel.errors import CapabilityError
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


class Capability(StrEnum):
    """What a broker can do beyond the four methods. Declared, never probed."""

    #: Honours `Message.due_at` for any time ahead, and ``nack(delay_s=…)``.
    DELAY = "delay"
    #: Honours `Message.priority` inside a queue.
    PRIORITY = "priority"
    #: Deliveries belong to a node lease: `join`, `renew`, `held`, `recover_*`.
    LEASE = "lease"
    #: `stats`, `peek`, `queues`.
    INSPECT = "inspect"
    #: `purge`.
    PURGE = "purge"
    #: `bury`, `dead_letters`, `drop_dead`, `replay`. A broker without it and without UNIQUE is
    #: lent them by the app, which keeps dead letters with the coordinator.
    DEAD_LETTER = "dead_letter"
    #: `settle` is atomic: follow-ups are sent and deliveries acknowledged, or neither.
    ATOMIC_SETTLE = "atomic_settle"
    #: Messages outlive the processes that use it.
    DURABLE = "durable"
    #: Messages reach other processes.
    SHARED = "shared"
    #: `send_once`, and `settle` sends each follow-up once.
    UNIQUE = "unique"
    #: `send` and `send_once` keep to `bounds`.
    BOUNDED = "bounded"
    #: `pause`, `resume`, `paused`.
    PAUSE = "pause"
    #: `delayed`, `promote`, `drop_delayed`.
    DELAYED = "delayed"


class Broker(ABC):
    """Takes messages in, hands them out, and keeps each until it is acknowledged.

    At least once: a delivery may come again after a crash or an expired lease.
    """

    capabilities: ClassVar[frozenset[Capability]] = frozenset()

    #: Seconds that a message sent once is remembered after the broker is done with it.
    once_window_s: float = 600.0
    #: By queue: how many messages may wait in it, the delayed included. Others have no bound.
    bounds: Mapping[str, int] = MappingProxyType({})

    def configure(self, *, once_window_s: float, bounds: Mapping[str, int]) -> None:
        """Take what the app's settings say of every handle; called before its first use."""
        self.once_window_s, self.bounds = once_window_s, dict(bounds)

    @abstractmethod
    def send(self, messages: Sequence[Message]) -> None:
        """Store `messages`, all or none where the store can; return once they are durable.

        Args:
            messages: May be for different queues; an empty sequence does nothing.
        Raises:
            BrokerUnavailableError: nothing was stored, as far as one can tell; the call may be
                repeated. Under UNIQUE, `send_once` recognises what was stored all the same.
            QueueFullError: under BOUNDED, a queue would hold more than its bound; nothing was
                stored.
            BrokerError: refused; repeating won't help.
        """

    @abstractmethod
    def receive(
        self, queues: Sequence[str], *, max_messages: int, wait_s: float
    ) -> Sequence[Delivery]:
        """Take up to `max_messages`, waiting at most `wait_s` seconds for the first.

        A higher priority goes first under PRIORITY; within one priority the order is that of
        sending, as far as the store can. What is malformed is delivered too, as `Malformed`.

        Args:
            queues: Names in order of preference; not empty.
            max_messages: 1 or more. Fewer may come even if more are waiting.
            wait_s: 0 looks once. Returns within `wait_s` plus one second. `interrupt` ends it.
        Returns: Deliveries in order; empty when nothing came.
        Raises: BrokerUnavailableError: the connection is down; the caller tries again later.
        """

    @abstractmethod
    def ack(self, deliveries: Sequence[Delivery]) -> Sequence[Delivery]:
        """Remove `deliveries` for good.

        Returns: Those that were not held any more (the fencing token is older than the
            store's): somebody else has them. Empty in the ordinary case.
        Raises: BrokerUnavailableError: unknown whether it was done; the call may be repeated.
        """

    @abstractmethod
    def nack(self, deliveries: Sequence[Delivery], *, delay_s: float = 0.0) -> None:
        """Give `deliveries` back unrun, at their old place, to be received after `delay_s`.

        What isn't held any more is passed over. A `delay_s` above 0 needs DELAY.
        """

    def close(self) -> None:
        """Free connections. Held deliveries stay held until their lease ends. Repeatable."""

    def interrupt(self) -> None:
        """Make a `receive` that waits in another thread return at once, empty."""

    def check(self) -> None:
        """Raise BrokerError where the broker can't be used: unreachable, foreign, read-only."""

    # -- settling -----------------------------------------------------------------------------

    def settle(
        self, deliveries: Sequence[Delivery], follow_ups: Sequence[Message]
    ) -> Sequence[Delivery]:
        """Send `follow_ups`, then ack `deliveries`; one transaction under ATOMIC_SETTLE.

        No bound of a queue applies. Under UNIQUE, follow-ups that are known are passed over.

        Returns: as `ack`. Under ATOMIC_SETTLE nothing is told apart by message: all
            `follow_ups` are sent even where a delivery was lost.
        """
        if follow_ups:
            self.send(follow_ups)
        return self.ack(deliveries)

    def settle_and_receive(
        self,
        deliveries: Sequence[Delivery],
        follow_ups: Sequence[Message],
        queues: Sequence[str],
        *,
        max_messages: int,
    ) -> tuple[Sequence[Delivery], Sequence[Delivery]]:
        """Do as `settle`, then take up to `max_messages` of what is there, as `receive` does.

        To be overridden by a broker that can do both in one exchange, for a consumer that is
        about to ask for more anyway. It doesn't wait, and may take nothing though something is
        there: here it never takes anything.

        Returns: What `settle` returns, and what was taken.
        Raises: as `settle`. What was taken all the same is told by `held`.
        """
        return self.settle(deliveries, follow_ups), ()

    # -- UNIQUE -------------------------------------------------------------------------------

    def send_once(
        self, messages: Sequence[Message], *, on_conflict: OnConflict = OnConflict.RETURN
    ) -> Sequence[str]:
        """Store those of `messages` that aren't known yet, in one atomic step.

        Known is a message of the same `Message.once_key` that was sent by `send_once` or as a
        follow-up of `settle`: while it is in the broker, and for `once_window_s` afterwards.
        What is with the dead letters isn't in the broker. One that is twice in `messages` counts
        once.

        Returns: Ids of the known ones, in order: under RETURN they were passed over.
        Raises:
            AlreadySentError: some are known under RAISE, or are with a worker under REPLACE;
                nothing was stored.
            Others as `send`.
        """
        self._need(Capability.UNIQUE)
        return ()

    # -- LEASE --------------------------------------------------------------------------------

    def join(self, node: str, consumer: str, *, lease_s: float) -> None:
        """Say who receives through this handle; before the first `receive`.

        Args:
            node: Unique id of the worker node (not its display name); renewed by `renew`.
            consumer: Unique id of the process within all nodes, new at each start.
            lease_s: Seconds that the node's lease lasts without renewal.
        """
        self._need(Capability.LEASE)

    def renew(self, node: str, *, lease_s: float) -> bool:
        """Prolong the node's lease.

        Returns: False where it had run out, so that others may have taken over: it is valid
            again from now, but what was held before may not be held any more.
        """
        self._need(Capability.LEASE)
        return False

    def held(self, consumer: str) -> Sequence[Delivery]:
        """Return what the store thinks that `consumer` holds."""
        self._need(Capability.LEASE)
        return ()

    def recover_consumer(
        self, consumer: str, *, struck: Mapping[str, float] = MappingProxyType({})
    ) -> int:
        """Give back all that a dead `consumer` holds; returns how many.

        Args:
            struck: Receipts of what was running: these get a strike, and are received again
                after so many seconds (above 0 under DELAY).
        """
        self._need(Capability.LEASE)
        return 0

    def recover_expired(self) -> int:
        """Give back all that nodes with an expired lease hold; returns how many.

        Each gets a strike only where the store knows that it was running.
        """
        self._need(Capability.LEASE)
        return 0

    def leave(self, node: str) -> None:
        """End the node's lease and give back all that its consumers still hold."""
        self._need(Capability.LEASE)

    # -- INSPECT, PURGE -----------------------------------------------------------------------

    def queues(self) -> Sequence[str]:
        """Return the names of all queues that hold or held messages, sorted."""
        self._need(Capability.INSPECT)
        return ()

    def stats(self, queue: str) -> QueueStats:
        """Return how `queue` stands; an unknown queue is empty."""
        self._need(Capability.INSPECT)
        return QueueStats(name=queue)

    def peek(
        self, queue: str, *, limit: int = 10, offset: int = 0
    ) -> Sequence[Message | Malformed]:
        """Return waiting messages, next to be received first, without taking them."""
        self._need(Capability.INSPECT)
        return ()

    def purge(self, queue: str) -> int:
        """Drop all that waits in `queue`, the delayed included; returns how many."""
        self._need(Capability.PURGE)
        return 0

    # -- DELAYED ------------------------------------------------------------------------------

    def delayed(
        self, queue: str | None = None, *, limit: int = 100, offset: int = 0
    ) -> Sequence[Delayed]:
        """Return what waits for its time, next due first; of all queues where `queue` is None."""
        self._need(Capability.DELAYED)
        return ()

    def promote(self, receipts: Sequence[str]) -> int:
        """Make delayed messages ready now, named by `Delayed.receipt`; returns how many.

        A worker runs what it is handed before its `Message.due_at`, but holds what has only an
        ``eta`` among its headers: of a promoted message, `due_at` is never None beside an ``eta``.
        """
        self._need(Capability.DELAYED)
        return 0

    def drop_delayed(self, receipts: Sequence[str]) -> int:
        """Remove delayed messages for good, named by `Delayed.receipt`; returns how many."""
        self._need(Capability.DELAYED)
        return 0

    # -- PAUSE --------------------------------------------------------------------------------

    def pause(self, queue: str) -> None:
        """Hand out nothing of `queue` any more, to any consumer, until `resume`. Repeatable.

        It outlives restarts under DURABLE. What is held goes on, and sending does. A consumer
        that waits for `queue` at this moment may be handed one message more.
        """
        self._need(Capability.PAUSE)

    def resume(self, queue: str) -> None:
        """Hand out messages of `queue` again, also to those who wait for it now. Repeatable."""
        self._need(Capability.PAUSE)

    def paused(self) -> Sequence[str]:
        """Return the names of the queues that are paused, sorted."""
        self._need(Capability.PAUSE)
        return ()

    # -- DEAD_LETTER --------------------------------------------------------------------------

    def bury(self, burials: Sequence[Burial]) -> None:
        """Move each delivery to the dead letters of its queue; what isn't held is passed over."""
        self._need(Capability.DEAD_LETTER)

    def dead_letters(
        self, queue: str | None = None, *, limit: int = 100, offset: int = 0
    ) -> Sequence[DeadLetter]:
        """Return dead letters, newest first; of all queues where `queue` is None."""
        self._need(Capability.DEAD_LETTER)
        return ()

    def drop_dead(self, receipts: Sequence[str]) -> int:
        """Remove dead letters for good, named by `DeadLetter.receipt`; returns how many."""
        self._need(Capability.DEAD_LETTER)
        return 0

    def replay(self, replays: Sequence[tuple[str, Message]]) -> Sequence[str]:
        """Send a message in the place of each dead letter: one goes as the other comes.

        No bound of a queue applies.

        Args:
            replays: The receipt of a dead letter, and what to send.
        Returns: Receipts that weren't there any more: their messages weren't sent.
        """
        self._need(Capability.DEAD_LETTER)
        return ()

    def _need(self, capability: Capability) -> None:
        """Raise CapabilityError unless a subclass declares (and so overrides) `capability`."""
        raise CapabilityError(type(self).__name__, capability)


class BrokerFactory(Protocol):
    """Makes a broker handle for this process. Opens nothing before its first use."""

    def __call__(self, url: str, *, options: Mapping[str, Any], clock: Clock) -> Broker:
        """Return the broker that `url` names.

        Args:
            url: As the user wrote it, password included.
            options: ``broker_transport_options``.
            clock: Where to read the time.
        Raises: ConfigError: the URL or an option is wrong.
        """
