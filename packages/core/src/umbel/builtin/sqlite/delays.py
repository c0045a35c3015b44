"""What waits for its time: list it, make it ready at once, drop it. Each function is one transaction.

A receipt names the row and the time that it is due at: numbers of rows are used again, and what
was given back for later meanwhile isn't what was listed.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable
from typing import Any, Final

from umbel.builtin.sqlite.rows import MESSAGE_COLUMNS, read_message
from umbel.builtin.sqlite.schema import DELAYED, READY
from umbel.messages import Delayed

# A damaged time would compare as later than any other.
_LATER: Final = f"state = {DELAYED} AND due_at > ? AND typeof(due_at) = 'real'"
# The rows of a page are found in the index: those before it may have large bodies.
_PAGE: Final = (
    f"SELECT seq FROM messages INDEXED BY messages_delayed WHERE {_LATER}{{queue}} "
    "ORDER BY due_at, seq LIMIT ? OFFSET ?"
)
_LIST: Final = (
    f"SELECT seq, due_at, {MESSAGE_COLUMNS} FROM messages WHERE seq IN ({_PAGE}) "
    "ORDER BY due_at, seq"
)
_LIST_ALL: Final = _LIST.format(queue=" AND typeof(queue) = 'text'")
_LIST_OF_QUEUE: Final = _LIST.format(queue=" AND queue = ?")
_NAMED: Final = f"WHERE seq = ? AND due_at = ? AND {_LATER}"
# It is as old as its promotion.
_PROMOTE: Final = f"UPDATE messages SET state = {READY}, due_at = ? {_NAMED} RETURNING queue"
_DROP: Final = f"DELETE FROM messages {_NAMED}"


def delayed(
    cx: sqlite3.Connection, queue: str | None, limit: int, offset: int, now: float
) -> list[Delayed]:
    """Return what is due after `now`, the next one first."""
    if queue is None:
        rows = cx.execute(_LIST_ALL, (now, limit, offset)).fetchall()
    else:
        rows = cx.execute(_LIST_OF_QUEUE, (now, queue, limit, offset)).fetchall()
    return [_delayed(*row) for row in rows]


def promote(cx: sqlite3.Connection, receipts: Iterable[str], now: float) -> list[str]:
    """Make ready what `receipts` name and is due after `now`; return the queue of each."""
    queues: list[str] = []
    for receipt in receipts:
        if (place := _read(receipt)) is not None:
            queues += [row[0] for row in cx.execute(_PROMOTE, (now, *place, now)).fetchall()]
    return queues


def drop(cx: sqlite3.Connection, receipts: Iterable[str], now: float) -> int:
    """Remove what `receipts` name and is due after `now`; return how many."""
    places = [place for receipt in receipts if (place := _read(receipt)) is not None]
    return sum(cx.execute(_DROP, (*place, now)).rowcount for place in places)


def _delayed(seq: int, due_at: float, id: Any, queue: Any, *rest: Any) -> Delayed:
    return Delayed(
        message=read_message(id, queue, *rest),
        queue=str(queue),
        due_at=due_at,
        receipt=f"{seq}@{due_at!r}",
    )


def _read(receipt: str) -> tuple[int, float] | None:
    """Return the row and the time that `receipt` names; None: it isn't one of ours."""
    seq, _, due_at = receipt.partition("@")
    try:
        number = int(seq)
        return (number, float(due_at)) if number.bit_length() < 64 else None
    except ValueError:
        return None
