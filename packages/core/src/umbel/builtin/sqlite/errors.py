"""Turn SQLite's errors into umbel's: what happened, to which file, and what to do about it."""

from __future__ import annotations

import os
import sqlite3
from pathlib import Path
from typing import NamedTuple

from umbel.builtin.sqlite.urls import Location
from umbel.errors import UmbelError


class UnusableFileError(Exception):
    """The file isn't one that umbel can work with; the text says why and what to do."""


class ClosedError(Exception):
    """The handle was closed before."""


class UndoError(Exception):
    """Raised by a transaction's own work: nothing of it is to be done."""


#: What `Failures.translate` knows how to turn into an error of umbel's.
TRANSLATED = (sqlite3.Error, UnusableFileError, ClosedError, OverflowError, UnicodeError)

_BUSY = frozenset({sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_PROTOCOL})
_BROKEN = frozenset(
    {
        sqlite3.SQLITE_CANTOPEN,
        sqlite3.SQLITE_CORRUPT,
        sqlite3.SQLITE_IOERR,
        sqlite3.SQLITE_NOTADB,
        sqlite3.SQLITE_READONLY,
    }
)


def primary_code(error: sqlite3.Error) -> int | None:
    """Return SQLite's primary result code; None for what the Python module raised itself."""
    code = getattr(error, "sqlite_errorcode", None)
    return None if code is None else int(code) & 0xFF


def is_busy(error: sqlite3.Error) -> bool:
    """Tell whether another process was just using the file, so that trying again may help."""
    return primary_code(error) in _BUSY


def breaks_connection(error: sqlite3.Error) -> bool:
    """Tell whether a new connection should be made before the next call."""
    return primary_code(error) in _BROKEN


class Failures(NamedTuple):
    """The pair of errors that a kind of handle raises."""

    #: Refused: the same call won't work later.
    refused: type[UmbelError]
    #: The same call may work later.
    unavailable: type[UmbelError]

    def translate(self, error: Exception, location: Location) -> UmbelError:
        """Return what to raise in the place of `error`, one of TRANSLATED."""
        if isinstance(error, (UnusableFileError, ClosedError)):
            return self.refused(str(error))
        if isinstance(error, UnicodeDecodeError):  # SQLite quotes a name that is damaged
            return self.refused(
                f"the SQLite file {location.path!r} is damaged: a name in it isn't text; stop "
                f"what uses it, then restore it"
            )
        if not isinstance(error, sqlite3.Error):
            return self.refused(f"a value can't be stored in SQLite: {error}")
        path = location.path
        match primary_code(error):
            case sqlite3.SQLITE_BUSY | sqlite3.SQLITE_LOCKED | sqlite3.SQLITE_PROTOCOL:
                return self.unavailable(
                    f"the SQLite file {path!r} stayed locked by another process for "
                    f"{location.busy_timeout_s:g} s; look for one that hangs in a transaction, "
                    f"or raise busy_timeout_s in the URL"
                )
            case sqlite3.SQLITE_FULL:
                return self.unavailable(
                    f"no space is left on the disk of {path!r}; nothing of this call was stored, "
                    f"and what was accepted before is intact: free some space and repeat it"
                )
            case sqlite3.SQLITE_IOERR:
                return self.unavailable(
                    f"reading or writing the SQLite file {path!r} failed "
                    f"({error.sqlite_errorname}: {error}); check its disk and the system's log"
                )
            case code:
                return self.refused(_refusal(code, error, path))


def _refusal(code: int | None, error: sqlite3.Error, path: str) -> str:
    match code:
        case sqlite3.SQLITE_READONLY | sqlite3.SQLITE_PERM:
            return f"the SQLite file {path!r} can't be written: {_why_not_writable(path)}"
        case sqlite3.SQLITE_CANTOPEN:
            return f"the SQLite file {path!r} can't be opened: {_why_not_openable(path)}"
        case sqlite3.SQLITE_NOTADB:
            return (
                f"{path!r} is not an SQLite file, or its beginning is damaged; "
                f"give umbel another path, or restore the file"
            )
        case sqlite3.SQLITE_CORRUPT:
            return (
                f"the SQLite file {path!r} is damaged ({error}); stop what uses it, then restore "
                f"it, or save what can be read by: sqlite3 {path} .recover"
            )
        case sqlite3.SQLITE_TOOBIG:
            return "a message or result is larger than SQLite can store (1,000,000,000 bytes)"
        case _:
            return f"the SQLite file {path!r} refused: {error}"


# By os, not by pathlib, whose questions raise where the user may not even look.


def _why_not_writable(path: str) -> str:
    # SQLite makes the other two with the permissions that the file has then.
    for file in (path, f"{path}-wal", f"{path}-shm"):
        if os.access(file, os.F_OK) and not os.access(file, os.W_OK):
            return f"{Path(file).name!r} is read-only for this user; change its permissions"
    if not os.access(Path(path).parent, os.W_OK):
        return _read_only_folder(path)
    return "its file system is read-only, or the file was made so while it was in use"


def _why_not_openable(path: str) -> str:
    folder = Path(path).parent
    if not os.access(folder, os.X_OK):
        return (
            f"there is no folder {str(folder)!r}, or this user may not enter it; "
            f"make it, or give umbel another path"
        )
    if os.path.isdir(path):  # noqa: PTH112 - see above
        return "it is a folder; name a file in it"
    if os.access(path, os.F_OK) and not os.access(path, os.R_OK | os.W_OK):
        return "this user may not read and write it; change its permissions"
    if not os.access(folder, os.W_OK):
        return _read_only_folder(path)
    return "the system refused it (too many open files, or a path that is too long?)"


def _read_only_folder(path: str) -> str:
    folder = str(Path(path).parent)
    return f"the folder {folder!r} is read-only for this user; SQLite writes beside the file"
