"""The coordinator in an SQLite file: shared values, leases, rates and events."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping, Sequence
from typing import Any, Final

from umbel.builtin.sqlite.errors import Failures
from umbel.builtin.sqlite.store import Store
from umbel.builtin.sqlite.subscription import SqliteSubscription, publish, topic
from umbel.builtin.sqlite.urls import parse_url
from umbel.builtin.sqlite.wakeup import Wakeup
from umbel.clock import Clock
from umbel.errors import BackendError, BackendUnavailableError
from umbel.interfaces.coordinator import Coordinator, Subscription

FAILURES: Final = Failures(BackendError, BackendUnavailableError)

#: Expired entries that one write drops on its way: more than it adds, so they never pile up.
_DROPPED_PER_WRITE: Final = 4
#: Seconds that are nothing: the sum of many floats must not miss its mark by a rounding.
_ROUNDING_S: Final = 1e-6

_PUT = "INSERT OR REPLACE INTO entries (key, expires_at, value) VALUES (?, ?, ?)"
_GET = "SELECT value, expires_at FROM entries WHERE key = ?"
_SCAN = "SELECT key, value FROM entries WHERE key >= ? AND (expires_at IS NULL OR expires_at > ?)"
_DROP_ENTRIES = (
    "DELETE FROM entries WHERE key IN (SELECT key FROM entries INDEXED BY entries_expiry "
    f"WHERE expires_at <= ? LIMIT {_DROPPED_PER_WRITE})"
)
_LEASE = "SELECT holder, token, expires_at FROM leases WHERE name = ?"
_PUT_LEASE = "INSERT OR REPLACE INTO leases (name, holder, token, expires_at) VALUES (?, ?, ?, ?)"
_DROP_LEASES = (
    "DELETE FROM leases WHERE name IN (SELECT name FROM leases INDEXED BY leases_expiry "
    f"WHERE expires_at <= ? LIMIT {_DROPPED_PER_WRITE})"
)
# One sequence for all leases, so that a token grows even where the lease's row was dropped.
_COUNT_UP = (
    "INSERT INTO sequences (name, value) VALUES ('lease', 1) "
    "ON CONFLICT (name) DO UPDATE SET value = value + 1 RETURNING value"
)
_RELEASE = "DELETE FROM leases WHERE name = ? AND holder = ? AND token = ? AND expires_at > ?"
_PUT_RATE = "INSERT OR REPLACE INTO rates (key, free_at) VALUES (?, ?)"
_DROP_RATES = (
    "DELETE FROM rates WHERE key IN (SELECT key FROM rates INDEXED BY rates_expiry "
    f"WHERE free_at <= ? LIMIT {_DROPPED_PER_WRITE})"
)


class SqliteCoordinator(Coordinator):
    """What a fleet on one machine agrees through."""

    def __init__(self, url: str, *, options: Mapping[str, Any], clock: Clock):
        self._store = Store(parse_url(url, options), FAILURES)
        self._clock = clock
        self._wakeup = Wakeup(self._store)

    def get(self, keys: Sequence[str]) -> Mapping[str, bytes]:
        """Return the values of `keys`; unknown and expired ones are left out."""
        return self._store.read(_get, keys, self._clock.time()) if keys else {}

    def put(self, key: str, value: bytes, *, ttl_s: float | None = None) -> None:
        """Set `key`; it expires after `ttl_s` seconds (None: never)."""
        self._store.write(_put, key, value, ttl_s, self._clock.time())

    def put_if_absent(self, key: str, value: bytes, *, ttl_s: float | None = None) -> bool:
        """Set `key` unless it has a value; tell whether it was set."""
        return self._store.write(_put_if_absent, key, value, ttl_s, self._clock.time())

    def delete(self, keys: Sequence[str]) -> int:
        """Drop `keys`; returns how many there were."""
        return self._store.write(_delete, keys, self._clock.time()) if keys else 0

    def scan(self, prefix: str) -> Mapping[str, bytes]:
        """Return all keys that begin with `prefix`, with their values, sorted by key."""
        return self._store.read(_scan, prefix, self._clock.time())

    def increment(self, key: str, by: int = 1, *, ttl_s: float | None = None) -> int:
        """Add `by` to the counter `key` and return the sum. `ttl_s` restarts.

        Raises: BackendError: `key` holds something that isn't a number.
        """
        return self._store.write(_increment, key, by, ttl_s, self._clock.time())

    def acquire(self, name: str, holder: str, *, ttl_s: float) -> int | None:
        """Take the lease `name`, or prolong it where `holder` has it; return its token."""
        return self._store.write(_acquire, name, holder, ttl_s, self._clock.time())

    def release(self, name: str, holder: str, token: int) -> bool:
        """Give the lease up; False where it wasn't this holder's with this token."""
        return self._store.write(_release, name, holder, token, self._clock.time())

    def take(self, key: str, *, limit: int, period_s: float, cost: int = 1) -> float:
        """Take `cost` units of the rate `limit` per `period_s`; else say in how many seconds.

        Raises: ValueError: they could never be taken.
        """
        if limit < 1 or period_s <= 0 or not 0 <= cost <= limit:
            raise ValueError(
                f"cost={cost!r} can't be taken of a rate of {limit!r} in {period_s!r} s"
            )
        return self._store.write(_take, key, limit, period_s, cost, self._clock.time())

    def publish(self, channel: str, payload: bytes) -> None:
        """Hand `payload` to whoever is subscribed to `channel` now."""
        now = self._clock.time()
        self._wakeup.ring(self._store.write(self._publish, channel, payload, now))

    def subscribe(self, channels: Sequence[str]) -> Subscription:
        """Listen to `channels` from now on."""
        return SqliteSubscription(self._store, channels)

    def close(self) -> None:
        """Free the connection."""
        self._wakeup.close()
        self._store.close()

    def _publish(
        self, cx: sqlite3.Connection, channel: str, payload: bytes, now: float
    ) -> list[int]:
        publish(cx, channel, payload, now)
        return self._wakeup.listeners(cx, (topic(channel),))


def _get(cx: sqlite3.Connection, keys: Sequence[str], now: float) -> dict[str, bytes]:
    found: dict[str, bytes] = {}
    for key in keys:
        if (value := _value(cx, key, now)) is not None:
            found[key] = value
    return found


def _value(cx: sqlite3.Connection, key: str, now: float) -> bytes | None:
    row = cx.execute(_GET, (key,)).fetchone()
    if row is None or (row[1] is not None and row[1] <= now):
        return None
    return _as_bytes(row[0])


def _put(cx: sqlite3.Connection, key: str, value: bytes, ttl_s: float | None, now: float) -> None:
    cx.execute(_PUT, (key, None if ttl_s is None else now + ttl_s, value))
    cx.execute(_DROP_ENTRIES, (now,))


def _put_if_absent(
    cx: sqlite3.Connection, key: str, value: bytes, ttl_s: float | None, now: float
) -> bool:
    if _value(cx, key, now) is not None:
        return False
    _put(cx, key, value, ttl_s, now)
    return True


def _delete(cx: sqlite3.Connection, keys: Sequence[str], now: float) -> int:
    there = _get(cx, keys, now)
    cx.executemany("DELETE FROM entries WHERE key = ?", [(key,) for key in keys])
    return len(there)


def _scan(cx: sqlite3.Connection, prefix: str, now: float) -> dict[str, bytes]:
    found: dict[str, bytes] = {}
    # In the order of the keys, so that those with the prefix come first and together.
    for key, value in cx.execute(f"{_SCAN} ORDER BY key", (prefix, now)):
        if not key.startswith(prefix):
            break
        found[key] = _as_bytes(value)
    return found


def _increment(cx: sqlite3.Connection, key: str, by: int, ttl_s: float | None, now: float) -> int:
    row = cx.execute(_GET, (key,)).fetchone()
    total, expires_at = by, None
    if row is not None and (row[1] is None or row[1] > now):
        try:
            total, expires_at = int(_as_bytes(row[0])) + by, row[1]
        except ValueError:
            raise BackendError(f"the key {key!r} holds no number, so it can't be counted") from None
    if ttl_s is not None:
        expires_at = now + ttl_s
    cx.execute(_PUT, (key, expires_at, str(total).encode()))
    cx.execute(_DROP_ENTRIES, (now,))
    return total


def _acquire(
    cx: sqlite3.Connection, name: str, holder: str, ttl_s: float, now: float
) -> int | None:
    row = cx.execute(_LEASE, (name,)).fetchone()
    lasts = row is not None and row[2] > now
    if lasts and row[0] != holder:
        return None
    token: int = row[1] if lasts else cx.execute(_COUNT_UP).fetchone()[0]
    cx.execute(_PUT_LEASE, (name, holder, token, now + ttl_s))
    cx.execute(_DROP_LEASES, (now,))
    return token


def _release(cx: sqlite3.Connection, name: str, holder: str, token: int, now: float) -> bool:
    return cx.execute(_RELEASE, (name, holder, token, now)).rowcount == 1


def _take(
    cx: sqlite3.Connection, key: str, limit: int, period_s: float, cost: int, now: float
) -> float:
    """Move the time at which all units are free again (in the algorithm: TAT)."""
    row = cx.execute("SELECT free_at FROM rates WHERE key = ?", (key,)).fetchone()
    # Never further off than a period: the clock was set back, or the rate was slower before.
    free_at = min(max(now, row[0]), now + period_s) if row is not None else now
    free_at += cost * period_s / limit
    over_s = free_at - now - period_s
    if over_s > _ROUNDING_S:
        return float(over_s)
    cx.execute(_PUT_RATE, (key, free_at))
    cx.execute(_DROP_RATES, (now,))
    return 0.0


def _as_bytes(value: Any) -> bytes:
    return value if isinstance(value, bytes) else str(value).encode()
