"""Publish and subscribe over a table of events that are kept for a minute."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from typing import Final

from umbel.builtin.sqlite.store import Store
from umbel.builtin.sqlite.wakeup import Wakeup
from umbel.interfaces.coordinator import Subscription

#: Seconds that an event is kept; a subscriber that doesn't poll for longer misses some.
KEPT_S: Final = 60.0
#: Old events that one publication drops: more than it adds, so they never pile up.
_DROPPED: Final = 16
#: Events that one poll returns at most.
_POLLED: Final = 1000

_PUBLISH = "INSERT INTO events (channel, published_at, payload) VALUES (?, ?, ?)"
_DROP = (
    "DELETE FROM events WHERE number IN "
    f"(SELECT number FROM events ORDER BY number LIMIT {_DROPPED}) AND published_at < ?"
)
_LAST = "SELECT coalesce((SELECT seq FROM sqlite_sequence WHERE name = 'events'), 0)"


class SqliteSubscription(Subscription):
    """What was published since it was made."""

    def __init__(self, store: Store, channels: Sequence[str]):
        self._store = store
        self._channels = tuple(dict.fromkeys(channels))
        self._topics = tuple(topic(channel) for channel in self._channels)
        self._wakeup = Wakeup(store)
        marks = ", ".join("?" * len(self._channels))
        self._since = (
            "SELECT number, channel, payload FROM events "
            f"WHERE number > ? AND channel IN ({marks}) ORDER BY number LIMIT {_POLLED}"
        )
        self._last = store.read(_last)

    def poll(self, *, timeout_s: float) -> Sequence[tuple[str, bytes]]:
        """Return (channel, payload) pairs in order, waiting at most `timeout_s` for the first."""
        return self._wakeup.wait(self._topics, self._look, timeout_s)

    def interrupt(self) -> None:
        """Make a `poll` that waits in another thread return at once."""
        self._wakeup.interrupt()

    def close(self) -> None:
        """End the subscription."""
        self._wakeup.close()

    def _look(self) -> tuple[list[tuple[str, bytes]], None]:
        last, rows = self._store.read(self._read)
        self._last = last
        return [(channel, payload) for _, channel, payload in rows], None

    def _read(self, cx: sqlite3.Connection) -> tuple[int, list[tuple[int, str, bytes]]]:
        # Smaller than before: the file was replaced by a new one.
        since = min(self._last, _last(cx))
        rows = cx.execute(self._since, (since, *self._channels)).fetchall()
        return (rows[-1][0] if rows else since), rows


def publish(cx: sqlite3.Connection, channel: str, payload: bytes, now: float) -> None:
    """Add an event, and drop some that are old."""
    cx.execute(_PUBLISH, (channel, now, payload))
    cx.execute(_DROP, (now - KEPT_S,))


def topic(channel: str) -> str:
    """Return what a subscriber of `channel` is woken for."""
    return f"channel:{channel}"


def _last(cx: sqlite3.Connection) -> int:
    """Return the number of the newest event that ever was."""
    return int(cx.execute(_LAST).fetchone()[0])
