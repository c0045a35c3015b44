"""What a worker finds around itself when it is started, and what it needs of that."""

from __future__ import annotations

import os
import stat
import sys
from contextlib import suppress
from pathlib import Path


def open_standard_files() -> None:
    """Open what is closed of standard input, output and error.

    Else a pipe or a database gets one of their numbers, which others close or write to.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest number that is free


def flush_standard_files() -> None:
    """Write what is buffered: else a process that is forked now would write it once more."""
    for file in (sys.stdout, sys.stderr):
        with suppress(AttributeError, ValueError, OSError):  # there is none, or nobody reads it
            file.flush()


def has_terminal() -> bool:
    """Tell whether a terminal controls this process: one that closes sends HUP."""
    try:
        os.close(os.open("/dev/tty", os.O_RDONLY | getattr(os, "O_NOCTTY", 0)))
    except OSError:
        return False
    return True


def current_folder() -> str | None:
    """Return the current folder; None where it was removed."""
    try:
        return os.getcwd()  # noqa: PTH109 - a str crosses to the child
    except OSError:
        return None


def count_threads() -> int:
    """Return how many threads this process has, those of C libraries included (Linux)."""
    return len(list(Path("/proc/self/task").iterdir()))


def is_clean() -> bool:
    """Tell whether a fork of this process takes nothing with it but memory (Linux).

    No threads, and no sockets but those that it was started with.
    """
    try:
        return count_threads() == 1 and not any(_is_own_socket(fd) for fd in _descriptors())
    except OSError:  # no /proc here: nobody knows
        return False


def _descriptors() -> list[int]:
    return [int(each.name) for each in Path("/proc/self/fd").iterdir()]


def _is_own_socket(handle: int) -> bool:
    try:
        # Python makes its sockets non-inheritable: one that is inheritable came from outside.
        return stat.S_ISSOCK(os.fstat(handle).st_mode) and not os.get_inheritable(handle)
    except OSError:  # it was that of the listing
        return False
