"""Files that processes share as memory, and a lock on them that the system frees when its holder dies.

Where the system has nameless files, these have no name that anybody could leave behind.
"""

from __future__ import annotations

import os
import socket
import sys
import tempfile
import time
from array import array
from pathlib import Path

if sys.platform == "win32":
    import msvcrt
else:
    import fcntl

#: Where the locked byte is: behind all that is mapped, since on Windows nobody else may read it.
_LOCKED_AT = 1 << 30
#: Windows has no lock to wait for in silence: seconds between two tries.
_TRY_EVERY_S = 0.0005


def new_file(name: str, size: int) -> tuple[int, Path | None]:
    """Return an open file of so many zero bytes, and its path where it must have one.

    `name` is for people who look at what a process has open.
    """
    if hasattr(os, "memfd_create"):
        try:
            handle = os.memfd_create(name)
        except OSError:  # a sandbox forbids it
            pass
        else:
            os.ftruncate(handle, size)
            return handle, None
    handle, path = tempfile.mkstemp(prefix=f"{name}-")
    os.ftruncate(handle, size)
    if os.name == "nt":  # an open file can be neither handed over nor removed there
        return handle, Path(path)
    Path(path).unlink()
    return handle, None


def open_file(path: Path) -> int:
    """Return the open file of that path, which `new_file` made."""
    return os.open(path, os.O_RDWR | getattr(os, "O_BINARY", 0))


def receive_files(
    link: socket.socket, size: int, most: int, flags: int = 0
) -> tuple[bytes, list[int]]:
    """Return a message of `size` bytes at most, and the files that came with it, `most` at most.

    They aren't passed on to programs that are executed. `socket.recv_fds` heeds no flags.
    Raises: OSError: nothing came, or nobody is there.
    """
    found = array("i")
    data, rest, _, _ = link.recvmsg(
        size, socket.CMSG_SPACE(most * found.itemsize), flags | socket.MSG_CMSG_CLOEXEC
    )
    for level, kind, raw in rest:
        if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
            found.frombytes(raw[: len(raw) - len(raw) % found.itemsize])
    return data, list(found)


if sys.platform == "win32":

    def lock_file(handle: int) -> None:
        """Wait until no other process has the lock of the file, and take it."""
        while True:
            os.lseek(handle, _LOCKED_AT, os.SEEK_SET)
            try:
                msvcrt.locking(handle, msvcrt.LK_NBLCK, 1)
            except OSError:
                time.sleep(_TRY_EVERY_S)
            else:
                return

    def unlock_file(handle: int) -> None:
        """Give the lock up."""
        os.lseek(handle, _LOCKED_AT, os.SEEK_SET)
        msvcrt.locking(handle, msvcrt.LK_UNLCK, 1)

else:

    def lock_file(handle: int) -> None:
        """Wait until no other process has the lock of the file, and take it."""
        fcntl.lockf(handle, fcntl.LOCK_EX, 1, _LOCKED_AT)

    def unlock_file(handle: int) -> None:
        """Give the lock up."""
        fcntl.lockf(handle, fcntl.LOCK_UN, 1, _LOCKED_AT)
