"""``memory://`` keeps the contracts, in real time and in virtual time."""

from __future__ import annotations

from functools import partial

import pytest

from umbel.builtin.memory.backend import MemoryBackend
from umbel.builtin.memory.broker import MemoryBroker
from umbel.builtin.memory.coordinator import MemoryCoordinator
from umbel.clock import SYSTEM_CLOCK
from umbel_testing import BackendSuite, BrokerSuite, CoordinatorSuite, FakeClock


class Scope:
    """Stands for an app: what was stored in its space goes when it goes."""


class InVirtualTime:
    """Drives a suite by a clock of its own, so that no test waits for time to pass."""

    @pytest.fixture(autouse=True)
    def clock(self):
        self.clock = FakeClock()
        return self.clock

    def now(self):
        return self.clock.time()

    def pass_time(self, seconds):
        self.clock.advance(seconds)


def maker(kind, clock, scope):
    return partial(kind.from_url, "memory://", options={"_scope": scope}, clock=clock)


class TestMemoryBroker(BrokerSuite):
    @pytest.fixture
    def make_broker(self):
        return maker(MemoryBroker, SYSTEM_CLOCK, Scope())


class TestMemoryBrokerInVirtualTime(InVirtualTime, BrokerSuite):
    @pytest.fixture
    def make_broker(self, clock):
        return maker(MemoryBroker, clock, Scope())


class TestMemoryBackend(BackendSuite):
    @pytest.fixture
    def make_backend(self):
        return maker(MemoryBackend, SYSTEM_CLOCK, Scope())


class TestMemoryBackendInVirtualTime(InVirtualTime, BackendSuite):
    @pytest.fixture
    def make_backend(self, clock):
        return maker(MemoryBackend, clock, Scope())


class TestMemoryCoordinator(CoordinatorSuite):
    @pytest.fixture
    def make_coordinator(self):
        return maker(MemoryCoordinator, SYSTEM_CLOCK, Scope())


class TestMemoryCoordinatorInVirtualTime(InVirtualTime, CoordinatorSuite):
    @pytest.fixture
    def make_coordinator(self, clock):
        return maker(MemoryCoordinator, clock, Scope())
