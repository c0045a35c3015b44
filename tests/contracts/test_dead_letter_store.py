"""A broker that was lent dead letters keeps the contract as one that has its own."""

from __future__ import annotations

import pytest

from umbel.builtin.memory.broker import MemoryBroker
from umbel.builtin.memory.coordinator import MemoryCoordinator
from umbel.builtin.memory.space import Space
from umbel.clock import SYSTEM_CLOCK
from umbel.dead_letter_store import lend_dead_letters
from umbel.interfaces.broker import Broker, Capability
from umbel_testing import BrokerSuite, FakeClock


class NoDeadLetters(MemoryBroker):
    """A broker that keeps none of its own, and doesn't remember what it has sent."""

    capabilities = MemoryBroker.capabilities - {Capability.DEAD_LETTER, Capability.UNIQUE}
    send_once = Broker.send_once
    bury, dead_letters = Broker.bury, Broker.dead_letters
    drop_dead, replay = Broker.drop_dead, Broker.replay


def maker(clock):
    space = Space()

    def make():
        broker = NoDeadLetters(space, clock)
        lend_dead_letters(broker, MemoryCoordinator(space, clock), clock)
        return broker

    return make


class TestLentDeadLetters(BrokerSuite):
    @pytest.fixture
    def make_broker(self):
        return maker(SYSTEM_CLOCK)


class TestLentDeadLettersInVirtualTime(BrokerSuite):
    @pytest.fixture(autouse=True)
    def clock(self):
        self.clock = FakeClock()
        return self.clock

    @pytest.fixture
    def make_broker(self, clock):
        return maker(clock)

    def now(self):
        return self.clock.time()

    def pass_time(self, seconds):
        self.clock.advance(seconds)
