"""Who holds what: nodes with a lease, their consumers, and giving back what the dead ones hold.

Each function here is the work of one transaction. A consumer's number is part of the claim in
each row that it holds, so what it holds is a range of the index `messages_held`.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Collection, Sequence
from typing import Any, Final

import msgspec

from umbel.builtin.sqlite.rows import MESSAGE_COLUMNS
from umbel.builtin.sqlite.schema import CLAIM_BITS, DELAYED, HELD, NOBODY, READY, STRAY


class Membership(msgspec.Struct):
    """Who receives through a handle."""

    node: str
    consumer: str
    lease_s: float
    #: The consumer's row; 0: it has none yet.
    number: int = 0
    #: Nobody renews the lease but `receive`.
    anonymous: bool = False


_FREE: Final = f"state = {READY}, claim = {NOBODY}"
_LEASE_OF = (
    "SELECT nodes.expires_at FROM consumers JOIN nodes USING (node) "
    "WHERE consumers.number = ? AND consumers.consumer = ?"
)
_PUT_NODE = (
    "INSERT OR REPLACE INTO nodes (node, expires_at, lapsed_at, lease_s) VALUES (?, ?, ?, ?)"
)
# Nobody writes a later end than that: the system's clock was set back since. The second is for
# a clock that is being adjusted slowly.
_TOO_LATE = "expires_at > ? + lease_s + 1.0"
_SHORTEN_LEASES = f"UPDATE nodes SET expires_at = ? + lease_s WHERE {_TOO_LATE}"
# What is left of a node is forgotten after a day: until then its `renew` is told.
_ENTOMB_NODE = "UPDATE nodes SET expires_at = NULL, lapsed_at = ? WHERE node = ?"
_PRUNE_NODES = "DELETE FROM nodes WHERE expires_at IS NULL AND lapsed_at < ? - 86400.0"
# A number for each `join`: batches are counted from 1 then, and no claim may come twice.
_PUT_CONSUMER = "INSERT INTO consumers (consumer, node) VALUES (?, ?)"
_NUMBERS_OF = "SELECT number FROM consumers WHERE consumer = ?"
_CONSUMERS_OF = "SELECT number FROM consumers WHERE node = ?"
_GIVE_BACK = (
    f"UPDATE messages INDEXED BY messages_held SET {_FREE} "
    f"WHERE state = {HELD} AND claim BETWEEN ? AND ? RETURNING queue"
)
_STRIKE = "UPDATE messages SET strikes = strikes + 1 WHERE seq = ? AND claim = ?"
_STRIKE_AND_DELAY = (
    f"UPDATE messages SET strikes = strikes + 1, state = {DELAYED}, claim = {NOBODY}, due_at = ? "
    "WHERE seq = ? AND claim = ? RETURNING queue"
)
_HELD = (
    f"SELECT claim, seq, token, strikes, {MESSAGE_COLUMNS} FROM messages INDEXED BY messages_held "
    f"WHERE state = {HELD} AND claim BETWEEN ? AND ? ORDER BY claim, seq"
)
# What is held in the name of no consumer: its row was lost, or the claim is damaged.
_ORPHANED = (
    f"state = {HELD} AND coalesce((claim - {NOBODY}) >> {CLAIM_BITS}, 0) "
    f"NOT IN (SELECT number FROM consumers)"
)
_GIVE_BACK_ORPHANS = (
    f"UPDATE messages INDEXED BY messages_held SET {_FREE} WHERE {_ORPHANED} RETURNING queue"
)
_BURY_STRAYS = (
    "INSERT INTO dead_letters (id, queue, priority, token, strikes, enqueued_at, died_at, reason, "
    "kind, headers, extras, body) SELECT id, CAST(queue AS TEXT), priority, token, strikes, "
    "enqueued_at, ?, 'malformed: column queue, state or due_at is damaged', 'malformed', "
    "headers, extras, body "
    f"FROM messages INDEXED BY messages_stray WHERE {STRAY}"
)
_DROP_STRAYS = f"DELETE FROM messages WHERE seq IN (SELECT seq FROM messages WHERE {STRAY})"
_ANYTHING_TO_RECOVER = (
    f"SELECT EXISTS (SELECT 1 FROM nodes WHERE expires_at <= ? OR {_TOO_LATE}) "
    f"OR EXISTS (SELECT 1 FROM messages INDEXED BY messages_stray WHERE {STRAY}) "
    f"OR EXISTS (SELECT 1 FROM messages INDEXED BY messages_held WHERE {_ORPHANED})"
)


def join(cx: sqlite3.Connection, member: Membership, now: float) -> tuple[int, list[str]]:
    """Enter the consumer, and its node with a fresh lease.

    Where others have ended the node's lease, its next `renew` will say so: what is taken from
    here on must not be given back with the rest. Where it ran out and nobody was there to take
    over, as in an outage, all stays held.

    Returns: The consumer's number, and the queue of each message that was given back.
    """
    queues: list[str] = []
    until = now + member.lease_s
    row = _node(cx, member.node)
    if row is None:
        cx.execute(_PUT_NODE, (member.node, until, None, member.lease_s))
    elif _is_kept(row):
        cx.execute(_PUT_NODE, (member.node, max(row[0], until), row[1], member.lease_s))
    else:
        queues = give_back_node(cx, member.node)
        cx.execute(_PUT_NODE, (member.node, until, now, member.lease_s))
    number = cx.execute(_PUT_CONSUMER, (member.consumer, member.node)).lastrowid
    return number or 0, queues


def ensure(cx: sqlite3.Connection, member: Membership, now: float) -> tuple[int, list[str]]:
    """See to it that the consumer may take messages now; returns as `join`."""
    row = cx.execute(_LEASE_OF, (member.number, member.consumer)).fetchone()
    if row is None or not _lasts(row, now):
        return join(cx, member, now)
    if member.anonymous and row[0] < now + member.lease_s * 0.7:
        cx.execute(_PUT_NODE, (member.node, now + member.lease_s, None, member.lease_s))
    return member.number, []


def renew(cx: sqlite3.Connection, node: str, lease_s: float, now: float) -> tuple[bool, list[str]]:
    """Prolong the lease; tell whether it was kept, and what was given back where not.

    However late it is: while nobody has ended the lease, nobody else has what is held under it.
    """
    row = _node(cx, node)
    kept = row is not None and _is_kept(row)
    queues = [] if kept else give_back_node(cx, node)
    cx.execute(_PUT_NODE, (node, now + lease_s, None, lease_s))
    return kept and row is not None and row[1] is None, queues


def give_back_node(cx: sqlite3.Connection, node: str) -> list[str]:
    """Give back all that the node's consumers hold; return the queue of each message."""
    queues: list[str] = []
    for (number,) in cx.execute(_CONSUMERS_OF, (node,)).fetchall():
        queues += _give_back(cx, number)
    return queues


def remove_node(cx: sqlite3.Connection, node: str) -> tuple[int, list[str]]:
    """Give back all that the node holds, and forget it; return how many, and their queues."""
    queues = give_back_node(cx, node)
    cx.execute("DELETE FROM consumers WHERE node = ?", (node,))
    cx.execute("DELETE FROM nodes WHERE node = ?", (node,))
    return len(queues), queues


def remove_consumer(
    cx: sqlite3.Connection,
    consumer: str,
    struck: Collection[tuple[float | None, tuple[int, int]]],
) -> tuple[int, list[str]]:
    """Give back all that the consumer holds, and forget it; return how many, and their queues.

    `struck`: when each is ready again (unix seconds; None: now), and what names it.
    """
    queues: list[str] = []
    for (number,) in cx.execute(_NUMBERS_OF, (consumer,)).fetchall():
        first, last = _claims(number)
        for due_at, receipt in struck:
            if not first <= receipt[1] <= last:
                continue
            if due_at is None:
                cx.execute(_STRIKE, receipt)
            else:
                found = cx.execute(_STRIKE_AND_DELAY, (due_at, *receipt)).fetchall()
                queues += [row[0] for row in found]
        queues += _give_back(cx, number)
    cx.execute("DELETE FROM consumers WHERE consumer = ?", (consumer,))
    return len(queues), queues


def recoverable(cx: sqlite3.Connection, now: float) -> bool:
    """Tell whether `recover` has something to do; takes no lock."""
    return bool(cx.execute(_ANYTHING_TO_RECOVER, (now, now)).fetchone()[0])


def recover(cx: sqlite3.Connection, now: float) -> tuple[int, list[str]]:
    """Give back all that nobody living holds; return how many, and their queues.

    Rows so damaged that no consumer would ever see them go to the dead letters.
    """
    queues: list[str] = []
    cx.execute(_SHORTEN_LEASES, (now, now))
    for (node,) in cx.execute("SELECT node FROM nodes WHERE expires_at <= ?", (now,)).fetchall():
        queues += give_back_node(cx, node)
        cx.execute("DELETE FROM consumers WHERE node = ?", (node,))
        cx.execute(_ENTOMB_NODE, (now, node))
    cx.execute(_PRUNE_NODES, (now,))
    queues += [row[0] for row in cx.execute(_GIVE_BACK_ORPHANS).fetchall()]
    if cx.execute(_BURY_STRAYS, (now,)).rowcount > 0:
        cx.execute(_DROP_STRAYS)
    return len(queues), queues


def held(cx: sqlite3.Connection, consumer: str) -> Sequence[tuple[Any, ...]]:
    """Return claim, seq, token, strikes and MESSAGE_COLUMNS of all that the consumer holds."""
    rows: list[tuple[Any, ...]] = []
    for (number,) in cx.execute(_NUMBERS_OF, (consumer,)).fetchall():
        rows += cx.execute(_HELD, _claims(number)).fetchall()
    return rows


def _node(cx: sqlite3.Connection, node: str) -> tuple[Any, Any] | None:
    row: tuple[Any, Any] | None = cx.execute(
        "SELECT expires_at, lapsed_at FROM nodes WHERE node = ?", (node,)
    ).fetchone()
    return row


def _is_kept(row: tuple[Any, ...]) -> bool:
    """Tell whether nobody has ended the lease of this row."""
    return isinstance(row[0], float)


def _lasts(row: tuple[Any, ...], now: float) -> bool:
    return isinstance(row[0], float) and row[0] > now


def _give_back(cx: sqlite3.Connection, number: int) -> list[str]:
    return [row[0] for row in cx.execute(_GIVE_BACK, _claims(number)).fetchall()]


def _claims(number: int) -> tuple[int, int]:
    """Return the first and last claim that the consumer of this number can make."""
    first = NOBODY + (number << CLAIM_BITS)
    return first, first + (1 << CLAIM_BITS) - 1
