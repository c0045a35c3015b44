"""What the broker, the backend and the coordinator have in common: their way to the file."""

from __future__ import annotations

import os
import sqlite3
import weakref
from collections.abc import Callable
from typing import Concatenate, ParamSpec, TypeVar

from umbel.builtin.sqlite.database import REGISTRY, Database
from umbel.builtin.sqlite.errors import TRANSLATED, ClosedError, Failures
from umbel.builtin.sqlite.urls import Location

P = ParamSpec("P")
T = TypeVar("T")


class Store:
    """One handle's use of the file. Opens nothing before the first call.

    `work` is a function of a connection and the arguments given. Reads may be repeated.
    """

    def __init__(self, location: Location, failures: Failures):
        self.location = location
        self._failures = failures
        self._patience_s = location.busy_timeout_s
        self._always_full = location.synchronous == "full"
        self._never_full = location.synchronous == "normal"
        self._log = f"{location.path}-wal"
        self._database: Database | None = None
        #: Frees the connection: at `close`, or where the handle is dropped without it.
        self._release: weakref.finalize[[Database], Store] | None = None
        self._closed = False

    @property
    def closed(self) -> bool:
        """Tell whether `close` was called."""
        return self._closed

    @property
    def epoch(self) -> int:
        """Return a number that changes with each connection; 0 before the first."""
        return 0 if self._database is None else self._database.epoch

    def read(
        self,
        work: Callable[Concatenate[sqlite3.Connection, P], T],
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> T:
        """Return what `work` reads."""
        try:
            return self._opened().read(self._patience_s, work, *args, **kwargs)
        except TRANSLATED as error:
            raise self._failures.translate(error, self.location) from error

    def write(
        self,
        work: Callable[Concatenate[sqlite3.Connection, P], T],
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> T:
        """Return what `work` does in one transaction, which survives any death of processes."""
        return self._write(self._always_full, work, *args, **kwargs)

    def write_durably(
        self,
        work: Callable[Concatenate[sqlite3.Connection, P], T],
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> T:
        """As `write`; it survives a power cut, too."""
        return self._write(not self._never_full, work, *args, **kwargs)

    def attempt(
        self,
        work: Callable[Concatenate[sqlite3.Connection, P], T],
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> T | None:
        """As `write`, but without waiting and without errors; None where it failed."""
        try:
            return self._opened().write(0.0, False, work, *args, **kwargs)
        except TRANSLATED:
            return None

    def version(self) -> tuple[int, int]:
        """Return a value that differs after any process has written to the file.

        From the log's time and size, a tenth of what `PRAGMA data_version` costs. What is written
        in the same tick of the system's clock may go unnoticed.
        """
        try:
            found = os.stat(self._log)  # noqa: PTH116 - asked 55 times a second
        except OSError:
            return (0, 0)
        return found.st_mtime_ns, found.st_size

    def close(self) -> None:
        """Free the connection, unless other handles use it. Repeatable."""
        with REGISTRY.lock:
            self._closed = True
            release, self._database, self._release = self._release, None, None
        if release is not None:
            release()

    def _write(
        self,
        full: bool,
        work: Callable[Concatenate[sqlite3.Connection, P], T],
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> T:
        try:
            return self._opened().write(self._patience_s, full, work, *args, **kwargs)
        except TRANSLATED as error:
            raise self._failures.translate(error, self.location) from error

    def _opened(self) -> Database:
        database = self._database
        if database is None:
            with REGISTRY.lock:
                if self._closed:
                    raise ClosedError("this handle was closed; open another one")
                database = self._database
                if database is None:
                    database = REGISTRY.acquire(self.location.path)
                    self._release = weakref.finalize(self, REGISTRY.release, database)
                    self._database = database
        return database


def write_nothing(cx: sqlite3.Connection) -> None:
    """Change nothing, in a way that fails where something couldn't be changed."""
    # A transaction alone won't do: in a file that can't be written it is one for reading.
    cx.execute("DELETE FROM queues WHERE name IS NULL")
