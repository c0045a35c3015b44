"""How long a coordinator's keys live: by Redis' own expiry, or by a clock that a test moves."""

from __future__ import annotations

import math
import threading
from typing import Final, Protocol

from umbel.clock import Clock, SystemClock
from umbel_redis_client import Client

#: Guards the deadlines of all handles: a clock that is driven is driven in one process.
_LOCK: Final = threading.Lock()


class Lifetimes(Protocol):
    """What a coordinator does around its calls so that keys expire."""

    def milliseconds(self, ttl_s: float | None) -> int | None:
        """Return what to tell Redis about a key that is to live `ttl_s`; None: nothing."""

    def sweep(self) -> None:
        """Drop what has expired and Redis doesn't drop; before every call."""

    def begin(self, name: bytes, ttl_s: float | None) -> None:
        """Note that `name` was set just now."""


class ServerLifetimes:
    """Redis' own expiry."""

    def milliseconds(self, ttl_s: float | None) -> int | None:
        """Return the time to live in milliseconds, at least one."""
        return None if ttl_s is None else max(1, math.ceil(ttl_s * 1000))

    def sweep(self) -> None:
        """Do nothing: Redis does."""

    def begin(self, name: bytes, ttl_s: float | None) -> None:
        """Do nothing: Redis was told."""


class VirtualLifetimes:
    """Deadlines by a clock other than the machine's, kept in a sorted set. For tests only."""

    def __init__(self, client: Client, clock: Clock, deadlines: bytes) -> None:
        self._client = client
        self._clock = clock
        self._deadlines = deadlines

    def milliseconds(self, ttl_s: float | None) -> None:
        """Return None: Redis' clock has nothing to say."""

    def sweep(self) -> None:
        """Drop the keys whose time is over."""
        key = self._deadlines
        with _LOCK:
            over = self._client.call(key, "ZRANGEBYSCORE", key, "-inf", self._clock.time())
            for name in over:
                self._client.call(name, "DEL", name)
                self._client.call(key, "ZREM", key, name)

    def begin(self, name: bytes, ttl_s: float | None) -> None:
        """Remember until when `name` lives."""
        key = self._deadlines
        if ttl_s is None:
            self._client.call(key, "ZREM", key, name)
        else:
            self._client.call(key, "ZADD", key, self._clock.time() + ttl_s, name)


def lifetimes_by(clock: Clock, client: Client, deadlines: bytes) -> Lifetimes:
    """Return what makes keys expire by `clock`."""
    if isinstance(clock, SystemClock):
        return ServerLifetimes()
    return VirtualLifetimes(client, clock, deadlines)
