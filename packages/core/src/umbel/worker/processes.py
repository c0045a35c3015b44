"""Child processes, as their supervisor sees them, and how it has them started.

Always clean: never by a fork of a process that has threads or sockets. On Linux a fork server
has the app imported and children are forked from it (`forking`); elsewhere each child is a fresh
interpreter (`spawning`).
"""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Collection, Container, Iterator, Sequence
from contextlib import suppress
from multiprocessing import connection
from multiprocessing.connection import Connection
from typing import Any, Protocol

from umbel.outcomes import Outcome
from umbel.worker.board import Board
from umbel.worker.child import DUMP, ChildSpec

#: Seconds that the exit code of a process that has ended may take to be known.
_EXIT_CODE_S = 5.0


class Process(Protocol):
    """A process that was started, whichever way."""

    pid: int

    @property
    def sentinel(self) -> int:
        """What becomes readable when the process ends."""

    def send_signal(self, number: int) -> None:
        """Send a signal, where it can't reach another process by mistake. Raises: OSError."""

    def kill(self) -> None:
        """End it at once. Raises: OSError: it has ended."""

    def release(self, wait_s: float) -> int | None:
        """Return the exit code, and free all; None: it isn't known within `wait_s` seconds."""


class Child:
    """A running child, as its supervisor sees it."""

    def __init__(self, spec: ChildSpec, process: Process, pipe: Connection, board: Board):
        self.spec, self._process, self._pipe, self.board = spec, process, pipe, board
        self.pid = process.pid
        #: Monotonic seconds.
        self.born_at = time.monotonic()
        self.was_ready = False
        #: Its work is to end or has ended, and it doesn't count in the pool any more.
        self.is_retiring = False
        #: Whether it doesn't come round any more.
        self.is_stuck = False
        #: Since when its work is known to have ended in order (monotonic seconds).
        self.ended_at: float | None = None
        #: Whether it was ended from here.
        self.was_killed = False
        #: Why, where that is the fault of what it ran.
        self.fault: str | None = None
        #: By slot key: what comes of the tasks that it was ended for.
        self.doomed: dict[bytes, Outcome] = {}
        #: Memory when it was last looked at; None: not known.
        self.memory_bytes: int | None = None
        self._telling = threading.Lock()

    @property
    def index(self) -> int:
        """Its number in the pool."""
        return self.spec.index

    @property
    def sentinel(self) -> int:
        """What becomes readable when the process ends."""
        return self._process.sentinel

    @property
    def is_alive(self) -> bool:
        """Whether the process lives."""
        return not connection.wait([self.sentinel], 0)

    def tell(self, command: bytes) -> None:
        """Send a command; a child that is gone hears none. Any thread."""
        with suppress(OSError), self._telling:
            self._pipe.send_bytes(command)

    def ask_for_dump(self) -> None:
        """Have it dump its stacks; one thread asks, and waits for the answer."""
        while self.has_dumped(0):  # an answer that came too late for the one before
            pass
        self.tell(DUMP)

    def has_dumped(self, wait_s: float) -> bool:
        """Tell whether it says within `wait_s` seconds that it has; one that is gone never does."""
        try:
            return self._pipe.poll(wait_s) and bool(self._pipe.recv_bytes())
        except (OSError, EOFError):
            return False

    def send_signal(self, number: int) -> None:
        """Send a signal, where the system can't send it to another process by mistake."""
        with suppress(OSError), self._telling:
            self._process.send_signal(number)

    def kill(self) -> None:
        """End it at once."""
        self.was_killed = True
        with suppress(OSError):  # it has ended
            self._process.kill()

    def release(self) -> int | None:
        """Free what belongs to it, after its end; returns the exit code, None: unknown."""
        self._pipe.close()
        self.board.close()
        with self._telling:
            return self._process.release(_EXIT_CODE_S)


class Starter(Protocol):
    """Starts children. On the supervisor's thread, which it doesn't hold up."""

    @property
    def ordered(self) -> Collection[int]:
        """The numbers of the children that are ordered and not started yet."""

    @property
    def is_full(self) -> bool:
        """Whether nothing more may be ordered for the moment."""

    @property
    def will_answer(self) -> bool:
        """Whether an answer to an order is due any moment."""

    @property
    def sentinels(self) -> Sequence[Any]:
        """What becomes readable when there may be an answer."""

    @property
    def pids(self) -> Container[int]:
        """Other processes than children that are waited for here."""

    def order(self, spec: ChildSpec, board: Board) -> None:
        """Ask for a child; `answers` brings it. Raises: OSError: `board` is closed then."""

    def answers(self) -> Iterator[Child | OSError]:
        """Yield what has come of orders meanwhile; doesn't wait."""

    def end_late(self, longest_s: float) -> bool:
        """Give up what is longer than that in importing the app; tell whether something was."""

    def close(self) -> Sequence[Child]:
        """Start nothing more; returns children that were started meanwhile."""


def reap_adopted(own: Container[int] = ()) -> None:
    """Collect ended processes that this one inherited as the init process of a container.

    Those that tasks started and whose parent was killed; not `own`, which others wait for, as
    `multiprocessing` does for its own.
    """
    if os.getpid() != 1 or not hasattr(os, "waitid"):
        return
    with suppress(ChildProcessError):
        while found := os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT):
            if found.si_pid in own or found.si_pid in _pids_of_multiprocessing():
                return
            os.waitpid(found.si_pid, os.WNOHANG)


def _pids_of_multiprocessing() -> set[int | None]:
    """Return the helpers that multiprocessing has started here, if any."""
    server = sys.modules.get("multiprocessing.forkserver")
    tracker = sys.modules.get("multiprocessing.resource_tracker")
    return {
        getattr(getattr(server, "_forkserver", None), "_forkserver_pid", None),
        getattr(getattr(tracker, "_resource_tracker", None), "_pid", None),
    }
