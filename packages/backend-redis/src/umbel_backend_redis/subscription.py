"""A subscription of the coordinator on Redis."""

from __future__ import annotations

import weakref
from collections.abc import Mapping, Sequence

from umbel.errors import UmbelError
from umbel.interfaces.coordinator import Subscription
from umbel_backend_redis.inbox import Inbox
from umbel_backend_redis.listener import Listener


class RedisSubscription(Subscription):
    """What was published since it was made.

    The connection is made anew when it is lost. What was published meanwhile is lost: the next
    `poll` tells of it by an error, and the one after that goes on.
    """

    def __init__(self, listener: Listener, channels: Mapping[bytes, str]) -> None:
        self._listener = listener
        self._inbox = Inbox(channels)
        listener.join(self._inbox)
        # Whoever drops it without `close` is listened for no longer, either.
        self._dropped = weakref.finalize(self, listener.drop, self._inbox)
        self._dropped.atexit = False

    def poll(self, *, timeout_s: float) -> Sequence[tuple[str, bytes]]:
        """Return (channel, payload) pairs in order, waiting at most `timeout_s` for the first.

        Raises: BackendUnavailableError: the connection was lost since the last poll, or there is
            none at the time's end. BackendError: Redis doesn't let this user in any more.
        """
        self._listener.ensure(self._inbox)
        try:
            return self._inbox.take(timeout_s)
        except UmbelError:
            raise
        except Exception as exc:
            raise self._listener.told(exc) from exc

    def interrupt(self) -> None:
        """End the poll that waits, or else the next one that would wait."""
        self._inbox.interrupt()

    def close(self) -> None:
        """End the subscription and its waiting poll. Repeatable."""
        self._dropped.detach()
        self._inbox.end()
        self._listener.leave(self._inbox)
