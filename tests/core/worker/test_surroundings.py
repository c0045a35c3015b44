"""What a process finds around itself, asked of fresh ones."""

from __future__ import annotations

import subprocess
import sys

import pytest

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="asks /proc")

NATIVE_THREAD = """
import _thread, time
_thread.start_new_thread(time.sleep, (60,))
"""
INHERITED = """
import os, socket
os.set_inheritable(kept.fileno(), True)
"""


def is_clean(before: str) -> bool:
    """Run `before` in a fresh interpreter and ask it."""
    code = f"{before}\nfrom umbel.worker.surroundings import is_clean\nprint(is_clean())"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return {"True": True, "False": False}[done.stdout.strip()]


@pytest.mark.parametrize(
    "before, expected",
    [
        ("", True),
        ("import sqlite3; kept = sqlite3.connect(':memory:')", True),
        (NATIVE_THREAD, False),
        ("import socket; kept = socket.socket()", False),
        ("import socket; kept = socket.socketpair()", False),
        ("import socket; kept = socket.socket()" + INHERITED, True),
    ],
)
def test_a_process_is_clean_without_threads_and_sockets_of_its_own(
    before: str, expected: bool
) -> None:
    assert is_clean(before) is expected
