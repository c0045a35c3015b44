"""Which queues umbel receives from, and which only Celery's workers do.

Only umbel looks at delay sets. A queue that umbel never received from, on a Redis that Celery's
workers are using, gets what is to wait as Celery sends it: in its list.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import Final

from umbel_broker_redis.keys import Keys
from umbel_redis_client import Client, Script

#: Seconds after which a queue that nobody of umbel's received from is looked at again.
_AGAIN_S: Final = 2.0

#: The exchange to which each of Celery's workers binds its mailbox.
_MAILBOXES: Final = "celery.pidbox"

#: KEYS: a set. ARGV: members to add.
_ADD: Final = Script(
    """
redis.call('SREM', KEYS[1], '')  -- as `lua.FREE`: a worker starts also where Redis is full
return redis.call('SADD', KEYS[1], unpack(ARGV))
"""
)


class Consumed:
    """Knows of the queues that one handle sends to or receives from."""

    def __init__(self, client: Client, keys: Keys) -> None:
        self._client, self._keys = client, keys
        self._known: set[str] = set()
        self._looked_at: dict[str, float] = {}
        self._has_celery = False

    def is_celerys(self, queue: str) -> bool:
        """Tell whether only Celery's workers might be receiving from `queue`.

        Raises: ReplyError, ConnectionLostError.
        """
        if queue in self._known:
            return False
        now = time.monotonic()
        if now - self._looked_at.get(queue, -_AGAIN_S) >= _AGAIN_S:
            self._looked_at[queue] = now
            consumed = self._keys.consumed
            if self._client.call(consumed, "SISMEMBER", consumed, queue):
                self._known.add(queue)
                return False
            mailboxes, _ = self._keys.binding(_MAILBOXES)
            self._has_celery = bool(self._client.call(mailboxes, "SCARD", mailboxes))
        return self._has_celery

    def tell(self, queues: Iterable[str]) -> None:
        """Tell that this handle receives from `queues`. Raises: ReplyError, ConnectionLostError."""
        new = [queue for queue in queues if queue not in self._known]
        if new:
            for key in (self._keys.queues, self._keys.consumed):
                self._client.eval(_ADD, (key,), new)
            self._known.update(new)

    def forget(self) -> None:
        """Tell again: the server may have been started anew, without what was told."""
        self._known.clear()
