"""A dead node leaves 100,000 messages behind: they come back, and Redis serves others meanwhile."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from redis_servers import RedisServer

from umbel import Umbel
from umbel.clock import SYSTEM_CLOCK
from umbel.signatures import Signature
from umbel_broker_redis.broker import RedisBroker

pytestmark = pytest.mark.faults

MESSAGES = 100_000
LONGEST_MS = 50.0
#: A busy machine takes the processor away from Redis for so long now and then.
BUSY_MS = 250.0


class Pinger:
    """Asks Redis for an answer, one after the other, and knows the longest wait for one."""

    def __init__(self, server: RedisServer):
        self._server = server
        self.longest_ms = 0.0
        self._ended = threading.Event()

    @contextmanager
    def at_work(self) -> Iterator[None]:
        thread = threading.Thread(target=self._ping)
        thread.start()
        try:
            yield
        finally:
            self._ended.set()
            thread.join(30)

    def _ping(self) -> None:
        with self._server.client() as client:
            while not self._ended.wait(0.001):
                asked_at = time.monotonic()
                client.ping()
                self.longest_ms = max(self.longest_ms, (time.monotonic() - asked_at) * 1000)


def test_recovery_of_100000_messages_holds_up_nobody(redis_server: RedisServer) -> None:
    app = Umbel("sender", broker=redis_server.url)
    dead, other = [RedisBroker(redis_server.url, options={}, clock=SYSTEM_CLOCK) for _ in range(2)]
    pinger = Pinger(redis_server)
    try:
        dead.join("dead", "dead/1", lease_s=60.0)
        message = app.message_for(Signature(task="tasks.work", args=("x",)))
        dead.send([message] * MESSAGES)
        while dead.receive(["celery"], max_messages=2000, wait_s=0.0):
            pass
        assert other.stats("celery").held == MESSAGES
        dead.renew("dead", lease_s=0.001)
        redis_server.config_set("slowlog-log-slower-than", 5_000)
        redis_server.config_set("slowlog-max-len", 1000)
        redis_server.run("SLOWLOG", "RESET")
        with pinger.at_work():
            assert other.recover_expired() == MESSAGES
        stats = other.stats("celery")
        took_ms = slowest_ms(redis_server)
    finally:
        for each in (app, dead, other):
            each.close()

    print("slowest commands, ms:", took_ms[:5], "longest wait for an answer:", pinger.longest_ms)
    assert (stats.ready, stats.held) == (MESSAGES, 0)
    # A few are slow since the system took the processor away; a slow script would be slow often.
    assert took_ms[0] < BUSY_MS
    assert took_ms[5] < LONGEST_MS
    assert pinger.longest_ms < 2 * BUSY_MS


def slowest_ms(server: RedisServer) -> list[float]:
    """Return how long the slowest commands took, the longest first, with zeros behind."""
    with server.client() as client:
        found = [each["duration"] / 1000 for each in client.slowlog_get(1000)]
    return [*sorted(found, reverse=True), *[0.0] * 6]
