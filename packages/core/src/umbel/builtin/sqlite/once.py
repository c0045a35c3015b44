"""Messages that are taken once: which are known, and for how long.

A row of `sent` names the row of `messages` that a message was stored in. While that row is there
the message is in the broker; `gone_at` says since when it is done with. A row whose message went
without that (it was purged, buried or deleted by hand) counts as not there, and is swept away.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, NamedTuple

from umbel.builtin.bounds import added
from umbel.builtin.sqlite.errors import UndoError
from umbel.builtin.sqlite.rows import MESSAGE_COLUMNS, ONCE, message_row, read_message, read_receipt
from umbel.builtin.sqlite.schema import DELAYED, HELD, READY
from umbel.builtin.sqlite.transactions import INSERT
from umbel.errors import QueueFullError
from umbel.messages import Delivery, Message, OnConflict

#: Seconds from one sweep to the next of a handle that sends.
_SWEEP_EVERY_S: Final = 1.0
#: Rows that a sweep looks at, besides twice as many as were written since the last one.
_SWEPT: Final = 100
#: Messages that a handle remembers to be in doubt.
_MOST_DOUBTED: Final = 10_000

_FIND: Final = (
    "SELECT seq, gone_at, (SELECT state FROM messages WHERE seq = sent.seq AND id = ?2) "
    "FROM sent WHERE once_key = ?1"
)
_NOTE: Final = "INSERT OR REPLACE INTO sent (once_key, seq, gone_at) VALUES (?, ?, NULL)"
_FINISH: Final = "UPDATE sent SET gone_at = ? WHERE once_key = ? AND seq = ?"
# The row keeps its token: results of earlier deliveries must not outrank the next one's.
_REPLACE: Final = (
    "UPDATE messages SET queue = ?, priority = ?, state = ?, due_at = ?, strikes = ?, "
    "enqueued_at = ?, headers = ?, extras = ?, body = ? WHERE seq = ?"
)
_BY_ID: Final = f"SELECT seq, state, {MESSAGE_COLUMNS} FROM messages WHERE id = ?"
_FORGET: Final = (
    "DELETE FROM sent WHERE once_key IN "
    "(SELECT once_key FROM sent INDEXED BY sent_gone WHERE gone_at <= ? LIMIT ?)"
)
_LOOK: Final = (
    "SELECT once_key, gone_at IS NOT NULL OR EXISTS (SELECT 1 FROM messages WHERE seq = sent.seq "
    "AND id = substr(sent.once_key, 1, length(id))) FROM sent WHERE once_key > ? "
    "ORDER BY once_key LIMIT ?"
)
_DROP: Final = "DELETE FROM sent WHERE once_key = ?"
_WAITING: Final = (
    "SELECT (SELECT count(*) FROM (SELECT 1 FROM messages INDEXED BY messages_ready "
    f"WHERE queue = ?1 AND state = {READY} LIMIT ?2)) + "
    "(SELECT count(*) FROM (SELECT 1 FROM messages INDEXED BY messages_delayed "
    f"WHERE queue = ?1 AND state = {DELAYED} LIMIT ?2))"
)


class KnownError(UndoError):
    """Messages of these ids are known; nothing was done."""

    def __init__(self, ids: Sequence[str]):
        super().__init__(ids)
        self.ids = ids


class FullError(UndoError):
    """A queue has no room; nothing was done."""

    def __init__(self, queue: str, bound: int, adding: int):
        super().__init__(queue)
        #: What the sender is told.
        self.told = QueueFullError.no_room(queue, bound, adding)


class Parcel(NamedTuple):
    """A message to be sent once, and the values of its row."""

    key: str
    message: Message
    row: tuple[Any, ...]


class _Found(NamedTuple):
    """What is known of a message."""

    seq: int
    #: READY, HELD or DELAYED; None: the broker is done with it.
    state: int | None


class Once:
    """What one handle has to do with sending once. Its methods are parts of transactions."""

    def __init__(self) -> None:
        #: Keys of what a plain `send` may have stored, which failed.
        self._doubted: set[str] = set()
        self._sweep_at = 0.0
        self._swept_to = ""
        self._written = 0

    def doubt(self, messages: Sequence[Message]) -> None:
        """Note messages of which nobody knows whether `send` stored them."""
        if len(self._doubted) + len(messages) > _MOST_DOUBTED:
            self._doubted.clear()
        self._doubted.update(message.once_key for message in messages)

    def trust(self, parcels: Iterable[Parcel]) -> None:
        """Take `doubt` back: these are stored, and noted."""
        if self._doubted:
            self._doubted.difference_update(parcel.key for parcel in parcels)

    def send(
        self,
        cx: sqlite3.Connection,
        parcels: Sequence[Parcel],
        *,
        since: float,
        bounds: Mapping[str, int],
        on_conflict: OnConflict,
    ) -> tuple[list[str], set[str]]:
        """Store what isn't known; return the ids of what is, and the queues that got something.

        Args:
            since: What was finished before is forgotten.
        Raises: KnownError, FullError.
        """
        found = [(parcel, self._find(cx, parcel, since)) for parcel in parcels]
        known = [parcel.message.id for parcel, there in found if there is not None]
        if known and on_conflict is OnConflict.RAISE:
            raise KnownError(known)
        replaces = on_conflict is OnConflict.REPLACE
        if known and replaces:
            _refuse_held(found)
        new: list[Parcel] = []
        replaced: list[tuple[int, Parcel]] = []
        for parcel, there in found:
            if there is None or (replaces and there.state is None):
                new.append(parcel)
            elif replaces:
                replaced.append((there.seq, parcel))
        if bounds:
            moved = [each for seq, each in replaced if each.message.queue != _queue_of(cx, seq)]
            check_room(cx, bounds, [parcel.message.queue for parcel in (*new, *moved)])
        self._insert(cx, new)
        for seq, parcel in replaced:
            _replace(cx, seq, parcel.row)
        return known, {each.message.queue for each in (*new, *(parcel for _, parcel in replaced))}

    def follow_up(
        self, cx: sqlite3.Connection, parcels: Iterable[Parcel], *, since: float
    ) -> set[str]:
        """Store those follow-ups that aren't known; return the queues that got something.

        What was finished before `since` is forgotten.
        """
        new = [parcel for parcel in parcels if self._find(cx, parcel, since) is None]
        self._insert(cx, new)
        return {parcel.message.queue for parcel in new}

    def finish(self, cx: sqlite3.Connection, deliveries: Iterable[Delivery], now: float) -> None:
        """Note that the broker is done with those of `deliveries` that were sent once."""
        for delivery in deliveries:
            if delivery.receipt.endswith(ONCE) and isinstance(delivery.message, Message):
                seq, _ = read_receipt(delivery.receipt) or (None, None)
                cx.execute(_FINISH, (now, delivery.message.once_key, seq))

    def sweep(self, cx: sqlite3.Connection, now: float, since: float) -> None:
        """Now and then, forget what was finished before `since`, and what went otherwise."""
        if now < self._sweep_at:
            return
        limit = _SWEPT + 2 * self._written
        self._sweep_at, self._written = now + _SWEEP_EVERY_S, 0
        cx.execute(_FORGET, (since, limit))
        rows = cx.execute(_LOOK, (self._swept_to, limit)).fetchall()
        self._swept_to = rows[-1][0] if len(rows) == limit else ""
        cx.executemany(_DROP, [(key,) for key, stays in rows if not stays])

    def _find(self, cx: sqlite3.Connection, parcel: Parcel, since: float) -> _Found | None:
        row = cx.execute(_FIND, (parcel.key, parcel.message.id)).fetchone()
        if row is not None:
            seq, gone_at, state = row
            if gone_at is not None:
                return _Found(seq, None) if gone_at > since else None
            if state is not None:
                return _Found(seq, state)
        return _find_unnoted(cx, parcel) if parcel.key in self._doubted else None

    def _insert(self, cx: sqlite3.Connection, parcels: Iterable[Parcel]) -> None:
        for parcel in parcels:
            seq = cx.execute(INSERT, parcel.row).lastrowid
            cx.execute(_NOTE, (parcel.key, seq))
            self._written += 1


def parcels_of(messages: Iterable[Message], now: float) -> list[Parcel]:
    """Return what is stored of `messages`; of those that are the same, the first."""
    parcels: dict[str, Parcel] = {}
    for message in messages:
        key = message.once_key
        if key not in parcels:
            parcels[key] = Parcel(key, message, message_row(message, now, once=True))
    return list(parcels.values())


def check_room(cx: sqlite3.Connection, bounds: Mapping[str, int], queues: Iterable[str]) -> None:
    """Raise FullError unless there is room for one more message in each of `queues`."""
    for queue, adding in added(bounds, queues).items():
        bound = bounds[queue]
        if adding > bound or cx.execute(_WAITING, (queue, bound)).fetchone()[0] + adding > bound:
            raise FullError(queue, bound, adding)


def _refuse_held(found: Iterable[tuple[Parcel, _Found | None]]) -> None:
    held = [parcel.message.id for parcel, there in found if there and there.state == HELD]
    if held:
        raise KnownError(held)


def _find_unnoted(cx: sqlite3.Connection, parcel: Parcel) -> _Found | None:
    """Look through all messages for one in doubt, and note it where it is found."""
    for seq, state, *columns in cx.execute(_BY_ID, (parcel.message.id,)).fetchall():
        message = read_message(*columns)
        if isinstance(message, Message) and message.once_key == parcel.key:
            cx.execute(_NOTE, (parcel.key, seq))
            return _Found(seq, state)
    return None


def _replace(cx: sqlite3.Connection, seq: int, row: tuple[Any, ...]) -> None:
    _, queue, priority, state, due_at, _, _, strikes, enqueued_at, headers, extras, body = row
    values = (queue, priority, state, due_at, strikes, enqueued_at, headers, extras, body, seq)
    cx.execute(_REPLACE, values)


def _queue_of(cx: sqlite3.Connection, seq: int) -> Any:
    return cx.execute("SELECT queue FROM messages WHERE seq = ?", (seq,)).fetchone()[0]
