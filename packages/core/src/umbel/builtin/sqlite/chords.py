"""The chords of a file: statements for one transaction each. `now` is unix seconds."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from math import inf
from typing import Final

from umbel.outcomes import ChordPart

#: Seconds for which a closed chord is known as such: what is joined later than that is alone.
_CLOSED_S: Final = 300.0
#: Expired chords that are dropped in one transaction: more than come in, so they never pile up.
_DROPPED: Final = 4

_GET = "SELECT closed, expires_at FROM chords WHERE group_id = ?"
_SIZE = "SELECT size FROM chords WHERE group_id = ?"
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
_COUNT = "SELECT count(*) FROM chord_parts WHERE group_id = ?"
_PARTS = "SELECT task_id, place, state, ttl_s, result FROM chord_parts WHERE group_id = ?"
_FORGET = "DELETE FROM chord_parts WHERE group_id = ?"
_REMOVE = "DELETE FROM chords WHERE group_id = ?"
_EXPIRED = (
    f"SELECT group_id FROM chords INDEXED BY chords_expiry WHERE expires_at <= ? LIMIT {_DROPPED}"
)


def open_chord(
    cx: sqlite3.Connection, group_id: str, size: int, now: float, ttl_s: float | None
) -> None:
    """Say how many parts it has."""
    _drop_expired(cx, now)
    if _is_closed(cx, group_id, now):
        _remove(cx, group_id)
    cx.execute(_PUT, (group_id, size, 0, _end(now, ttl_s)))


def join_chord(
    cx: sqlite3.Connection, parts: Sequence[ChordPart], now: float
) -> dict[str, list[ChordPart]]:
    """Count `parts`; return all those of the chords that are complete."""
    _drop_expired(cx, now)
    by_group: dict[str, list[ChordPart]] = {}
    for part in parts:
        by_group.setdefault(part.group_id, []).append(part)
    found = {}
    for group_id, new in by_group.items():
        if _is_closed(cx, group_id, now):
            continue
        cx.executemany(_JOIN, [_row(part) for part in new])
        cx.execute(_PUT, (group_id, None, 0, _end(now, new[-1].ttl_s)))
        size = cx.execute(_SIZE, (group_id,)).fetchone()[0]
        if type(size) is int and cx.execute(_COUNT, (group_id,)).fetchone()[0] >= size:
            found[group_id] = _parts(cx, group_id)
    return found


def close_chord(cx: sqlite3.Connection, group_ids: Sequence[str], now: float) -> None:
    """Forget the parts, and count no more."""
    for group_id in group_ids:
        _remove(cx, group_id)
        cx.execute(_PUT, (group_id, None, 1, now + _CLOSED_S))


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


def _drop_expired(cx: sqlite3.Connection, now: float) -> None:
    for (group_id,) in cx.execute(_EXPIRED, (now,)).fetchall():
        _remove(cx, group_id)


def _remove(cx: sqlite3.Connection, group_id: str) -> None:
    cx.execute(_FORGET, (group_id,))
    cx.execute(_REMOVE, (group_id,))


def _row(part: ChordPart) -> tuple[object, ...]:
    place = "" if part.index is None else str(part.index)
    return part.group_id, part.task_id, place, str(part.state), part.ttl_s, part.result


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
