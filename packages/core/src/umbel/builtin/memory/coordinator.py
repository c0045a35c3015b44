"""The coordinator of ``memory://``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Self

from umbel.builtin.memory.shared_store import SharedStore
from umbel.builtin.memory.space import Space, open_space
from umbel.builtin.memory.waiting import Waiter
from umbel.clock import Clock
from umbel.interfaces.coordinator import Coordinator, Subscription


class MemorySubscription(Subscription):
    """What was published in a space since `MemoryCoordinator.subscribe`."""

    def __init__(self, store: SharedStore, channels: Sequence[str], clock: Clock) -> None:
        self._store = store
        self._waiter = Waiter(store.changed, clock)
        with store.changed:
            self._inbox = store.listen(channels)

    def poll(self, *, timeout_s: float) -> Sequence[tuple[str, bytes]]:
        """Return (channel, payload) pairs in order, waiting at most `timeout_s` for the first."""

        def take() -> list[tuple[str, bytes]]:
            messages = list(self._inbox.messages)
            self._inbox.messages.clear()
            return messages

        return self._waiter.wait_for(take, timeout_s=timeout_s)

    def interrupt(self) -> None:
        """End the waiting polls, or else the next one that would wait."""
        self._waiter.interrupt()

    def close(self) -> None:
        """End the subscription and its waiting polls. Repeatable."""
        with self._store.changed:
            self._store.unlisten(self._inbox)
        self.interrupt()


class MemoryCoordinator(Coordinator):
    """A handle on the coordination of a space.

    A counter is a key as well: `get` returns its decimal digits, `delete` sets it back to 0.
    """

    shared = False

    def __init__(self, space: Space, clock: Clock) -> None:
        self._store = space.shared
        self._changed = self._store.changed
        self._clock = clock

    @classmethod
    def from_url(cls, url: str, *, options: Mapping[str, Any], clock: Clock) -> Self:
        """Return a handle on what `url` names. Raises: ConfigError."""
        return cls(open_space(url, options), clock)

    def get(self, keys: Sequence[str]) -> Mapping[str, bytes]:
        """Return the values of `keys`."""
        with self._changed:
            now = self._clock.monotonic()
            found = ((key, self._store.values.get(key, now)) for key in keys)
            return {key: value for key, value in found if value is not None}

    def put(self, key: str, value: bytes, *, ttl_s: float | None = None) -> None:
        """Set `key`; it expires after `ttl_s` seconds (None: never)."""
        with self._changed:
            now = self._clock.monotonic()
            self._store.values.put(key, value, now, _end(now, ttl_s))

    def put_if_absent(self, key: str, value: bytes, *, ttl_s: float | None = None) -> bool:
        """Set `key` unless it has a value; tell whether it was set."""
        with self._changed:
            now = self._clock.monotonic()
            if self._store.values.get(key, now) is not None:
                return False
            self._store.values.put(key, value, now, _end(now, ttl_s))
            return True

    def delete(self, keys: Sequence[str]) -> int:
        """Drop `keys`; returns how many there were."""
        with self._changed:
            now = self._clock.monotonic()
            return sum(self._store.values.pop(key, now) is not None for key in keys)

    def scan(self, prefix: str) -> Mapping[str, bytes]:
        """Return all keys that begin with `prefix`, with their values."""
        with self._changed:
            items = self._store.values.items(self._clock.monotonic())
            return {key: value for key, value in items if key.startswith(prefix)}

    def increment(self, key: str, by: int = 1, *, ttl_s: float | None = None) -> int:
        """Add `by` to the counter `key`. Raises: BackendError: its value is no number."""
        with self._changed:
            now = self._clock.monotonic()
            return self._store.increment(key, by, now, _end(now, ttl_s))

    def acquire(self, name: str, holder: str, *, ttl_s: float) -> int | None:
        """Take the lease `name`, or prolong it; returns its token, None where it is taken."""
        with self._changed:
            now = self._clock.monotonic()
            return self._store.acquire(name, holder, now, now + ttl_s)

    def release(self, name: str, holder: str, token: int) -> bool:
        """Give the lease up; False where it wasn't this holder's with this token."""
        with self._changed:
            return self._store.release(name, holder, token, self._clock.monotonic())

    def take(self, key: str, *, limit: int, period_s: float, cost: int = 1) -> float:
        """Take `cost` units of a rate, or return how long until they would be free.

        Raises: ValueError: `limit`, `period_s` or `cost` isn't above 0, or `cost` is above
            `limit`, so that waiting would never help.
        """
        if limit < 1 or period_s <= 0 or not 1 <= cost <= limit:
            raise ValueError(f"{cost} units of a rate of {limit} per {period_s} s can't be taken")
        with self._changed:
            return self._store.take(key, limit, period_s, cost, self._clock.monotonic())

    def publish(self, channel: str, payload: bytes) -> None:
        """Hand `payload` to whoever is subscribed to `channel` now."""
        with self._changed:
            self._store.publish(channel, payload)

    def subscribe(self, channels: Sequence[str]) -> MemorySubscription:
        """Listen to `channels` from now on."""
        return MemorySubscription(self._store, channels, self._clock)


def _end(now: float, ttl_s: float | None) -> float | None:
    return None if ttl_s is None else now + ttl_s
