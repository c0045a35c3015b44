"""Brokers on the servers of these tests."""

from __future__ import annotations

import pytest

from umbel.clock import SYSTEM_CLOCK
from umbel_broker_redis.broker import RedisBroker
from umbel_testing import FakeClock
from umbel_testing.kit import Running


@pytest.fixture
def open_broker():
    """Return a function that makes a broker; all are closed after the test."""
    made = []

    def make(url, *, clock=SYSTEM_CLOCK, **options):
        made.append(RedisBroker(url, options=options, clock=clock))
        return made[-1]

    yield make
    for each in made:
        each.close()


@pytest.fixture
def broker(redis_server, open_broker):
    """Return a broker on a plain server."""
    return open_broker(redis_server.url)


@pytest.fixture
def virtual(redis_server, open_broker):
    """Return a broker on a plain server, and the clock that it goes by."""
    clock = FakeClock()
    return open_broker(redis_server.url, clock=clock), clock


@pytest.fixture(params=["plain", "cluster"])
def redis_both(request, redis_servers):
    """Return a plain server, then a Cluster."""
    return redis_servers.get(request.param)


@pytest.fixture
def receiving():
    """Return a function that receives in another thread; it returns once that is under way."""

    def start(broker, queue):
        running = Running(lambda: broker.receive([queue], max_messages=10, wait_s=60))
        running.goes_on()
        return running

    return start
