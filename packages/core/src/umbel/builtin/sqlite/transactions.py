"""What the broker does with messages inside one transaction: insert, take, remove, give back.

Taking writes the consumer's claim into the rows. A claim is never used twice, so a late ack of
what was given back meanwhile finds nothing.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Collection, Sequence
from functools import lru_cache
from typing import Any, Final

from umbel.builtin.sqlite import pauses
from umbel.builtin.sqlite.errors import UndoError
from umbel.builtin.sqlite.rows import MESSAGE_COLUMNS
from umbel.builtin.sqlite.schema import DELAYED, HELD, NOBODY, READY

#: Messages that one `take` makes ready at most, so that it doesn't hold the lock for long.
PROMOTED: Final = 1000

#: Bytes of bodies and headers that one `take` returns at most, where it returns more than one message.
TAKEN_BYTES: Final = 32 * 1024 * 1024
_SMALL_FILE_PAGES: Final = TAKEN_BYTES // 4096

#: Queues that one statement of `glance` looks into; SQLite's columns have a limit.
_GLANCED: Final = 200

#: What names a held message: its seq and its claim.
Receipt = tuple[int, int]

INSERT: Final = (
    "INSERT INTO messages (id, queue, priority, state, due_at, claim, token, strikes, enqueued_at,"
    " headers, extras, body) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
)
_KNOW_QUEUE: Final = "INSERT OR IGNORE INTO queues (name) VALUES (?)"
_READY_IN: Final = f"FROM messages INDEXED BY messages_ready WHERE queue = ? AND state = {READY}"
_DELAYED_IN: Final = (
    f"FROM messages INDEXED BY messages_delayed WHERE queue = ? AND state = {DELAYED}"
)
_PROMOTE: Final = (
    f"UPDATE messages SET state = {READY} WHERE seq IN "
    f"(SELECT seq {_DELAYED_IN} AND due_at <= ? ORDER BY due_at LIMIT {PROMOTED})"
)
# A damaged token counts as 0, so that the one in the row is always the one in the delivery.
_TAKE: Final = (
    f"UPDATE messages SET state = {HELD}, claim = ?1, token = CASE WHEN typeof(token) = 'integer' "
    "AND token BETWEEN 0 AND 999999999 THEN token + 1 ELSE 1 END WHERE seq IN "
    f"(SELECT seq FROM messages INDEXED BY messages_ready WHERE queue = ?2 AND state = {READY} "
    "AND NOT EXISTS (SELECT 1 FROM paused WHERE paused.queue = ?2) "
    "ORDER BY priority DESC, seq LIMIT ?3) "
    f"RETURNING seq, token, strikes, {MESSAGE_COLUMNS}"
)
# The sizes alone: SQLite doesn't read a body to tell its length.
_SIZES: Final = (
    f"SELECT ifnull(length(body), 0) + ifnull(length(headers), 0) {_READY_IN} "
    "ORDER BY priority DESC, seq LIMIT ?"
)
_REMOVE: Final = "DELETE FROM messages WHERE seq = ? AND claim = ?"
_REMOVE_RUN: Final = "DELETE FROM messages WHERE seq BETWEEN ? AND ? AND claim = ?"
_GIVE_BACK: Final = (
    f"UPDATE messages SET state = {READY}, claim = {NOBODY} WHERE seq = ? AND claim = ?"
)
_GIVE_BACK_LATER: Final = (
    f"UPDATE messages SET state = {DELAYED}, claim = {NOBODY}, due_at = ? "
    "WHERE seq = ? AND claim = ?"
)


class NotAllHeldError(UndoError):
    """Some of the deliveries aren't held any more; nothing was done."""


def insert(cx: sqlite3.Connection, rows: Sequence[Any], new_queues: Collection[str]) -> None:
    """Store messages; remember the names of queues."""
    cx.executemany(INSERT, rows)
    if new_queues:
        cx.executemany(_KNOW_QUEUE, [(name,) for name in new_queues])


def glance(
    cx: sqlite3.Connection, queues: Sequence[str], now: float
) -> tuple[list[str], float | None]:
    """Return the queues in which `take` would find something, and when the next is due."""
    found: list[str] = []
    dues: list[float] = []
    for start in range(0, len(queues), _GLANCED):
        names = tuple(queues[start : start + _GLANCED])
        row = cx.execute(_glance_statement(len(names)), names * 2).fetchone()
        paused = frozenset(pauses.names(cx)) if row[-1] else frozenset()
        for index, name in enumerate(names):
            if name in paused:
                continue
            due_at = row[len(names) + index]
            if isinstance(due_at, float):
                dues.append(due_at)
            if row[index] or (isinstance(due_at, float) and due_at <= now):
                found.append(name)
    return found, min(dues) if dues else None


def take(
    cx: sqlite3.Connection, queues: Sequence[str], limit: int, claim: int, now: float
) -> list[tuple[Any, ...]]:
    """Claim up to `limit` messages, the queues in order; return seq, token, strikes and columns."""
    rows: list[tuple[Any, ...]] = []
    for queue in queues:
        cx.execute(_PROMOTE, (queue, now))
        wanted = limit - len(rows)
        fitting = _fitting(cx, queue, wanted)
        found = cx.execute(_TAKE, (claim, queue, fitting)).fetchall()
        rows += _in_order(found)
        if len(rows) >= limit or fitting < wanted:
            break
    return rows


def _fitting(cx: sqlite3.Connection, queue: str, wanted: int) -> int:
    """Return how many of the next `wanted` to take, so that they don't fill the memory.

    A file that isn't larger than a batch may be needs no look at the sizes.
    """
    if wanted == 1 or cx.execute("PRAGMA page_count").fetchone()[0] <= _SMALL_FILE_PAGES:
        return wanted
    total = 0
    for count, (size,) in enumerate(cx.execute(_SIZES, (queue, wanted)).fetchall()):
        total += size
        if total > TAKEN_BYTES:
            return max(count, 1)
    return wanted


def remove(cx: sqlite3.Connection, receipts: Sequence[Receipt]) -> None:
    """Remove held messages, all or none. Raises: NotAllHeldError."""
    run = _as_run(receipts)
    if run is not None:
        removed = cx.execute(_REMOVE_RUN, run).rowcount
    else:
        removed = cx.executemany(_REMOVE, receipts).rowcount
    if removed != len(receipts):
        raise NotAllHeldError


def remove_each(cx: sqlite3.Connection, receipts: Sequence[Receipt | None]) -> list[int]:
    """Remove those that are held; return the indexes of the others."""
    return [
        index
        for index, receipt in enumerate(receipts)
        if receipt is None or cx.execute(_REMOVE, receipt).rowcount != 1
    ]


def give_back(cx: sqlite3.Connection, receipts: Sequence[Receipt], due_at: float | None) -> None:
    """Give held messages back to their old place, at once or at `due_at`."""
    if due_at is None:
        cx.executemany(_GIVE_BACK, receipts)
    else:
        cx.executemany(_GIVE_BACK_LATER, [(due_at, *receipt) for receipt in receipts])


def _in_order(rows: list[tuple[Any, ...]]) -> list[tuple[Any, ...]]:
    """Sort rows as the index does; RETURNING has no order of its own."""
    priorities = {row[5] for row in rows}
    if len(priorities) > 1:
        rows.sort(key=_place)
    else:
        rows.sort(key=_seq)
    return rows


def _seq(row: tuple[Any, ...]) -> int:
    seq: int = row[0]
    return seq


def _place(row: tuple[Any, ...]) -> tuple[float, int]:
    """Return the sort key of a row, whatever stands in its priority."""
    priority = row[5]
    return (-priority if isinstance(priority, int) else 0, row[0])


def _as_run(receipts: Sequence[Receipt]) -> tuple[int, int, int] | None:
    """Return first seq, last seq and claim where `receipts` are a batch without gaps.

    One range costs half of what as many single deletions do.
    """
    count = len(receipts)
    first, claim = receipts[0]
    expected = list(zip(range(first, first + count), (claim,) * count, strict=True))
    return (first, first + count - 1, claim) if receipts == expected else None


@lru_cache(maxsize=64)
def _glance_statement(queues: int) -> str:
    ready = [f"EXISTS (SELECT 1 {_READY_IN})"] * queues
    dues = [f"(SELECT min(due_at) {_DELAYED_IN})"] * queues
    return f"SELECT {', '.join(ready + dues)}, EXISTS (SELECT 1 FROM paused)"
