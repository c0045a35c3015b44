"""Processes that wait for messages in Redis, forked within milliseconds, to be killed right away.

Run as a program it loads all that they need, then forks one for each line that it reads: the name
of its node. Each joins, waits, and keeps what it gets.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Self

from project import kill

from umbel.clock import SYSTEM_CLOCK
from umbel_broker_redis.broker import RedisBroker


class Nursery:
    """The process that forks them."""

    def __init__(self, url: str, queue: str, lease_s: float):
        self._process = subprocess.Popen(
            [sys.executable, str(Path(__file__)), url, queue, str(lease_s)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self._living: set[int] = set()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        for pid in list(self._living):
            self.kill(pid)  # it holds the pipes open
        self._process.communicate(timeout=30)

    def born(self, node: str) -> int:
        """Return the pid of a new process, which waits in a moment; its consumer is ``node/1``."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(f"{node}\n")
        self._process.stdin.flush()
        pid = int(self._process.stdout.readline())
        self._living.add(pid)
        return pid

    def kill(self, pid: int) -> None:
        """End one at once."""
        self._living.discard(pid)
        kill(pid)


def main(url: str, queue: str, lease_s: str) -> None:
    """Fork a process for each line; they are reaped when the next one comes."""
    for line in sys.stdin:
        while _reaped():
            pass
        pid = os.fork()
        if not pid:
            _wait(url, queue, line.strip(), float(lease_s))
            os._exit(0)
        sys.stdout.write(f"{pid}\n")
        sys.stdout.flush()


def _reaped() -> bool:
    try:
        return os.waitpid(-1, os.WNOHANG)[0] != 0
    except ChildProcessError:
        return False


def _wait(url: str, queue: str, node: str, lease_s: float) -> None:
    broker = RedisBroker(url, options={}, clock=SYSTEM_CLOCK)
    broker.join(node, f"{node}/1", lease_s=lease_s)
    while True:
        broker.receive([queue], max_messages=1, wait_s=60)


if __name__ == "__main__":
    main(*sys.argv[1:])
