"""A broker of four methods passes the suite; one that does what it doesn't declare is caught."""

from __future__ import annotations

from functools import partial

import pytest

from umbel.builtin.memory.broker import MemoryBroker
from umbel.builtin.memory.space import Space
from umbel.clock import SYSTEM_CLOCK
from umbel.errors import CapabilityError
from umbel.interfaces.broker import Broker, Capability
from umbel_testing import BrokerSuite
from umbel_testing.mutants import failures


class FourMethodBroker(Broker):
    """The least that a broker can be, on top of another one."""

    def __init__(self, space, clock):
        self._inner, self._clock = MemoryBroker(space, clock), clock

    def send(self, messages):
        if any(one.due_at is not None and one.due_at > self._clock.time() for one in messages):
            raise CapabilityError("FourMethodBroker", Capability.DELAY)
        self._inner.send(messages)

    def receive(self, queues, *, max_messages, wait_s):
        return self._inner.receive(queues, max_messages=max_messages, wait_s=wait_s)

    def ack(self, deliveries):
        return self._inner.ack(deliveries)

    def nack(self, deliveries, *, delay_s=0.0):
        if delay_s > 0:
            raise CapabilityError("FourMethodBroker", Capability.DELAY)
        self._inner.nack(deliveries)

    def interrupt(self):
        self._inner.interrupt()


class TestFourMethodBroker(BrokerSuite):
    @pytest.fixture
    def make_broker(self):
        return partial(FourMethodBroker, Space(), SYSTEM_CLOCK)


class Lossy(FourMethodBroker):
    """Loses what it should refuse."""

    def send(self, messages):
        self._inner.send([one for one in messages if one.priority < 9])


class Early(FourMethodBroker):
    """Delivers the delayed at once."""

    def send(self, messages):
        self._inner.send([_undelayed(one) for one in messages])


def _undelayed(message):
    from msgspec.structs import replace

    return replace(message, due_at=None)


@pytest.mark.parametrize(
    "capability",
    [
        Capability.LEASE,
        Capability.INSPECT,
        Capability.PURGE,
        Capability.DEAD_LETTER,
        Capability.DELAY,
        Capability.PAUSE,
        Capability.DELAYED,
    ],
)
def test_answering_without_declaring_is_caught(capability):
    class Modest(MemoryBroker):
        capabilities = MemoryBroker.capabilities - {capability}

    found = failures(BrokerSuite, on(Modest))
    assert found
    assert {str(error) for error in found.values()} == {"DID NOT RAISE CapabilityError"}


def test_losing_messages_for_their_priority_is_caught():
    expected = {
        "test_higher_priority_goes_first",
        "test_order_of_sending_holds_within_a_priority",
        "test_receive_prefers_the_queue_named_first",
    }

    assert set(failures(BrokerSuite, on(Lossy), also=expected)) == expected


def test_early_delivery_by_a_broker_without_delays_is_caught():
    found = failures(BrokerSuite, on(Early))

    assert "test_delayed_message_waits_for_its_time" in found


def on(kind):
    def with_clock(clock):
        return partial(kind, Space(), clock)

    return with_clock
