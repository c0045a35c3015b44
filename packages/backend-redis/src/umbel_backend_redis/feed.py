"""One connection on which Redis tells of results: the channels named like their keys.

In RESP3, so that on a single server what is stored already is read in the same exchange that
subscribes: no result can be stored between the two.
"""

from __future__ import annotations

import selectors
import socket
import time
from collections import deque
from collections.abc import Collection, Iterable
from typing import Any, NamedTuple

from hiredis import PushNotification

from umbel_redis_client import Client, ConnectionLostError, ReplyError, pack

#: Seconds of silence after which the server is asked for a word, and for it to give one.
_QUIET_S, _PATIENCE_S = 2.0, 5.0
#: Ids in one command.
_CHUNK = 1000


class Arrived(NamedTuple):
    """What came since the last look."""

    #: Task ids, and what stands at their keys, in order.
    values: list[tuple[str, bytes]]
    #: Task ids that are subscribed to now, and whose keys are to be read by the caller.
    to_read: list[str]


class Feed:
    """A connection to be told on. The caller sees to it that one thread at a time sends or takes.

    `ready` may be in another thread meanwhile.

    Raises: ReplyError, ConnectionLostError.
    """

    def __init__(self, client: Client, prefix: str) -> None:
        self._prefix, self._cut = prefix, len(prefix.encode())
        # In a Cluster the keys are elsewhere.
        self._reads_itself = not client.is_cluster
        self._connection = connection = client.dedicated()
        self.endpoint = connection.endpoint
        #: What is yet to be answered, in order: ids whose keys were asked for.
        self._asked: deque[Collection[str]] = deque()
        self._asked_at = self._heard_at = time.monotonic()
        self._waker, self._woken = socket.socketpair()
        self._selector = selectors.DefaultSelector()
        try:
            self._waker.setblocking(False)
            self._woken.setblocking(False)
            connection.call("HELLO", 3)
            self._selector.register(connection, selectors.EVENT_READ)
            self._selector.register(self._woken, selectors.EVENT_READ)
        except BaseException:
            self.close()
            raise

    def subscribe(self, task_ids: Iterable[str], *, no_more: Iterable[str] = ()) -> None:
        """Be told of `task_ids` from now on, and what is there already; `no_more` of others."""
        parts = [pack(("UNSUBSCRIBE", *self._names(chunk))) for chunk in _chunks(list(no_more))]
        for chunk in _chunks(list(task_ids)):
            names = self._names(chunk)
            parts.append(pack(("SUBSCRIBE", *names)))
            # In a Cluster, the answer to a PING says that the subscription stands.
            parts.append(pack(("MGET", *names) if self._reads_itself else ("PING",)))
            self._ask(chunk)
        if parts:
            self._connection.send(b"".join(parts))

    def ready(self, timeout_s: float) -> None:
        """Wait until there is something to take, for `wake`, or the time's end."""
        for key, _ in self._selector.select(timeout_s):
            if key.fileobj is self._woken:
                try:
                    self._woken.recv(4096)
                except BlockingIOError:
                    continue

    def wake(self) -> None:
        """End a `ready` in another thread, or the next one."""
        try:
            self._waker.send(b"\0")
        except BlockingIOError:  # it is full of that already
            return

    def take(self) -> Arrived:
        """Return what arrived, without waiting; asks for a word if that was long ago."""
        arrived = Arrived([], [])
        replies = self._connection.arrived()
        now = time.monotonic()
        if replies:
            self._heard_at = now
            for reply in replies:
                self._sort(reply, arrived, now)
        elif not self._asked:
            if now - self._heard_at > _QUIET_S:
                self._ask(())
                self._connection.send(pack(("PING",)))
        elif now - self._asked_at > _PATIENCE_S:
            self.close()
            raise ConnectionLostError(f"{self._connection.endpoint}: silent for {_PATIENCE_S} s")
        return arrived

    def close(self) -> None:
        """Close it. Repeatable."""
        self._selector.close()
        self._connection.close()
        self._waker.close()
        self._woken.close()

    def _sort(self, reply: Any, arrived: Arrived, now: float) -> None:
        if isinstance(reply, PushNotification):
            if reply[0] == b"message":
                arrived.values.append((reply[1][self._cut :].decode(), reply[2]))
            return
        if isinstance(reply, ReplyError):
            self.close()  # whatever it answers: the others would be taken for answers to it
            raise reply
        ids, self._asked_at = self._asked.popleft(), now
        if not isinstance(reply, list):
            arrived.to_read.extend(ids)
            return
        found = zip(ids, reply, strict=True)
        arrived.values.extend((key, value) for key, value in found if value is not None)

    def _ask(self, ids: Collection[str]) -> None:
        if not self._asked:
            self._asked_at = time.monotonic()
        self._asked.append(ids)

    def _names(self, task_ids: Iterable[str]) -> list[str]:
        prefix = self._prefix
        return [prefix + task_id for task_id in task_ids]


def _chunks(ids: list[str]) -> Iterable[list[str]]:
    return (ids[start : start + _CHUNK] for start in range(0, len(ids), _CHUNK))
