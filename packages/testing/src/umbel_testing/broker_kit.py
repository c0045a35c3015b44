"""What the parts of `BrokerSuite` share: handles, receiving, and what is not declared."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Sequence
from typing import Any, ClassVar, TypeVar

import pytest

from umbel.errors import BrokerError, CapabilityError
from umbel.interfaces.broker import Broker, Capability
from umbel.messages import Delivery, Malformed, Message, OnConflict
from umbel_testing.kit import Running, Suite, missing_fixture
from umbel_testing.samples import message

#: How long a handle's lease lasts where the test is about something else.
_AMPLE_LEASE_S = 3600.0

K = TypeVar("K", bound="BrokerKit")


class BrokerKit(Suite):
    """Base of the parts of `BrokerSuite`."""

    #: Seconds of the leases that tests wait out. Raise it for a slow or coarse store.
    lease_s: ClassVar[float] = 1.0

    _make: Callable[[], Broker]
    _handles: list[Broker]

    @pytest.fixture
    def make_broker(self) -> Callable[[], Broker]:
        """Return a function that makes a new handle, each on the same store. To be overridden."""
        missing_fixture(self, "make_broker", "a function that makes a handle on one store")

    @pytest.fixture(autouse=True)
    def _with_broker(self, make_broker: Callable[[], Broker]) -> Iterator[None]:
        self.begin(make_broker)
        yield
        self.end()

    def begin(self, make_broker: Callable[[], Broker]) -> None:
        """Set up a test; the fixture does it."""
        self._make, self._handles = make_broker, []

    def end(self) -> None:
        """Close all handles of a test."""
        for handle in reversed(self._handles):
            handle.close()

    def raw_handle(self) -> Broker:
        """Return a new handle that has not joined."""
        handle = self._make()
        self._handles.append(handle)
        return handle

    def open(
        self,
        *,
        node: str | None = None,
        consumer: str | None = None,
        lease_s: float = _AMPLE_LEASE_S,
    ) -> Broker:
        """Return a new handle, ready to receive: joined where leases are declared."""
        handle = self.raw_handle()
        if Capability.LEASE in handle.capabilities:
            handle.join(
                node or self.unique("node"), consumer or self.unique("consumer"), lease_s=lease_s
            )
        return handle

    def take(self, broker: Broker, queues: str | Sequence[str], count: int) -> list[Delivery]:
        """Receive exactly `count` deliveries, in as many steps as it takes."""
        names = [queues] if isinstance(queues, str) else list(queues)
        taken: list[Delivery] = []

        def enough() -> bool:
            taken.extend(
                broker.receive(names, max_messages=max(1, count - len(taken)), wait_s=0.02)
            )
            return len(taken) >= count

        self.eventually(enough)
        assert len(taken) == count
        return taken

    def assert_nothing(self, broker: Broker, *queues: str) -> None:
        """Look once, and find nothing."""
        assert [*broker.receive(list(queues), max_messages=10, wait_s=0)] == []

    def assert_not_before(self, due_at: float, broker: Broker, queue: str) -> None:
        """Look once; what comes must not come before `due_at`."""
        early = broker.receive([queue], max_messages=10, wait_s=0)
        assert not early or self.now() >= due_at

    def receiving(
        self, broker: Broker, queue: str, *, wait_s: float = 60.0
    ) -> Running[Sequence[Delivery]]:
        """Receive in another thread; returns once that is under way."""
        running = Running(lambda: broker.receive([queue], max_messages=10, wait_s=wait_s))
        running.goes_on()  # so that it waits already, as far as one can tell
        return running

    def assert_refused(self, capability: Capability) -> None:
        """Check that what isn't declared is refused by name, or does no harm."""
        broker, queue = self.raw_handle(), self.unique("refused")
        for call in _CALLS.get(capability, ()):
            with pytest.raises(CapabilityError):
                call(broker, queue)
        if capability is Capability.DELAY:
            self._assert_never_early(broker, queue)
        if capability is Capability.BOUNDED:
            broker.configure(once_window_s=600.0, bounds={queue: 1})
            broker.send([message(queue) for _ in range(3)])
            self.take(broker, queue, 3)
        if capability is Capability.PRIORITY:
            broker.send([message(queue, priority=priority) for priority in (0, 9, 5)])
            self.take(broker, queue, 3)

    def _assert_never_early(self, broker: Broker, queue: str) -> None:
        broker.send([message(queue)])
        held = self.take(broker, queue, 1)
        with pytest.raises(CapabilityError):
            broker.nack(held, delay_s=60.0)
        broker.ack(held)
        try:
            broker.send([message(queue, due_at=self.now() + 3600)])
        except (BrokerError, CapabilityError):
            return
        self.assert_nothing(broker, queue)


_CALLS: dict[Capability, tuple[Callable[[Broker, str], object], ...]] = {
    Capability.LEASE: (
        lambda broker, _: broker.join("kit-node", "kit-consumer", lease_s=60.0),
        lambda broker, _: broker.renew("kit-node", lease_s=60.0),
        lambda broker, _: broker.held("kit-consumer"),
        lambda broker, _: broker.recover_consumer("kit-consumer"),
        lambda broker, _: broker.recover_expired(),
        lambda broker, _: broker.leave("kit-node"),
    ),
    Capability.INSPECT: (
        lambda broker, _: broker.queues(),
        lambda broker, queue: broker.stats(queue),
        lambda broker, queue: broker.peek(queue),
    ),
    Capability.PURGE: (lambda broker, queue: broker.purge(queue),),
    Capability.PAUSE: (
        lambda broker, queue: broker.pause(queue),
        lambda broker, queue: broker.resume(queue),
        lambda broker, _: broker.paused(),
    ),
    Capability.DELAYED: (
        lambda broker, _: broker.delayed(),
        lambda broker, _: broker.promote(["kit"]),
        lambda broker, _: broker.drop_delayed(["kit"]),
    ),
    Capability.DEAD_LETTER: (
        lambda broker, _: broker.bury([]),
        lambda broker, _: broker.dead_letters(),
        lambda broker, _: broker.drop_dead(["kit"]),
        lambda broker, queue: broker.replay([("kit", message(queue))]),
    ),
    Capability.UNIQUE: (
        lambda broker, queue: broker.send_once([message(queue)]),
        lambda broker, queue: broker.send_once([message(queue)], on_conflict=OnConflict.RAISE),
    ),
}


def needs(*capabilities: Capability) -> Callable[[Callable[[K], None]], Callable[[K], None]]:
    """Mark a test of `capabilities`: where one isn't declared, it checks the refusal instead."""

    def decorate(test: Callable[[K], None]) -> Callable[[K], None]:
        @functools.wraps(test)
        def run(self: K) -> None:
            declared = self.raw_handle().capabilities
            missing = [capability for capability in capabilities if capability not in declared]
            if missing:
                self.assert_refused(missing[0])
            else:
                test(self)

        return run

    return decorate


def ids(deliveries: Sequence[Delivery]) -> list[str]:
    """Return the message ids of `deliveries`, in order."""
    return [message_of(delivery).id for delivery in deliveries]


def message_of(delivery: Delivery) -> Message:
    """Return the message of a delivery that must be readable."""
    assert not isinstance(delivery.message, Malformed), delivery.message.reason
    return delivery.message


def peeked(messages: Sequence[Message | Malformed]) -> list[str]:
    """Return the ids of peeked messages, in order."""
    return [found.id for found in messages if isinstance(found, Message)]


def sent(broker: Broker, queue: str, count: int, **changes: Any) -> list[Message]:
    """Send `count` messages to `queue` and return them."""
    messages = [message(queue, **changes) for _ in range(count)]
    broker.send(messages)
    return messages
