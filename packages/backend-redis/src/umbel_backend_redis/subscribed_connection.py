"""A connection on which a handle's subscriptions listen: commands out, messages in, proof of life.

Redis answers SUBSCRIBE and UNSUBSCRIBE once a channel, in order, and messages stand in between: a
subscription hears what comes after its own last answer.
"""

from __future__ import annotations

import selectors
import socket
import time
from collections import deque
from collections.abc import Sequence
from typing import Any, Final

from umbel_backend_redis.inbox import Inbox
from umbel_redis_client import Connection, ConnectionLostError, ReplyError, pack

#: Seconds of silence after which the server is asked whether it is still there, and how long its
#: answer may take: what a network swallows is noticed in the sum of both.
ASK_AFTER_S: Final = 5.0
ANSWER_WITHIN_S: Final = 5.0
#: epoll would be shared with a child after a fork.
_Selector: Final = getattr(selectors, "PollSelector", selectors.SelectSelector)


class SubscribedConnection:
    """Serves the subscriptions of a handle as long as the server does. For one thread."""

    def __init__(self, connection: Connection, bell: socket.socket) -> None:
        self._connection = connection
        self._bell = bell
        self._selector = _Selector()
        self._selector.register(connection, selectors.EVENT_READ)
        self._selector.register(bell, selectors.EVENT_READ)
        #: Who was asked for here, and for which channels.
        self._members: list[Inbox] = []
        self._channels: set[bytes] = set()
        #: One for each answer to come: whose last one it is.
        self._awaited: deque[Inbox | None] = deque()
        self._heard_at = time.monotonic()
        #: When the server was asked for something that it hasn't answered.
        self._asked_at: float | None = None

    def serve(self, members: Sequence[Inbox]) -> bool:
        """Listen for `members` until something comes, the bell rings or it is time to ask.

        Returns: Whether somebody's subscription was confirmed.
        Raises: ReplyError, ConnectionLostError.
        """
        is_one_confirmed = self._ask_for(members)
        ready = self._wait(0.0 if is_one_confirmed else self._patience_s)
        if self._bell in ready:
            drain(self._bell)
        if self._connection in ready:
            is_one_confirmed |= self._listen()
        elif not ready and self._patience_s <= 0:
            # Nothing is there even now: it isn't that this process was held up.
            if self._asked_at is not None:
                raise ConnectionLostError(f"{self._connection.endpoint}: no answer in time")
            self._send(pack(("PING",)))
        return is_one_confirmed

    def close(self) -> None:
        """Close the connection. Repeatable."""
        self._selector.close()
        self._connection.close()

    @property
    def _patience_s(self) -> float:
        """Seconds to wait for something to come."""
        if self._asked_at is not None:
            return self._asked_at + ANSWER_WITHIN_S - time.monotonic()
        return self._heard_at + ASK_AFTER_S - time.monotonic()

    def _wait(self, seconds: float) -> set[Any]:
        return {key.fileobj for key, _ in self._selector.select(max(0.0, seconds))}

    def _ask_for(self, members: Sequence[Inbox]) -> bool:
        """Subscribe to what is new, and unsubscribe from what nobody wants any more.

        Returns: Whether a subscription was confirmed, having no channels to wait for.
        """
        new = [member for member in members if member not in self._members]
        commands = [pack(("SUBSCRIBE", *each.channels)) for each in new if each.channels]
        for member in new:
            if member.channels:
                self._awaited += [None] * (len(member.channels) - 1) + [member]
            else:
                member.begin()
        wanted = {channel for member in members for channel in member.channels}
        if unwanted := self._channels - wanted:
            commands.append(pack(("UNSUBSCRIBE", *unwanted)))
            self._awaited += [None] * len(unwanted)
        self._members, self._channels = list(members), wanted
        if commands:
            self._send(b"".join(commands))
        return any(not member.channels for member in new)

    def _send(self, data: bytes) -> None:
        self._connection.send(data)
        if self._asked_at is None:
            self._asked_at = time.monotonic()

    def _listen(self) -> bool:
        """Take what has come; tell whether a subscription was confirmed by it."""
        confirmed = [self._handle(reply) for reply in self._connection.arrived()]
        self._heard_at = time.monotonic()
        self._asked_at = self._heard_at if self._awaited else None
        return any(confirmed)

    def _handle(self, reply: Any) -> bool:
        if isinstance(reply, ReplyError):
            raise reply
        if reply[0] == b"message":
            for member in self._members:
                if member.is_heard and reply[1] in member.channels:
                    member.hear(reply[1], reply[2])
        elif reply[0] in {b"subscribe", b"unsubscribe"}:
            confirmed = self._awaited.popleft()
            if confirmed is not None:
                confirmed.begin()
                return True
        return False


def rings(bell: socket.socket, seconds: float) -> None:
    """Wait for the bell to ring, at most so long."""
    with _Selector() as selector:
        selector.register(bell, selectors.EVENT_READ)
        selector.select(seconds)
    drain(bell)


def drain(bell: socket.socket) -> None:
    """Take what has rung."""
    try:
        while bell.recv(4096):
            pass
    except BlockingIOError:
        return
