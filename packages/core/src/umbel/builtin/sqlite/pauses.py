"""Queues that are paused, for all processes that use the file. Each function is one transaction."""

from __future__ import annotations

import sqlite3
from typing import Final

_PAUSE: Final = "INSERT OR IGNORE INTO paused (queue) VALUES (?)"
_RESUME: Final = "DELETE FROM paused WHERE queue = ?"


def pause(cx: sqlite3.Connection, queue: str) -> None:
    """Let nobody take from `queue`."""
    cx.execute(_PAUSE, (queue,))


def resume(cx: sqlite3.Connection, queue: str) -> None:
    """Let everybody take from `queue` again."""
    cx.execute(_RESUME, (queue,))


def names(cx: sqlite3.Connection) -> list[str]:
    """Return the queues that are paused, sorted."""
    return [name for (name,) in cx.execute("SELECT queue FROM paused ORDER BY queue").fetchall()]
