"""The coordinator on Redis: shared values, leases, rates and channels. Each call is one trip."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, TypeVar

from umbel.clock import Clock, SystemClock
from umbel.errors import BackendError, BackendUnavailableError
from umbel.interfaces.coordinator import Coordinator, Subscription
from umbel_backend_redis.coordinator_names import Names
from umbel_backend_redis.coordinator_scripts import ACQUIRE, INCREMENT, RELEASE, TAKE
from umbel_backend_redis.lifetimes import lifetimes_by
from umbel_backend_redis.listener import Listener
from umbel_backend_redis.subscription import RedisSubscription
from umbel_redis_client import FAILED, Arg, Call, Client, Failures, ReplyError, pack, parse_url

T = TypeVar("T")

FAILURES: Final = Failures(BackendError, BackendUnavailableError)
#: Values that `scan` reads in one round trip.
_READ_AT_ONCE: Final = 1000


class RedisCoordinator(Coordinator):
    """What a fleet agrees through.

    Redis' own clock says when keys and leases expire and units of a rate are free again, so the
    nodes' clocks may differ. A counter is a key as well: `get` returns its decimal digits.
    """

    def __init__(self, url: str, *, options: Mapping[str, Any], clock: Clock) -> None:
        # The options are the broker's or the backend's, which refuse those that they don't know.
        address = parse_url(url, options, ignored=frozenset(options))
        self._client = Client(address)
        self._names = Names(address.prefix, address.db)
        self._clock = clock
        self._is_by_server = isinstance(clock, SystemClock)
        self._lifetimes = lifetimes_by(clock, self._client, self._names.deadlines)
        self._listener = Listener(self._client, self._names.exchange, FAILURES)

    # -- values -------------------------------------------------------------------------------

    def get(self, keys: Sequence[str]) -> Mapping[str, bytes]:
        """Return the values of `keys`; unknown and expired ones are left out."""
        return self._read({key: self._names.value(key) for key in keys})

    def put(self, key: str, value: bytes, *, ttl_s: float | None = None) -> None:
        """Set `key`; it expires after `ttl_s` seconds (None: never)."""
        self._set(key, value, ttl_s)

    def put_if_absent(self, key: str, value: bytes, *, ttl_s: float | None = None) -> bool:
        """Set `key` unless it has a value; tell whether it was set."""
        return self._set(key, value, ttl_s, "NX")

    def delete(self, keys: Sequence[str]) -> int:
        """Drop `keys`; returns how many there were."""
        calls = [_call_of("DEL", self._names.value(key)) for key in keys]
        return sum(self._pipeline(calls)) if calls else 0

    def scan(self, prefix: str) -> Mapping[str, bytes]:
        """Return all keys that begin with `prefix`, with their values, sorted by key.

        Walks over all keys that there are in Redis, a thousand at a time.
        """
        pattern = self._names.pattern(prefix)
        names = self._told(lambda: self._client.scan(pattern))
        keys = sorted((self._names.key_of(name), name) for name in names)
        found: dict[str, bytes] = {}
        for start in range(0, len(keys), _READ_AT_ONCE):
            found.update(self._read(dict(keys[start : start + _READ_AT_ONCE])))
        return found

    def increment(self, key: str, by: int = 1, *, ttl_s: float | None = None) -> int:
        """Add `by` to the counter `key` (0 at first) and return the sum. `ttl_s` restarts.

        Raises: BackendError: `key` holds something that isn't a number, or the sum is one of more
            than 64 bits.
        """
        name = self._names.value(key)
        milliseconds = self._lifetimes.milliseconds(ttl_s)
        if milliseconds is None:
            total = int(self._call(name, "INCRBY", name, by))
        else:
            run = self._client.eval
            total = int(self._told(lambda: run(INCREMENT, [name], [by, milliseconds])))
        if ttl_s is not None:
            self._lifetimes.begin(name, ttl_s)
        return total

    # -- leases and rates ---------------------------------------------------------------------

    def acquire(self, name: str, holder: str, *, ttl_s: float) -> int | None:
        """Take the lease `name`, or prolong it where `holder` has it; return its token."""
        keys = self._names.lease(name)
        milliseconds = self._lifetimes.milliseconds(ttl_s)
        args = [_holder(holder), "" if milliseconds is None else milliseconds]
        token = self._told(lambda: self._client.eval(ACQUIRE, keys, args))
        if token is None:
            return None
        self._lifetimes.begin(keys[0], ttl_s)
        return int(token)

    def release(self, name: str, holder: str, token: int) -> bool:
        """Give the lease up; False where it wasn't this holder's with this token."""
        key, _ = self._names.lease(name)
        held = b"%d:%s" % (token, _holder(holder))
        return bool(self._told(lambda: self._client.eval(RELEASE, [key], [held])))

    def take(self, key: str, *, limit: int, period_s: float, cost: int = 1) -> float:
        """Take `cost` units of the rate `limit` per `period_s`; else say in how many seconds.

        Raises: ValueError: they could never be taken.
        """
        if limit < 1 or period_s <= 0 or not 0 <= cost <= limit:
            raise ValueError(
                f"cost={cost!r} can't be taken of a rate of {limit!r} in {period_s!r} s"
            )
        name = self._names.rate(key)
        args = [limit, period_s, cost, "" if self._is_by_server else self._clock.time()]
        return float(self._told(lambda: self._client.eval(TAKE, [name], args)))

    # -- channels -----------------------------------------------------------------------------

    def publish(self, channel: str, payload: bytes) -> None:
        """Hand `payload` to whoever is subscribed to `channel` now."""
        self._call(self._names.exchange, "PUBLISH", self._names.channel(channel), payload)

    def subscribe(self, channels: Sequence[str]) -> Subscription:
        """Listen to `channels` from now on.

        All subscriptions of a handle share one connection, which is made anew when it is lost.
        What is published until then is lost: `poll` tells of it by BackendUnavailableError, and
        goes on afterwards.
        """
        names = {self._names.channel(channel): channel for channel in channels}
        return RedisSubscription(self._listener, names)

    def close(self) -> None:
        """End all subscriptions and free connections. Repeatable."""
        self._listener.close()
        self._client.close()

    # -- how ----------------------------------------------------------------------------------

    def _set(self, key: str, value: bytes, ttl_s: float | None, *conditions: str) -> bool:
        name = self._names.value(key)
        milliseconds = self._lifetimes.milliseconds(ttl_s)
        px = () if milliseconds is None else ("PX", milliseconds)
        if self._call(name, "SET", name, value, *conditions, *px) is None:
            return False
        self._lifetimes.begin(name, ttl_s)
        return True

    def _read(self, names: Mapping[str, bytes]) -> dict[str, bytes]:
        if not names:
            return {}
        values = self._pipeline([_call_of("GET", name) for name in names.values()])
        return {key: value for key, value in zip(names, values, strict=True) if value is not None}

    def _call(self, key: bytes, *args: Arg) -> Any:
        return self._told(lambda: self._client.call(key, *args))

    def _pipeline(self, calls: Sequence[Call]) -> list[Any]:
        replies = self._told(lambda: self._client.pipeline(calls))
        for reply in replies:
            if isinstance(reply, ReplyError):
                raise FAILURES.told(reply) from reply
        return replies

    def _told(self, work: Callable[[], T]) -> T:
        """Return what `work` returns. Raises: our own errors in the place of the client's."""
        try:
            self._lifetimes.sweep()
            return work()
        except FAILED as exc:
            raise FAILURES.told(exc) from exc


def _call_of(command: str, name: bytes) -> Call:
    return Call(name, pack((command, name)))


def _holder(holder: str) -> bytes:
    return holder.encode(errors="surrogatepass")
