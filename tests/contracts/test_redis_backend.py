"""The Redis backend keeps its contract, on a server of each kind.

In real time on a plain one. Elsewhere keys are made to expire as if time had passed, since what
differs there are connections and not time.
"""

from __future__ import annotations

import pytest

from umbel.clock import SYSTEM_CLOCK
from umbel_backend_redis.backend import RedisBackend
from umbel_testing import BackendSuite


def maker(server):
    return lambda: RedisBackend(server.url, options={}, clock=SYSTEM_CLOCK)


class WithoutWaiting(BackendSuite):
    """Makes keys expire without waiting for it."""

    def pass_time(self, seconds):
        client = self.open()._client
        for key in client.scan("*"):
            left_ms = client.call(key, "PTTL", key)
            if left_ms >= 0:  # below zero: it is kept for ever, or gone by now
                client.call(key, "PEXPIRE", key, left_ms - round(seconds * 1000))


class TestRedisBackend(BackendSuite):
    soon_s = 0.3

    @pytest.fixture
    def make_backend(self, redis_server):
        return maker(redis_server)


class TestRedisBackendWithPassword(WithoutWaiting):
    @pytest.fixture
    def make_backend(self, redis_password):
        return maker(redis_password)


class TestRedisBackendOverTls(WithoutWaiting):
    @pytest.fixture
    def make_backend(self, redis_tls):
        return maker(redis_tls)


class TestRedisBackendBehindSentinel(WithoutWaiting):
    @pytest.fixture
    def make_backend(self, redis_sentinel):
        return maker(redis_sentinel)


class TestRedisBackendInCluster(WithoutWaiting):
    @pytest.fixture
    def make_backend(self, redis_cluster):
        return maker(redis_cluster)
