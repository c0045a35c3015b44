"""What a worker finds around itself when it is started, and what it needs of that."""

from __future__ import annotations

import os


def open_standard_files() -> None:
    """Open what is closed of standard input, output and error.

    Else a pipe or a database gets one of their numbers, which others close or write to.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest number that is free


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
