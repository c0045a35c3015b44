"""Connections that wait for Redis to tell something: of one lane, and of the wake channels."""

from __future__ import annotations

import select
import socket
import time
from collections.abc import Sequence
from typing import Any, Final

from umbel_broker_redis.keys import Lane
from umbel_redis_client import Call, Client, ConnectionLostError, ReplyError, pack

#: Seconds after the end of a block within which its reply must have come: else the connection
#: is dead, though nobody told.
LATE_S: Final = 2.0
#: Room for what one read takes from a waiting connection.
_ROOM: Final = 1 << 14
#: Seconds of silence after which the subscription is asked whether it is alive.
_PING_EVERY_S: Final = 5.0


class Link:
    """The connection that waits for one lane."""

    def __init__(self, client: Client, lane: Lane) -> None:
        self.lane = lane
        self.connection = client.dedicated(lane.ready, room=_ROOM)
        try:
            self.id: int = self.connection.call("CLIENT", "ID")
        except BaseException:
            self.connection.close()
            raise
        #: Monotonic time by which the reply must be here; None: it doesn't wait.
        self.until: float | None = None
        #: Monotonic time since when it waits.
        self.since = 0.0
        #: It was told to end; its reply is under way.
        self.is_ending = False
        #: Its reply came together with others, so that the socket has nothing more to tell.
        self.came_early = False

    @property
    def waits(self) -> bool:
        """Whether a message may be claimed by it."""
        return self.until is not None and not self.is_ending

    def begin(self, claimed: str, block_s: float, calls: Sequence[Call] = ()) -> list[Any]:
        """Begin to wait in Redis, in one go after `calls`; return the replies to those."""
        if self.is_ending:
            self.end()
        args = ("BLMOVE", self.lane.ready, claimed, "RIGHT", "LEFT", f"{block_s:.3f}")
        self.connection.send(b"".join([*[call.data for call in calls], pack(args)]))
        self.since = time.monotonic()
        self.until = self.since + block_s + LATE_S
        replies = [self.connection.read() for _ in calls]
        self.came_early = bool(calls) and self.connection.has_data
        return replies

    def end(self) -> bytes | None:
        """Read the last reply; return the entry that was claimed, if one was."""
        reply = self.connection.read()
        self.until, self.is_ending, self.came_early = None, False, False
        return self._entry(reply)

    def arrived(self) -> bytes | None:
        """Take the reply in, if it is there; return the entry that was claimed, if one was."""
        self.came_early = False
        replies = self.connection.arrived()
        if not replies:
            return None
        self.until = None
        return self._entry(replies[-1])

    @staticmethod
    def _entry(reply: Any) -> bytes | None:
        if isinstance(reply, ReplyError):
            raise reply
        return reply if isinstance(reply, bytes) else None


class Ear:
    """The connection that is subscribed to the wake channels of queues."""

    def __init__(self, client: Client, channels: frozenset[str]) -> None:
        self.channels = channels
        self.connection = client.dedicated(room=_ROOM)
        self.connection.send(pack(("SUBSCRIBE", *sorted(channels))))
        for _ in channels:
            reply = self.connection.read()
            if isinstance(reply, ReplyError):
                self.connection.close()
                raise reply
        self._heard_at = time.monotonic()
        #: Monotonic time since when an answer is due; None: none is.
        self._asked_at: float | None = None

    def may_be_dead(self, now: float) -> bool:
        """Tell whether it has been silent for so long that `told` is to see to that."""
        return self._asked_at is not None or now - self._heard_at > _PING_EVERY_S

    def told(self) -> list[bytes]:
        """Return the payloads that have come. Raises: ConnectionLostError: it is dead."""
        replies = self.connection.arrived()
        now = time.monotonic()
        if replies:
            self._heard_at, self._asked_at = now, None
        elif self._asked_at is not None and now - self._asked_at > LATE_S:
            raise ConnectionLostError(f"{self.connection.endpoint}: the subscription is silent")
        elif self._asked_at is None and now - self._heard_at > _PING_EVERY_S:
            self.connection.send(pack(("PING",)))
            self._asked_at = now
        return [reply[2] for reply in replies if isinstance(reply, list) and reply[0] == b"message"]


class Bell:
    """Ends a wait from another thread."""

    def __init__(self) -> None:
        self._heard, self._rung = ends = socket.socketpair()
        for end in ends:
            end.setblocking(False)

    def fileno(self) -> int:
        """Return the number of what to wait for."""
        return self._heard.fileno()

    def ring(self) -> None:
        """End the wait, or the next one."""
        try:
            self._rung.send(b".")
        except OSError:  # full, so it rings already; or closed
            return

    def hear(self) -> None:
        """Take in that it has rung."""
        self._heard.recv(1 << 10)

    def close(self) -> None:
        """Free both ends."""
        self._heard.close()
        self._rung.close()


class Poller:
    """Waits for sockets. For one thread at a time."""

    def __init__(self) -> None:
        self._numbers: list[int] = []
        self._poller: Any = None

    def ready(self, numbers: list[int], timeout_s: float) -> list[int]:
        """Return which of these sockets can be read, waiting at most `timeout_s` for the first."""
        timeout_s = max(timeout_s, 0.0)
        if not hasattr(select, "poll"):  # Windows
            return list(select.select(numbers, (), (), timeout_s)[0])
        if numbers != self._numbers:
            self._numbers, self._poller = numbers, select.poll()
            for number in numbers:
                self._poller.register(number, select.POLLIN)
        return [number for number, _ in self._poller.poll(timeout_s * 1000)]
