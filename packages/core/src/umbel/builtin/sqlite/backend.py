"""The result backend in an SQLite file."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import lru_cache, partial
from typing import Any, Final

from umbel.builtin.sqlite.chords import (
    chord_body,
    chord_progress,
    close_chord,
    grow_chord,
    join_chord,
    open_chord,
)
from umbel.builtin.sqlite.errors import Failures, UndoError
from umbel.builtin.sqlite.store import Store, write_nothing
from umbel.builtin.sqlite.urls import parse_url
from umbel.builtin.sqlite.wakeup import Wakeup
from umbel.clock import Clock
from umbel.errors import BackendError, BackendUnavailableError
from umbel.interfaces.backend import Backend, BackendCapability
from umbel.outcomes import ChordPart, ChordProgress, StoredResult
from umbel.states import is_final, order_in_rank

FAILURES: Final = Failures(BackendError, BackendUnavailableError)

_TOPIC: Final = "results"
#: Ids in one statement, and in one look of a wait: what is waited for longest comes first.
_CHUNK: Final = 256
#: Expired results that are dropped for each one stored: more than come in, so they never pile up.
_DROPPED_PER_STORED: Final = 2

_STORE = (
    "INSERT INTO results (task_id, state, final, retries, token, ttl_s, expires_at, "
    "body) VALUES (?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (task_id) DO UPDATE SET "
    "state = excluded.state, final = excluded.final, retries = excluded.retries, "
    "token = excluded.token, ttl_s = excluded.ttl_s, expires_at = excluded.expires_at, body = excluded.body "
    "WHERE (excluded.retries, excluded.token, excluded.final) "
    ">= (results.retries, results.token, results.final) OR results.expires_at <= ?"
)
_EXPIRED = "SELECT rowid FROM results INDEXED BY results_expiry WHERE expires_at <= ? LIMIT ?"
_ANY_EXPIRED = (
    "SELECT EXISTS (SELECT 1 FROM results INDEXED BY results_expiry WHERE expires_at <= ?)"
)
_DROP = f"DELETE FROM results WHERE rowid IN ({_EXPIRED})"
_FORGET = "DELETE FROM results WHERE task_id = ?"


_Row = tuple[Any, ...]


class _RefusedError(UndoError):
    """Some of the results were refused; nothing was done."""


class SqliteBackend(Backend):
    """Results in one file, shared with the broker of the same URL."""

    capabilities = frozenset(
        {
            BackendCapability.PUSH,
            BackendCapability.DURABLE,
            BackendCapability.SHARED,
            BackendCapability.EXPIRES,
            BackendCapability.CHORD,
        }
    )

    def __init__(self, url: str, *, options: Mapping[str, Any], clock: Clock):
        super().__init__()
        self._store = Store(parse_url(url, options), FAILURES)
        self._clock = clock
        self._wakeup = Wakeup(self._store)

    def store(self, results: Sequence[StoredResult]) -> Sequence[str]:
        """Store `results`; return ids of the tasks whose result was refused.

        A power cut may undo it, then together with every ack in this file that came after it.
        """
        if not results:
            return ()
        now = self._clock.time()
        rows = [_row(result, now) for result in results]
        try:
            refused, ports = self._store.write(self._put, _put_all, rows, now)
        except _RefusedError:
            refused, ports = self._store.write(self._put, _put_each, rows, now)
        self._wakeup.ring(ports)
        return refused

    def load(self, task_ids: Sequence[str]) -> Mapping[str, StoredResult]:
        """Return what is stored for `task_ids`; unknown and expired ones are left out."""
        return self._store.read(_get, task_ids, self._clock.time()) if task_ids else {}

    def forget(self, task_ids: Sequence[str]) -> None:
        """Drop the results of `task_ids`."""
        if task_ids:
            self._store.write(_forget, task_ids)

    def wait(self, task_ids: Sequence[str], *, timeout_s: float) -> Mapping[str, StoredResult]:
        """Wait until at least one of `task_ids` has a final result, at most `timeout_s`."""
        if not task_ids:
            return {}
        return self._wakeup.wait((_TOPIC,), partial(self._look, task_ids), timeout_s)

    def interrupt(self) -> None:
        """Make a `wait` in another thread return at once."""
        self._wakeup.interrupt()

    def expire(self, *, limit: int = 1000) -> int:
        """Drop up to `limit` expired results; `store` does it too, a few at a time."""
        now = self._clock.time()
        if not self._store.read(_any_expired, now):
            return 0
        return self._store.write(_drop_expired, now, limit)

    def open_chord(
        self, group_id: str, size: int, *, ttl_s: float | None, body: bytes | None = None
    ) -> None:
        """Say that the chord of `group_id` has `size` parts."""
        self._store.write(open_chord, group_id, size, self._clock.time(), ttl_s, body)

    def chord_body(self, group_id: str) -> bytes | None:
        """Return what an open chord was opened with."""
        return self._store.read(chord_body, group_id, self._clock.time())

    def grow_chord(self, group_id: str, task_ids: Sequence[str], *, ttl_s: float | None) -> bool:
        """Say that a chord has a part more for each new id; tell whether it is open."""
        return self._store.write(grow_chord, group_id, task_ids, self._clock.time(), ttl_s)

    def join_chord(self, parts: Sequence[ChordPart]) -> Mapping[str, Sequence[ChordPart]]:
        """Count `parts`; returns all parts of those chords that are complete or aborted."""
        return self._store.write(join_chord, parts, self._clock.time()) if parts else {}

    def close_chord(self, group_ids: Sequence[str]) -> None:
        """Forget the parts of chords whose body was sent."""
        if group_ids:
            self._store.write(close_chord, group_ids, self._clock.time())

    def chord_progress(self, group_ids: Sequence[str]) -> Mapping[str, ChordProgress]:
        """Return how far chords and groups have come."""
        now = self._clock.time()
        return self._store.read(chord_progress, group_ids, now) if group_ids else {}

    def check(self) -> None:
        """Raise BackendError where the file can't be opened or written."""
        self._store.write(write_nothing)

    def close(self) -> None:
        """Free the connection."""
        self._wakeup.close()
        self._store.close()

    def _look(self, task_ids: Sequence[str]) -> tuple[dict[str, StoredResult], None]:
        now = self._clock.time()
        for chunk in _chunks(task_ids):
            loaded = self._store.read(_get, chunk, now)
            if final := {key: found for key, found in loaded.items() if is_final(found.state)}:
                return final, None
        return {}, None

    def _put(
        self,
        cx: sqlite3.Connection,
        put: Callable[[sqlite3.Connection, Sequence[_Row]], list[str]],
        rows: Sequence[_Row],
        now: float,
    ) -> tuple[list[str], list[int]]:
        refused = put(cx, rows)
        if _any_expired(cx, now):
            _drop_expired(cx, now, _DROPPED_PER_STORED * len(rows))
        return refused, self._wakeup.listeners(cx, (_TOPIC,))


def _row(result: StoredResult, now: float) -> _Row:
    state, ttl_s = result.state, result.ttl_s
    return (
        result.task_id,
        state,
        order_in_rank(state),
        result.retries,
        result.token,
        ttl_s,
        None if ttl_s is None else now + ttl_s,
        result.body,
        now,
    )


def _put_all(cx: sqlite3.Connection, rows: Sequence[_Row]) -> list[str]:
    if cx.executemany(_STORE, rows).rowcount != len(rows):
        raise _RefusedError
    return []


def _put_each(cx: sqlite3.Connection, rows: Sequence[_Row]) -> list[str]:
    return [row[0] for row in rows if cx.execute(_STORE, row).rowcount != 1]


def _get(cx: sqlite3.Connection, task_ids: Sequence[str], now: float) -> dict[str, StoredResult]:
    found: dict[str, StoredResult] = {}
    for chunk in _chunks(task_ids):
        ids = _padded(chunk)
        for row in cx.execute(_select(len(ids)), ids):
            if (result := _result(row, now)) is not None:
                found[result.task_id] = result
    return found


def _result(row: tuple[Any, ...], now: float) -> StoredResult | None:
    """Return the result of a row; None where it is expired or damaged."""
    task_id, state, retries, token, ttl_s, expires_at, body = row
    if expires_at is not None and not (isinstance(expires_at, float) and expires_at > now):
        return None
    if type(state) is not str or type(body) is not bytes:
        return None
    if type(retries) is not int or type(token) is not int:
        return None
    return StoredResult(
        task_id=task_id, state=state, body=body, token=token, retries=retries, ttl_s=ttl_s
    )


def _forget(cx: sqlite3.Connection, task_ids: Sequence[str]) -> None:
    cx.executemany(_FORGET, [(task_id,) for task_id in task_ids])


def _any_expired(cx: sqlite3.Connection, now: float) -> bool:
    return bool(cx.execute(_ANY_EXPIRED, (now,)).fetchone()[0])


def _drop_expired(cx: sqlite3.Connection, now: float, limit: int) -> int:
    return cx.execute(_DROP, (now, limit)).rowcount


def _chunks(task_ids: Sequence[str]) -> Iterator[Sequence[str]]:
    for start in range(0, len(task_ids), _CHUNK):
        yield task_ids[start : start + _CHUNK]


def _padded(task_ids: Sequence[str]) -> tuple[str | None, ...]:
    """Fill up to one of a few lengths, so that few statements are ever compiled."""
    length = 1
    while length < len(task_ids):
        length *= 4
    return (*task_ids, *(None,) * (length - len(task_ids)))


@lru_cache(maxsize=16)
def _select(length: int) -> str:
    marks = ", ".join("?" * length)
    return (
        "SELECT task_id, state, retries, token, ttl_s, expires_at, body FROM results "
        f"WHERE task_id IN ({marks})"
    )
