"""Queues that are paused, for all processes: a mark at each lane, and a set that names them."""

from __future__ import annotations

from umbel_broker_redis.keys import Keys
from umbel_redis_client import Call, Client, raised

#: What those who wait for a queue are told: look again.
_LOOK = b"look"


class Pauses:
    """Pauses queues and lets them go on.

    The marks, which `receive` looks at, are there only while the set names the queue: where a call
    ends half-way, `paused` shows the queue still, and the call can be repeated.
    """

    def __init__(self, client: Client, keys: Keys) -> None:
        self._client, self._keys = client, keys

    def pause(self, queue: str) -> None:
        """Let nobody take from `queue`. Raises: ReplyError, ConnectionLostError."""
        self._client.call(self._keys.paused, "SADD", self._keys.paused, queue)
        self._mark(queue, "SET", "1")
        self._tell(queue)

    def resume(self, queue: str) -> None:
        """Let everybody take from `queue` again. Raises: ReplyError, ConnectionLostError."""
        self._mark(queue, "DEL")
        self._client.call(self._keys.paused, "SREM", self._keys.paused, queue)
        self._tell(queue)

    def paused(self) -> list[str]:
        """Return the queues that are paused, sorted. Raises: ReplyError, ConnectionLostError."""
        members = self._client.call(self._keys.paused, "SMEMBERS", self._keys.paused)
        return sorted(member.decode("utf-8", "replace") for member in members)

    def _mark(self, queue: str, command: str, *args: str) -> None:
        lanes = self._keys.lanes(queue)
        raised(self._client.pipeline([Call.of(command, lane.paused, *args) for lane in lanes]))

    def _tell(self, queue: str) -> None:
        channel = self._keys.channel(queue)
        self._client.call(channel, "PUBLISH", channel, _LOOK)
