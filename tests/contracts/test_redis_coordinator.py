"""The coordinator on Redis keeps its contract on every kind of server.

In real time on a plain one, where Redis' own expiry does it; elsewhere by a clock that the tests
move, since what differs there are connections and not time.
"""

from __future__ import annotations

from functools import partial

import pytest

from umbel.clock import SYSTEM_CLOCK
from umbel_backend_redis.coordinator import RedisCoordinator
from umbel_testing import CoordinatorSuite, FakeClock


def maker(server, clock, **options):
    return partial(RedisCoordinator, server.url, options=options, clock=clock)


class InVirtualTime(CoordinatorSuite):
    """Drives the suite by a clock of its own, so that no test waits for time to pass."""

    @pytest.fixture(autouse=True)
    def clock(self):
        self.clock = FakeClock()
        return self.clock

    def now(self):
        return self.clock.time()

    def pass_time(self, seconds):
        self.clock.advance(seconds)


class TestOnRedis(CoordinatorSuite):
    soon_s = 0.3

    @pytest.fixture
    def make_coordinator(self, redis_server):
        return maker(redis_server, SYSTEM_CLOCK)


class TestWithPasswordAndPrefix(InVirtualTime):
    @pytest.fixture
    def make_coordinator(self, clock, redis_password):
        return maker(redis_password, clock, global_keyprefix="{app}[*]:")


class TestOverTls(InVirtualTime):
    @pytest.fixture
    def make_coordinator(self, clock, redis_tls):
        return maker(redis_tls, clock)


class TestOnSentinel(InVirtualTime):
    @pytest.fixture
    def make_coordinator(self, clock, redis_sentinel):
        return maker(redis_sentinel, clock)


class TestOnCluster(InVirtualTime):
    @pytest.fixture
    def make_coordinator(self, clock, redis_cluster):
        return maker(redis_cluster, clock)
