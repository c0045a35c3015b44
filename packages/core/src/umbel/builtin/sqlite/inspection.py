"""Look into queues: names, depths, what waits, what died. Each function is one transaction."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from typing import Any, Final

from umbel.builtin.details import read_details
from umbel.builtin.sqlite.rows import MESSAGE_COLUMNS, read_message
from umbel.builtin.sqlite.schema import DELAYED, HELD, READY
from umbel.messages import DeadLetter, DeathKind, Malformed, Message, QueueStats

_READY = f"FROM messages INDEXED BY messages_ready WHERE queue = ?1 AND state = {READY}"
_DELAYED = f"FROM messages INDEXED BY messages_delayed WHERE queue = ?1 AND state = {DELAYED}"
# What is delayed and due is as good as ready: the next `receive` makes it so.
_DUE = f"{_DELAYED} AND due_at <= ?2"
_STATS = (
    f"SELECT (SELECT count(*) {_READY}), (SELECT count(*) {_DUE}), (SELECT count(*) {_DELAYED}), "
    f"(SELECT count(*) FROM messages INDEXED BY messages_held "
    f"WHERE state = {HELD} AND queue = ?1), "
    "(SELECT count(*) FROM dead_letters WHERE queue = ?1), "
    f"(SELECT max(enqueued_at, coalesce(due_at, enqueued_at)) {_READY} ORDER BY seq LIMIT 1), "
    f"(SELECT min(due_at) {_DUE})"
)
_WAITING = (
    f"SELECT {MESSAGE_COLUMNS} FROM (SELECT *, 0 AS later {_READY} "
    f"UNION ALL SELECT *, due_at > ?2 AS later {_DELAYED}) "
    "ORDER BY later, iif(later, due_at, 0), priority DESC, seq LIMIT ?3 OFFSET ?4"
)
_NEXT = f"SELECT {MESSAGE_COLUMNS} {_READY} ORDER BY priority DESC, seq LIMIT ?2 OFFSET ?3"


def _names_in(index: str, state: int) -> str:
    """Return what finds the queues of an index by jumping from one to the next."""
    least = f"SELECT min(queue) FROM messages INDEXED BY {index} WHERE state = {state}"
    return (
        f"WITH RECURSIVE found (name) AS ({least} UNION ALL SELECT ({least} AND queue > name) "
        "FROM found WHERE name IS NOT NULL) SELECT name FROM found"
    )


# `send` notes each name; the indexes know those of rows that were made by hand.
_NAMES = (
    "SELECT name FROM queues UNION SELECT queue FROM dead_letters "
    f"UNION SELECT * FROM ({_names_in('messages_ready', READY)}) "
    f"UNION SELECT * FROM ({_names_in('messages_delayed', DELAYED)}) ORDER BY 1"
)
_BURY = (
    "INSERT INTO dead_letters (id, queue, priority, token, strikes, enqueued_at, died_at, reason, "
    "kind, details, headers, extras, body) SELECT id, queue, priority, token, strikes, "
    "enqueued_at, ?, ?, ?, ?, headers, extras, body FROM messages "
    f"WHERE seq = ? AND claim = ? AND state = {HELD}"
)
_REMOVE: Final = f"DELETE FROM messages WHERE seq = ? AND claim = ? AND state = {HELD}"
_DEAD = f"SELECT seq, token, reason, kind, details, died_at, {MESSAGE_COLUMNS} FROM dead_letters"
# The rows of a page are found in an index: those before it may have large bodies.
_PAGE = "SELECT seq FROM dead_letters{where} ORDER BY seq DESC LIMIT ? OFFSET ?"
_DROP_DEAD: Final = "DELETE FROM dead_letters WHERE seq = ?"


def names(cx: sqlite3.Connection) -> list[str]:
    """Return all queues that hold or held messages, sorted."""
    return [name for (name,) in cx.execute(_NAMES) if isinstance(name, str)]


def stats(cx: sqlite3.Connection, queue: str, now: float) -> QueueStats:
    """Return how `queue` stands."""
    ready, due, delayed, held, dead, *oldest = cx.execute(_STATS, (queue, now)).fetchone()
    since = [at for at in oldest if isinstance(at, float)]
    return QueueStats(
        name=queue,
        ready=ready + due,
        delayed=delayed - due,
        held=held,
        dead=dead,
        oldest_age_s=max(0.0, now - min(since)) if since else None,
    )


def peek(
    cx: sqlite3.Connection, queue: str, limit: int, offset: int, now: float
) -> list[Message | Malformed]:
    """Return what is ready, next first, then what is delayed, next due first."""
    delayed = cx.execute(f"SELECT EXISTS (SELECT 1 {_DELAYED})", (queue,)).fetchone()[0]
    if delayed:  # only then is there something to sort
        rows = cx.execute(_WAITING, (queue, now, limit, offset))
    else:
        rows = cx.execute(_NEXT, (queue, limit, offset))
    return [read_message(*row) for row in rows]


def purge(cx: sqlite3.Connection, queue: str) -> int:
    """Drop what is ready or delayed in `queue`; return how many."""
    ready = cx.execute(f"DELETE {_READY}", (queue,)).rowcount
    return ready + cx.execute(f"DELETE {_DELAYED}", (queue,)).rowcount


def bury(cx: sqlite3.Connection, rows: Sequence[tuple[float, str, str, bytes, int, int]]) -> None:
    """Move held messages to the dead letters: died_at, reason, kind, details, seq and claim."""
    cx.executemany(_BURY, rows)
    cx.executemany(_REMOVE, [row[4:] for row in rows])


def drop_dead(cx: sqlite3.Connection, seqs: Sequence[int]) -> list[bool]:
    """Remove dead letters; tell of each whether it was there."""
    return [cx.execute(_DROP_DEAD, (seq,)).rowcount == 1 for seq in seqs]


def dead_letters(
    cx: sqlite3.Connection, queue: str | None, limit: int, offset: int
) -> list[DeadLetter]:
    """Return dead letters, newest first."""
    where, values = ("", ()) if queue is None else (" WHERE queue = ?", (queue,))
    page = _PAGE.format(where=where)
    rows = cx.execute(
        f"{_DEAD} WHERE seq IN ({page}) ORDER BY seq DESC", (*values, limit, offset)
    ).fetchall()
    return [_dead_letter(*row) for row in rows]


def _dead_letter(
    seq: int,
    token: Any,
    reason: Any,
    kind: Any,
    details: Any,
    died_at: Any,
    id: Any,
    queue: Any,
    *rest: Any,
) -> DeadLetter:
    return DeadLetter(
        message=read_message(id, queue, *rest),
        queue=str(queue),
        reason=str(reason),
        kind=kind if isinstance(kind, str) else DeathKind.MALFORMED,
        details=read_details(details),
        died_at=died_at if isinstance(died_at, float) else 0.0,
        deliveries=token if isinstance(token, int) else 0,
        receipt=str(seq),
    )
