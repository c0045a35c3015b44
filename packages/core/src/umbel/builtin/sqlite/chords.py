"""The chords of a file: statements for one transaction each. `now` is unix seconds."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from math import inf
from typing import Final

from umbel.outcomes import ChordPart, ChordProgress
from umbel.states import PROPAGATE_STATES

#: Seconds for which a chord is known to be closed that wasn't known before.
_CLOSED_S: Final = 300.0
#: Seconds for which one is known, at most, that is over.
_OVER_S: Final = 86_400.0
#: Expired chords that are dropped in one transaction: more than come in, so they never pile up.
_DROPPED: Final = 4
#: In the place of an index: the chord has a part more for the task.
_MORE: Final = "+"

_GET = "SELECT closed, expires_at FROM chords WHERE group_id = ?"
_TOTALS = "SELECT size + grown, joined FROM chords WHERE group_id = ?"
# What is NULL here is left as it stands.
_PUT = (
    "INSERT INTO chords (group_id, size, closed, expires_at) VALUES (?, ?, ?, ?) "
    "ON CONFLICT (group_id) DO UPDATE SET size = coalesce(excluded.size, size), "
    "closed = excluded.closed, expires_at = excluded.expires_at"
)
_JOIN = (
    "INSERT INTO chord_parts (group_id, task_id, place, state, ttl_s, result) "
    "VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING"
)
_TELL = "INSERT INTO chord_told (group_id, place, task_id) VALUES (?, ?, ?) ON CONFLICT DO NOTHING"
_COUNT = "UPDATE chords SET counted = counted + ?, failed = failed + ? WHERE group_id = ?"
_GROW = "UPDATE chords SET grown = grown + ? WHERE group_id = ?"
_CLOSE = (
    "UPDATE chords SET closed = 1, expires_at = min(coalesce(expires_at, ?2), ?2) "
    "WHERE group_id = ?1 AND (expires_at IS NULL OR expires_at > ?3)"
)
_PARTS = "SELECT task_id, place, state, ttl_s, result FROM chord_parts WHERE group_id = ?"
_FORGET = "DELETE FROM chord_parts WHERE group_id = ?"
_FORGET_TOLD = "DELETE FROM chord_told WHERE group_id = ?"
_KEEP_BODY = "INSERT OR REPLACE INTO chord_bodies (group_id, body) VALUES (?, ?)"
_FORGET_BODY = "DELETE FROM chord_bodies WHERE group_id = ?"
# A process of an older umbel closes a chord and leaves its body.
_BODY = (
    "SELECT body FROM chord_bodies JOIN chords USING (group_id) WHERE group_id = ? "
    "AND NOT closed AND (expires_at IS NULL OR expires_at > ?)"
)
# What was told of it goes with it, and so does its body.
_REMOVE = "DELETE FROM chords WHERE group_id = ?"
_EXPIRED = (
    f"SELECT group_id FROM chords INDEXED BY chords_expiry WHERE expires_at <= ? LIMIT {_DROPPED}"
)
_PROGRESS = (
    "SELECT size + grown, joined + counted, failed FROM chords WHERE group_id = ? "
    "AND size NOT NULL AND (expires_at IS NULL OR expires_at > ?)"
)


def open_chord(
    cx: sqlite3.Connection,
    group_id: str,
    size: int,
    now: float,
    ttl_s: float | None,
    body: bytes | None,
) -> None:
    """Say how many parts it has, and what it ends with."""
    _drop_expired(cx, now)
    if _is_closed(cx, group_id, now):
        _remove(cx, group_id)
    cx.execute(_PUT, (group_id, size, 0, _end(now, ttl_s)))
    if body is not None:
        cx.execute(_KEEP_BODY, (group_id, body))


def chord_body(cx: sqlite3.Connection, group_id: str, now: float) -> bytes | None:
    """Return what it ends with, while it is open."""
    row = cx.execute(_BODY, (group_id, now)).fetchone()
    return row[0] if row is not None and type(row[0]) is bytes else None


def grow_chord(
    cx: sqlite3.Connection,
    group_id: str,
    task_ids: Sequence[str],
    now: float,
    ttl_s: float | None,
) -> bool:
    """Say that it has a part more for each new id; tell whether it is open."""
    if _is_closed(cx, group_id, now) or _totals(cx, group_id) is None:
        return False
    cx.execute(_PUT, (group_id, None, 0, _end(now, ttl_s)))
    cx.execute(_GROW, (_tell(cx, [(group_id, _MORE, each) for each in task_ids]), group_id))
    return True


def join_chord(
    cx: sqlite3.Connection, parts: Sequence[ChordPart], now: float
) -> dict[str, list[ChordPart]]:
    """Count `parts`; return all those of the chords that are complete or aborted."""
    _drop_expired(cx, now)
    by_group: dict[str, list[ChordPart]] = {}
    for part in parts:
        by_group.setdefault(part.group_id, []).append(part)
    found = {}
    for group_id, new in by_group.items():
        if _is_closed(cx, group_id, now):
            continue
        # First, since its row is where parts are counted.
        cx.execute(_PUT, (group_id, None, 0, _end(now, new[-1].ttl_s)))
        joined = [part for part in new if part.result is not None]
        if len(joined) < len(new):
            _count(cx, group_id, [part for part in new if part.result is None])
        if joined:
            cx.executemany(_JOIN, [_row(part) for part in joined])
            totals = _totals(cx, group_id)
            if totals and (totals[1] >= totals[0] or any(part.aborts for part in joined)):
                found[group_id] = _parts(cx, group_id)
    return found


def close_chord(cx: sqlite3.Connection, group_ids: Sequence[str], now: float) -> None:
    """Forget the parts, and count no more."""
    for group_id in group_ids:
        if cx.execute(_CLOSE, (group_id, now + _OVER_S, now)).rowcount:
            cx.execute(_FORGET, (group_id,))
            cx.execute(_FORGET_TOLD, (group_id,))
            cx.execute(_FORGET_BODY, (group_id,))
        else:
            _remove(cx, group_id)
            cx.execute(_PUT, (group_id, None, 1, now + _CLOSED_S))


def chord_progress(
    cx: sqlite3.Connection, group_ids: Sequence[str], now: float
) -> dict[str, ChordProgress]:
    """Return how far those have come that are known."""
    found = {}
    for group_id in group_ids:
        row = cx.execute(_PROGRESS, (group_id, now)).fetchone()
        if row is not None:
            found[group_id] = ChordProgress(*row)
    return found


def _is_closed(cx: sqlite3.Connection, group_id: str, now: float) -> bool:
    """Tell whether it is closed; one that is expired is forgotten."""
    row = cx.execute(_GET, (group_id,)).fetchone()
    if row is None:
        return False
    closed, expires_at = row
    if expires_at is not None and not (isinstance(expires_at, float) and expires_at > now):
        _remove(cx, group_id)
        return False
    return bool(closed)


def _totals(cx: sqlite3.Connection, group_id: str) -> tuple[int, int] | None:
    """Return how many parts it has, and how many of them came; None: it wasn't opened yet."""
    row = cx.execute(_TOTALS, (group_id,)).fetchone()
    return None if row is None or type(row[0]) is not int else (row[0], row[1])


def _count(cx: sqlite3.Connection, group_id: str, parts: Sequence[ChordPart]) -> None:
    """Count parts without a result."""
    failed = [_told(part) for part in parts if part.state in PROPAGATE_STATES]
    others = [_told(part) for part in parts if part.state not in PROPAGATE_STATES]
    new_failed = _tell(cx, failed)
    cx.execute(_COUNT, (new_failed + _tell(cx, others), new_failed, group_id))


def _tell(cx: sqlite3.Connection, rows: Sequence[tuple[str, str, str]]) -> int:
    """Remember `rows`; return how many are new."""
    return cx.executemany(_TELL, rows).rowcount if rows else 0


def _drop_expired(cx: sqlite3.Connection, now: float) -> None:
    for (group_id,) in cx.execute(_EXPIRED, (now,)).fetchall():
        _remove(cx, group_id)


def _remove(cx: sqlite3.Connection, group_id: str) -> None:
    cx.execute(_FORGET, (group_id,))
    cx.execute(_REMOVE, (group_id,))


def _row(part: ChordPart) -> tuple[object, ...]:
    return part.group_id, part.task_id, _place(part), str(part.state), part.ttl_s, part.result


def _told(part: ChordPart) -> tuple[str, str, str]:
    return part.group_id, _place(part), part.task_id


def _place(part: ChordPart) -> str:
    return "" if part.index is None else str(part.index)


def _parts(cx: sqlite3.Connection, group_id: str) -> list[ChordPart]:
    parts = [
        ChordPart(
            group_id=group_id,
            index=int(place) if place else None,
            task_id=task_id,
            state=state,
            result=result,
            ttl_s=ttl_s,
        )
        for task_id, place, state, ttl_s, result in cx.execute(_PARTS, (group_id,))
    ]
    return sorted(parts, key=lambda part: inf if part.index is None else part.index)


def _end(now: float, ttl_s: float | None) -> float | None:
    return None if ttl_s is None else now + ttl_s
