"""All connections of one consumer that wait: one for each lane, and one that is told of news."""

from __future__ import annotations

import time
from collections.abc import Collection, Sequence
from typing import Final

from umbel_broker_redis.keys import Keys, Lane
from umbel_broker_redis.links import LATE_S, Ear, Link, Poller
from umbel_redis_client import Client, ConnectionLostError

#: Seconds that a reply may take which is under way.
_UNDER_WAY_S: Final = 0.03


class Lines(Poller):
    """Made when they are needed. For one thread at a time."""

    def __init__(self, client: Client, keys: Keys) -> None:
        super().__init__()
        self._client, self._keys = client, keys
        self._links: dict[Lane, Link] = {}
        #: What was waited for last, and its links.
        self._lanes: tuple[Lane, ...] = ()
        self._linked: Sequence[Link] = ()
        #: What is subscribed to for them.
        self._heard: tuple[Lane, ...] = ()
        self.ear: Ear | None = None

    def of(self, lane: Lane) -> Link | None:
        """Return the connection of `lane`; None: there is none."""
        return self._links.get(lane)

    def waiting(self) -> list[Link]:
        """Return those that wait in Redis."""
        return [link for link in self._links.values() if link.waits]

    def begin(
        self, lanes: tuple[Lane, ...], paused: Collection[Lane], consumer: str, block_s: float
    ) -> Sequence[Link]:
        """Begin to wait in Redis wherever it isn't waited already; return all who wait.

        Raises: ReplyError, ConnectionLostError.
        """
        if lanes is not self._lanes or paused or not self._linked:
            self._linked = [
                self._links.get(lane) or self._links.setdefault(lane, Link(self._client, lane))
                for lane in lanes
                if lane not in paused
            ]
            self._lanes = () if paused else lanes
        for link in self._linked:
            if not link.waits:
                link.begin(link.lane.claimed(consumer), block_s)
        return self._linked

    def listen(self, lanes: tuple[Lane, ...]) -> bool:
        """Subscribe to the channels of all queues; True: what came before is yet to be found.

        Raises: ReplyError, ConnectionLostError.
        """
        if self.ear is not None and lanes is self._heard:
            return False
        self._heard = lanes
        channels = frozenset([self._keys.channel(lane.queue) for lane in lanes])
        if self.ear is not None:
            if self.ear.channels == channels:
                return False
            self.ear.connection.close()
        self.ear = Ear(self._client, channels)
        return True

    def claimed_late(self, missed: Sequence[Link]) -> bool:
        """End links that weren't waiting yet, or any more, when they were told to end.

        Returns: Whether one may have claimed a message after the look.
        """
        claimed = False
        until = time.monotonic() + LATE_S
        for link in missed:
            while not self.ready([link.connection.fileno()], _UNDER_WAY_S):
                if time.monotonic() > until:  # Redis knows it no more, and nobody told
                    raise ConnectionLostError(f"{link.connection.endpoint}: no answer in time")
                # Its command had not been read when the order came: it waits by now.
                self._client.call(link.lane.ready, "CLIENT", "UNBLOCK", link.id)
            claimed = link.end() is not None or claimed
        return claimed

    def close(self) -> None:
        """Close all of them: they are made anew when needed."""
        links, self._links, self._linked = self._links, {}, ()
        ear, self.ear = self.ear, None
        for each in (*links.values(), *([ear] if ear is not None else ())):
            each.connection.close()
