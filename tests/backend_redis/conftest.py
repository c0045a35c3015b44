"""Backends on the servers of these tests."""

from __future__ import annotations

import pytest

from umbel.clock import SYSTEM_CLOCK
from umbel_backend_redis.backend import RedisBackend


@pytest.fixture
def open_backend():
    """Return a function that makes a backend; all are closed after the test."""
    made = []

    def make(url, **options):
        made.append(RedisBackend(url, options=options, clock=SYSTEM_CLOCK))
        return made[-1]

    yield make
    for each in made:
        each.close()


@pytest.fixture
def backend(redis_server, open_backend):
    """Return a backend on a plain server."""
    return open_backend(redis_server.url)


@pytest.fixture
def server(redis_server):
    """Return a client that sees what is stored."""
    with redis_server.client() as client:
        yield client
