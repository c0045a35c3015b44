"""Whether the server that somebody waits at is still the master, where Sentinel may have another."""

from __future__ import annotations

import math
import time
from typing import Final

from umbel_redis_client import Client, Connection, ConnectionLostError

#: Seconds between two questions to Sentinel.
_EVERY_S: Final = 2.0


class Mastery:
    """Asks now and then: the one that was the master goes on answering for ten seconds or so."""

    def __init__(self, client: Client) -> None:
        self._client, self._asked_at = client, 0.0

    @property
    def ask_at(self) -> float:
        """Monotonic time of the next question; infinite where none is needed."""
        return self._asked_at + _EVERY_S if self._client.may_move else math.inf

    def check(self, connection: Connection) -> None:
        """Ask, if it is time. Raises: ConnectionLostError: another server is the master now."""
        now = time.monotonic()
        if now < self.ask_at:
            return
        if self._client.has_moved(connection.endpoint):
            raise ConnectionLostError("another server is the master now")
        self._asked_at = now
