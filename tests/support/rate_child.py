"""Child processes that share a table of rates; imported there by name."""

from __future__ import annotations

import os
import time
from multiprocessing.connection import Connection

from umbel.worker.rate_table import RateTable
from umbel.worker.shared_files import lock_file


def die_with_the_lock(table: RateTable, pipe: Connection) -> None:
    """Take the lock of the table, say so, and wait to be killed."""
    assert table._handle is not None
    lock_file(table._handle)
    pipe.send(os.getpid())
    time.sleep(600)


def take_for(table: RateTable, name: str, seconds: float, pipe: Connection) -> None:
    """Start what may start for a while; tell when each did."""
    index = table.find(name)
    assert index is not None
    pipe.send("ready")
    pipe.recv()
    starts: list[float] = []
    asked_at: list[float] = []

    def clock() -> float:
        asked_at.append(time.monotonic())
        return asked_at[-1]

    ends_at = time.monotonic() + seconds
    while time.monotonic() < ends_at:
        if table.take(index, clock, is_new=False) == 0:
            starts.append(asked_at[-1])  # as the table had it: what follows takes its time
        time.sleep(0.001)
    pipe.send(starts)
