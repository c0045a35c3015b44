"""Rows of an SQLite queue, put straight into the table, and what became of them.

Each row is told apart for good by its `enqueued_at`, which goes with it to the dead letters.
"""

from __future__ import annotations

import json
import random
import sqlite3
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

QUEUE = "celery"
#: What becomes of a row: it runs once; it is a dead letter; its task fails; it is too late; it
#: runs or is a dead letter.
RUNS, DEAD, FAILS, EXPIRES, ANY = "run", "a dead letter", "a failure", "too late", "run or dead"

_MARKS_FROM = 1_000_000.0


class Row(NamedTuple):
    """One row, and what is to become of it."""

    kind: str
    fate: str
    #: First argument of `tasks.work`, should it run; and the id in its headers.
    key: str
    columns: dict[str, Any]

    @property
    def mark(self) -> float:
        """What the row is known by."""
        mark: float = self.columns["enqueued_at"]
        return mark


class RowMaker:
    """Makes rows of calls of `tasks.work`; the same seed makes the same ones."""

    def __init__(self, seed: int):
        self.random = random.Random(seed)
        self._count = 0

    def good(self) -> Row:
        """Return a row that a sender of ours could have made."""
        return self.row("good", RUNS)

    def row(self, kind: str, fate: str, **changes: Any) -> Row:
        """Return a row with `changes` of its columns, each a value or a function of its key."""
        self._count += 1
        key = f"{kind}-{self._count}"
        columns = {
            "id": key,
            "queue": QUEUE,
            "enqueued_at": _MARKS_FROM + self._count,
            "headers": self.headers(key),
            "body": self.body(key),
        }
        for name, value in changes.items():
            columns[name] = value(key) if callable(value) else value
        return Row(kind, fate, key, columns)

    def headers(self, key: str, **changes: Any) -> bytes:
        """Return headers of protocol 2."""
        headers = {
            "lang": "py",
            "task": "tasks.work",
            "id": key,
            "root_id": key,
            "parent_id": None,
            "group": None,
            "retries": 0,
            "eta": None,
            "expires": None,
            "timelimit": [None, None],
            "argsrepr": "(…)",
            "kwargsrepr": "{}",
            "origin": "gen1@nowhere",
        }
        return json.dumps({**headers, **changes}).encode()

    def body(self, key: str, *args: Any, **embed: Any) -> bytes:
        """Return a body of protocol 2."""
        empty = {"callbacks": None, "errbacks": None, "chain": None, "chord": None}
        return json.dumps([[key, *args], {}, {**empty, **embed}]).encode()

    def extras(self, **fields: Any) -> bytes:
        """Return the column of what is seldom set."""
        return json.dumps(fields).encode()

    def cut(self, data: bytes) -> bytes:
        """Cut off the end."""
        return data[: self.random.randrange(1, len(data) - 1)]

    def flipped(self, data: bytes) -> bytes:
        """Break bytes that carry structure, so that it can't be read by luck."""
        broken = bytearray(data)
        for index, byte in enumerate(broken):
            if byte in b'[]{}":,' and self.random.random() < 0.4:
                broken[index] = self.random.randrange(0x80, 0x100)
        broken[0] = 0xFF
        return bytes(broken)


def insert(database: Path, rows: Sequence[Row]) -> None:
    """Put `rows` straight into the table, in order."""
    cx = sqlite3.connect(database, timeout=30, isolation_level=None)
    cx.execute("PRAGMA synchronous = OFF")
    cx.execute("BEGIN IMMEDIATE")
    for row in rows:
        names = ", ".join(row.columns)
        marks = ", ".join("?" * len(row.columns))
        cx.execute(f"INSERT INTO messages ({names}) VALUES ({marks})", tuple(row.columns.values()))
    cx.execute("COMMIT")
    cx.close()


def left_in_queue(database: Path) -> Iterator[str]:
    """Yield what stands in the table of messages, in any state and queue."""
    cx = sqlite3.connect(database, timeout=30, isolation_level=None)
    cx.text_factory = lambda raw: raw.decode("utf-8", "replace")
    rows = cx.execute("SELECT id, queue, state, enqueued_at FROM messages").fetchall()
    cx.close()
    yield from (repr(row) for row in rows)


def buried(database: Path) -> dict[float, list[str]]:
    """Return the reasons of all dead letters by their mark."""
    cx = sqlite3.connect(database, timeout=30, isolation_level=None)
    found: dict[float, list[str]] = {}
    for mark, reason in cx.execute("SELECT enqueued_at, reason FROM dead_letters"):
        found.setdefault(mark, []).append(reason)
    cx.close()
    return found
