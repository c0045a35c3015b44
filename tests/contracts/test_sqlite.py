"""``sqlite://`` keeps the contracts, in real time and in virtual time."""

from __future__ import annotations

from functools import partial

import pytest

from umbel.builtin.sqlite.backend import SqliteBackend
from umbel.builtin.sqlite.broker import SqliteBroker
from umbel.builtin.sqlite.coordinator import SqliteCoordinator
from umbel.clock import SYSTEM_CLOCK
from umbel_testing import BackendSuite, BrokerSuite, CoordinatorSuite, FakeClock


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


def maker(kind, clock, folder):
    return partial(kind, f"sqlite:///{folder}/contract.db", options={}, clock=clock)


class TestSqliteBroker(BrokerSuite):
    @pytest.fixture
    def make_broker(self, tmp_path):
        return maker(SqliteBroker, SYSTEM_CLOCK, tmp_path)


class TestSqliteBrokerInVirtualTime(InVirtualTime, BrokerSuite):
    @pytest.fixture
    def make_broker(self, clock, tmp_path):
        return maker(SqliteBroker, clock, tmp_path)


class TestSqliteBackend(BackendSuite):
    @pytest.fixture
    def make_backend(self, tmp_path):
        return maker(SqliteBackend, SYSTEM_CLOCK, tmp_path)


class TestSqliteBackendInVirtualTime(InVirtualTime, BackendSuite):
    @pytest.fixture
    def make_backend(self, clock, tmp_path):
        return maker(SqliteBackend, clock, tmp_path)


class TestSqliteCoordinator(CoordinatorSuite):
    @pytest.fixture
    def make_coordinator(self, tmp_path):
        return maker(SqliteCoordinator, SYSTEM_CLOCK, tmp_path)


class TestSqliteCoordinatorInVirtualTime(InVirtualTime, CoordinatorSuite):
    @pytest.fixture
    def make_coordinator(self, clock, tmp_path):
        return maker(SqliteCoordinator, clock, tmp_path)
