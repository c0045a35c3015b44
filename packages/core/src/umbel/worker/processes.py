"""Starting child processes clean: never a fork of a process that has threads or sockets.

On Linux a fork server has the app imported and children are forked from it; elsewhere each
child is a fresh interpreter.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from multiprocessing import connection
from multiprocessing.connection import Connection
from multiprocessing.context import BaseContext
from multiprocessing.process import BaseProcess
from types import ModuleType

from umbel.outcomes import Outcome
from umbel.worker.board import Board
from umbel.worker.child import DUMP, ChildSpec, child_main
from umbel.worker.preload import MODULES_VARIABLE, PATH_VARIABLE
from umbel.worker.surroundings import current_folder

#: Seconds that the exit code of a process that has ended may take to be known.
_EXIT_CODE_S = 5.0


class Child:
    """A running child, as its supervisor sees it.

    Where the system has them, a file descriptor of the process itself tells whether it lives:
    what `multiprocessing` says comes from the fork server, and ends with it.
    """

    def __init__(self, spec: ChildSpec, process: BaseProcess, pipe: Connection, board: Board):
        self.spec, self._process, self._pipe, self.board = spec, process, pipe, board
        self.pid = process.pid or 0
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
        self._pidfd = _open_pidfd(self.pid)
        self._telling = threading.Lock()

    @property
    def index(self) -> int:
        """Its number in the pool."""
        return self.spec.index

    @property
    def sentinel(self) -> int:
        """What becomes readable when the process ends."""
        return self._process.sentinel if self._pidfd is None else self._pidfd

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
            if self._pidfd is not None:
                signal.pidfd_send_signal(self._pidfd, number)

    def kill(self) -> None:
        """End it at once."""
        self.was_killed = True
        with suppress(OSError):  # it has ended
            if self._pidfd is None:
                self._process.kill()
            else:
                signal.pidfd_send_signal(self._pidfd, signal.SIGKILL)

    def release(self) -> int | None:
        """Free what belongs to it, after its end; returns the exit code, None: unknown."""
        self._process.join(_EXIT_CODE_S)
        exitcode = self._process.exitcode
        with suppress(ValueError):  # the fork server doesn't know that it has ended
            self._process.close()
        self._pipe.close()
        self.board.close()
        with self._telling:
            pidfd, self._pidfd = self._pidfd, None
        if pidfd is not None:
            os.close(pidfd)
        return exitcode


def process_context(preload: Sequence[str]) -> BaseContext:
    """Return how children are started here.

    Args:
        preload: Modules that the fork server imports before it forks; may be empty.
    """
    if not sys.platform.startswith("linux"):
        return multiprocessing.get_context("spawn")
    os.environ[PATH_VARIABLE] = os.pathsep.join(sys.path)
    os.environ[MODULES_VARIABLE] = ",".join(preload)
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["umbel.worker.preload"])
    return context


def start_child(context: BaseContext, spec: ChildSpec, board: Board) -> Child:
    """Start a child; it is ready when its board says so.

    Raises: OSError, EOFError: it can't be started now; `board` is closed then.
    """
    if current_folder() is None:  # it was removed: nothing can be started from there
        os.chdir(os.sep)
    ours, theirs = context.Pipe()
    process = context.Process(  # type: ignore[attr-defined]
        target=child_main, args=(spec, theirs, board), name=f"umbel-child-{spec.index}"
    )
    try:
        with _without_main():
            process.start()
    except BaseException:
        ours.close()
        board.close()
        raise
    finally:
        theirs.close()
    board.forget_file()
    return Child(spec, process, ours, board)


def reap_adopted() -> None:
    """Collect ended processes that this one inherited as the init process of a container.

    Those that tasks started and whose parent was killed. `multiprocessing` waits for its own.
    """
    if os.getpid() != 1 or not hasattr(os, "waitid"):
        return
    with suppress(ChildProcessError):
        while found := os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT):
            if found.si_pid in _pids_of_multiprocessing():
                return
            os.waitpid(found.si_pid, os.WNOHANG)


def _pids_of_multiprocessing() -> set[int | None]:
    from multiprocessing import forkserver, resource_tracker  # noqa: PLC0415 - not on Windows

    return {
        getattr(forkserver._forkserver, "_forkserver_pid", None),  # noqa: SLF001
        getattr(resource_tracker._resource_tracker, "_pid", None),  # noqa: SLF001
    }


def _open_pidfd(pid: int) -> int | None:
    """Return a descriptor of the process; None where there is no such thing."""
    if not hasattr(os, "pidfd_open"):
        return None
    try:
        return os.pidfd_open(pid)
    except OSError:  # it has ended already, or a sandbox forbids it
        return None


@contextmanager
def _without_main() -> Iterator[None]:
    """Hide the main module, which multiprocessing would import again in every child.

    It is the command line's script: a child needs nothing of it.
    """
    main = sys.modules["__main__"]
    sys.modules["__main__"] = ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = main
