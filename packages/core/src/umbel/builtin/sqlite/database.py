"""One SQLite file as this process uses it: one connection, shared by all handles on the file.

Threads take turns, other processes are waited for. A write is one immediate transaction in the
write-ahead log. The connection is made at the first call, again after an error that breaks it,
and again where the file was deleted or replaced: a worker must not go on in a file that nobody
else sees.
"""

from __future__ import annotations

import os
import sqlite3
import threading
import time
from collections.abc import Callable
from pathlib import Path
from random import random
from typing import Concatenate, Final, ParamSpec, TypeVar

from umbel.builtin.sqlite import forks
from umbel.builtin.sqlite.errors import (
    TRANSLATED,
    ClosedError,
    UndoError,
    breaks_connection,
    is_busy,
)
from umbel.builtin.sqlite.schema import prepare
from umbel.builtin.sqlite.urls import DEFAULT_FOLDER

P = ParamSpec("P")
T = TypeVar("T")

#: Pages of the log at which a commit copies it into the database.
CHECKPOINT_PAGES: Final = 2000
#: Bytes that the log is cut back to after a burst.
LOG_LIMIT: Final = 64 * 1024 * 1024
CACHE_KIB: Final = 8192
STATEMENTS: Final = 256

_FIRST_PAUSE_S = 0.0008
_LONGEST_PAUSE_S = 0.01

#: Errors that leave no statement half read. After any other, such as one that a signal's handler
#: raised, a cursor in its traceback may hold on to an old snapshot, and the file with it.
_ORDERLY: Final = (UndoError, *TRANSLATED)

#: Connections of the parent process: neither used nor closed here, so never collected.
_parked: list[sqlite3.Connection] = []


class Database:
    """The connection to one file, and the turns that threads and processes take at it."""

    def __init__(self, path: str, key: str):
        self.path = path
        #: What the registry knows it by.
        self.key = key
        #: Counts the connections made; what was stored by an earlier one may be gone.
        self.epoch = 0
        self._lock = threading.Lock()
        self._rests = False
        self._cx: sqlite3.Connection | None = None
        self._identity: tuple[int, int] | None = None
        #: The level of `synchronous`; None: not known, since setting it was interrupted.
        self._full: bool | None = False
        self._closed = False
        forks.track(self)

    def read(
        self,
        patience_s: float,
        work: Callable[Concatenate[sqlite3.Connection, P], T],
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> T:
        """Return what `work` reads. It is repeated where another process is in its way.

        Raises: sqlite3.Error, UnusableFileError, ClosedError.
        """
        with self._lock:
            patience: _Patience | None = None
            while True:
                try:
                    return work(self._connection(), *args, **kwargs)
                except sqlite3.Error as error:
                    patience = patience or _Patience(patience_s)
                    self._bear(error, patience)
                except BaseException as error:
                    if not isinstance(error, _ORDERLY):
                        self._drop()
                    raise

    def write(
        self,
        patience_s: float,
        full: bool,
        work: Callable[Concatenate[sqlite3.Connection, P], T],
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> T:
        """Return what `work` does, in one transaction; on any error nothing of it is done.

        Args:
            full: Whether the transaction, and all before it, must survive a power cut.
        Raises: sqlite3.Error, UnusableFileError, ClosedError.
        """
        with self._lock:
            try:
                cx = self._begin(patience_s, full)
                result = work(cx, *args, **kwargs)
                cx.execute("COMMIT")
            except BaseException as error:
                self._undo(error)
                raise
            return result

    def close(self) -> None:
        """Close the connection for good."""
        with self._lock:
            self._closed = True
            self._drop()

    def _begin(self, patience_s: float, full: bool) -> sqlite3.Connection:
        patience: _Patience | None = None
        while True:
            try:
                cx = self._connection()
                if full is not self._full:
                    self._full = None
                    cx.execute(f"PRAGMA synchronous = {'FULL' if full else 'NORMAL'}")
                    self._full = full
                cx.execute("BEGIN IMMEDIATE")
                return cx
            except sqlite3.Error as error:
                patience = patience or _Patience(patience_s)
                self._bear(error, patience)

    def _bear(self, error: sqlite3.Error, patience: _Patience) -> None:
        """Wait a moment where another process is in the way; else raise `error`."""
        if breaks_connection(error):
            self._drop()
        if not is_busy(error) or not patience.pause():
            raise error

    def _undo(self, error: BaseException) -> None:
        """End what may have begun: a signal's handler can raise even as BEGIN returns."""
        if isinstance(error, sqlite3.Error) and breaks_connection(error):
            self._drop()
            return
        cx = self._cx
        try:
            # First, also where it is dropped: a cursor that lives on keeps a closed one open.
            if cx is not None and cx.in_transaction:
                cx.execute("ROLLBACK")
        except sqlite3.Error:
            self._drop()
        if not isinstance(error, _ORDERLY):
            self._drop()

    def _connection(self) -> sqlite3.Connection:
        if self._cx is not None:
            if self._identity == _identity(self.path):
                return self._cx
            self._drop()
        if self._closed:  # by another thread, while this one waited for its turn
            raise ClosedError("this handle was closed; open another one")
        return self._connect()

    def _connect(self) -> sqlite3.Connection:
        _make_folder(self.path)
        cx = sqlite3.connect(
            self.path,
            timeout=0.0,  # _Patience waits instead: it can be interrupted, and is fairer
            isolation_level=None,
            check_same_thread=False,  # _lock sees to it
            cached_statements=STATEMENTS,
        )
        try:
            prepare(cx, self.path)
            cx.text_factory = _text
            cx.execute("PRAGMA synchronous = NORMAL")
            cx.execute("PRAGMA secure_delete = OFF")  # some builds overwrite what they delete
            cx.execute("PRAGMA temp_store = MEMORY")
            cx.execute("PRAGMA trusted_schema = OFF")
            cx.execute(f"PRAGMA cache_size = -{CACHE_KIB}")
            cx.execute(f"PRAGMA wal_autocheckpoint = {CHECKPOINT_PAGES}")
            cx.execute(f"PRAGMA journal_size_limit = {LOG_LIMIT}")
        except BaseException:
            cx.close()
            raise
        self._cx, self._identity, self._full = cx, _identity(self.path), False
        self.epoch += 1
        return cx

    def _drop(self) -> None:
        cx, self._cx = self._cx, None
        if cx is not None:
            cx.close()

    def before_fork(self) -> None:
        """Let the running transaction end; at most a second, so that a fork never hangs."""
        self._rests = self._lock.acquire(timeout=1.0)

    def after_fork_in_parent(self) -> None:
        """Go on."""
        if self._rests:
            self._rests = False
            self._lock.release()

    def after_fork_in_child(self) -> None:
        """Forget the parent's connection."""
        self._lock, self._rests = threading.Lock(), False
        if self._cx is not None:
            _parked.append(self._cx)
            self._cx = None


class _Patience:
    """Short random pauses, growing, until the time is up."""

    def __init__(self, seconds: float):
        self._until = time.monotonic() + seconds
        self._pause_s = _FIRST_PAUSE_S

    def pause(self) -> bool:
        """Sleep a moment; False: the time is up."""
        if time.monotonic() >= self._until:
            return False
        time.sleep(self._pause_s * (0.5 + random()))
        self._pause_s = min(self._pause_s * 1.5, _LONGEST_PAUSE_S)
        return True


class _Registry:
    """The open databases of this process by file, with the number of their users."""

    def __init__(self) -> None:
        #: Also keeps handles from opening and closing at once.
        self.lock = threading.RLock()
        self._open: dict[str, tuple[Database, int]] = {}
        forks.track(self)

    def acquire(self, path: str) -> Database:
        """Return the database of the file `path`, one more user."""
        key = _key(path)
        with self.lock:
            database, users = self._open.get(key) or (Database(path, key), 0)
            self._open[key] = database, users + 1
            return database

    def release(self, database: Database) -> None:
        """Take one user away; the last one closes the connection."""
        with self.lock:
            users = self._open[database.key][1] - 1
            if users:
                self._open[database.key] = database, users
                return
            del self._open[database.key]
        database.close()

    def before_fork(self) -> None:
        """Nothing: the lock is never held for long."""

    def after_fork_in_parent(self) -> None:
        """Nothing."""

    def after_fork_in_child(self) -> None:
        """Free the lock, which another thread of the parent may have held."""
        self.lock = threading.RLock()


REGISTRY: Final = _Registry()


def _key(path: str) -> str:
    return os.path.normcase(os.path.realpath(path))


def _identity(path: str) -> tuple[int, int] | None:
    """Return what tells the file from another one of its name; None: there is none."""
    try:
        found = os.stat(path)  # noqa: PTH116 - before each transaction; Path costs twice as much
    except OSError:
        return None
    return found.st_dev, found.st_ino


def _text(raw: bytes) -> str:
    # Never raises: a damaged text must not keep the rows beside it from being read.
    return raw.decode("utf-8", "replace")


def _make_folder(path: str) -> None:
    """Make the default folder, hidden from git; any other folder is the user's to make."""
    folder = Path(path).parent
    if folder.name != DEFAULT_FOLDER:
        return
    try:
        if not folder.is_dir():
            folder.mkdir(parents=True, exist_ok=True)
            (folder / ".gitignore").write_text("*\n", encoding="ascii")
    except OSError:
        return  # SQLite's own error, right after this, is told to the user
