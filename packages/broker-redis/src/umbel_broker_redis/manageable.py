"""What people ask of a broker on Redis: how its queues stand, what waits, what was buried."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import ParamSpec, TypeVar

from umbel.clock import Clock, SystemClock
from umbel.errors import BrokerError, BrokerUnavailableError
from umbel.interfaces.broker import Broker
from umbel.messages import DeadLetter, Delayed, Malformed, Message, QueueStats
from umbel_broker_redis.dead_letters import DeadLetters
from umbel_broker_redis.delays import Delays
from umbel_broker_redis.envelope import Codec
from umbel_broker_redis.inspection import Inspector
from umbel_broker_redis.keys import Keys
from umbel_broker_redis.pauses import Pauses
from umbel_redis_client import FAILED, Address, Client, Failures

P = ParamSpec("P")
T = TypeVar("T")


class Manageable(Broker):
    """A broker's base: its server, its time, and all of it that neither sends nor consumes."""

    def __init__(self, address: Address, codec: Codec, clock: Clock) -> None:
        self._client = client = Client(address)
        self._failures = Failures(BrokerError, BrokerUnavailableError, f"Redis at {address.shown}")
        self._codec, self._clock = codec, clock
        self._has_own_clock = not isinstance(clock, SystemClock)
        keys = self._keys = Keys(address.prefix, is_cluster=client.is_cluster)
        self._inspector = Inspector(client, keys, codec)
        self._dead = DeadLetters(client, keys, codec)
        self._delays = Delays(client, keys, codec)
        self._pauses = Pauses(client, keys)

    # -- inspection ---------------------------------------------------------------------------

    def queues(self) -> Sequence[str]:
        """Return the names of all queues that hold or held messages, sorted."""
        return self._do(self._inspector.queues)

    def stats(self, queue: str) -> QueueStats:
        """Return how `queue` stands."""
        return self._do(self._inspector.stats, queue, now=self._now())

    def peek(
        self, queue: str, *, limit: int = 10, offset: int = 0
    ) -> Sequence[Message | Malformed]:
        """Return what is ready, next first, then what is delayed, next due first."""
        return self._do(self._inspector.peek, queue, limit=limit, offset=offset, now=self._now())

    def purge(self, queue: str) -> int:
        """Drop all that waits in `queue`, the delayed included; returns how many."""
        return self._do(self._inspector.purge, queue)

    def delayed(
        self, queue: str | None = None, *, limit: int = 100, offset: int = 0
    ) -> Sequence[Delayed]:
        """Return what waits for its time, next due first."""
        return self._do(self._delays.delayed, queue, limit=limit, offset=offset, now=self._now())

    def promote(self, receipts: Sequence[str]) -> int:
        """Make delayed messages ready now; returns how many."""
        return self._do(self._delays.promote, receipts, now=self._now())

    def drop_delayed(self, receipts: Sequence[str]) -> int:
        """Remove delayed messages for good; returns how many."""
        return self._do(self._delays.drop, receipts, now=self._now())

    def pause(self, queue: str) -> None:
        """Hand out nothing of `queue` any more, fleet-wide, until `resume`."""
        self._do(self._pauses.pause, queue)

    def resume(self, queue: str) -> None:
        """Hand out messages of `queue` again."""
        self._do(self._pauses.resume, queue)

    def paused(self) -> Sequence[str]:
        """Return the names of the queues that are paused, sorted."""
        return self._do(self._pauses.paused)

    # -- dead letters -------------------------------------------------------------------------

    def dead_letters(
        self, queue: str | None = None, *, limit: int = 100, offset: int = 0
    ) -> Sequence[DeadLetter]:
        """Return dead letters, newest first."""
        return self._do(self._dead.dead_letters, queue, limit=limit, offset=offset)

    def drop_dead(self, receipts: Sequence[str]) -> int:
        """Remove dead letters for good; returns how many."""
        return self._do(self._dead.drop_dead, receipts)

    def replay(self, replays: Sequence[tuple[str, Message]]) -> Sequence[str]:
        """Send a message in the place of each dead letter; return receipts of what was gone."""
        if not replays:
            return ()
        return self._do(self._dead.replay, replays, at=self._clock.time(), now=self._now())

    def _now(self) -> str:
        """Return the time for scripts: theirs, unless this handle's clock is one of its own."""
        return str(round(self._clock.time() * 1000)) if self._has_own_clock else ""

    def _do(self, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        try:
            return work(*args, **kwargs)
        except FAILED as exc:
            raise self._failures.told(exc) from exc
