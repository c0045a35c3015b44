"""New code for a worker, without a new process id: on HUP, or when a file changes.

The new code is tried first, in a process of its own: where it can't be loaded, the old goes on.
Then the worker shuts down warm, and its process executes its own command line again. Service
managers see the process that they started all along.
"""

from __future__ import annotations

import logging
import os
import queue
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import IO, NoReturn

from umbel.worker.stop_signals import SENT_BY_MANAGERS
from umbel.worker.surroundings import current_folder

logger = logging.getLogger("umbel.worker")

#: Seconds that the new code may take to load.
_CHECK_S = 60.0
#: Seconds between two looks at whether it is still wanted.
_LOOK_S = 0.1
#: Characters of what a failed check has said that are logged.
_MOST_TEXT = 4000
#: Exit code by which a process tells the one above it to start another (without exec).
_AGAIN = 113
_HAS_PARENT = "UMBEL_RELOADED_BY_PARENT"


@dataclass(frozen=True, slots=True, kw_only=True)
class Restart:
    """How a process that is nothing but a worker is started again."""

    command: Sequence[str]
    #: Ends with 0 where `command` could start, and says why not on standard error; starts nothing.
    check: Sequence[str]
    environment: dict[str, str] = field(default_factory=lambda: dict(os.environ))
    cwd: str | None = field(default_factory=current_folder)
    #: Unix seconds at which the code that runs now was not loaded yet.
    begun_at: float = field(default_factory=time.time)

    def execute(self) -> NoReturn:
        """Become the new process. Raises: OSError: there is no such program any more."""
        sys.stdout.flush()
        sys.stderr.flush()
        if self.cwd is not None:
            os.chdir(self.cwd)
        if os.name != "nt":
            os.execve(self.command[0], list(self.command), self._environment())
        if _HAS_PARENT in os.environ:
            os._exit(_AGAIN)
        # Windows has no exec: a process that only waits keeps the id that others know.
        code = _AGAIN
        while code == _AGAIN:
            marked = {**self._environment(), _HAS_PARENT: "1"}
            code = subprocess.call(self.command, env=marked)
        os._exit(code)

    def start_check(self, stderr: IO[bytes]) -> subprocess.Popen[bytes]:
        """Start the check, which says there what is wrong. Raises: OSError: it can't be started."""
        return subprocess.Popen(
            self.check,
            cwd=self.cwd,
            env=self._environment(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=stderr,
        )

    def _environment(self) -> dict[str, str]:
        return {name: value for name, value in self.environment.items() if name != _HAS_PARENT}


class Reloader:
    """Carries reloads out, one at a time, from a thread of its own."""

    def __init__(self, restart: Restart, stop: Callable[[], object]):
        """`stop` begins a warm shutdown of the worker; called from the thread."""
        self._restart, self._stop_worker = restart, stop
        # Unlike an event or a lock, it may be put into by a signal handler anywhere.
        self._requests: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._serve, name="umbel-reload", daemon=True)
        self._is_due = self._is_cancelled = False

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def request(self, why: str = "told to by a signal") -> None:
        """Ask for a reload; returns at once. Signal handlers may call it."""
        self._requests.put(why)

    def cancel(self) -> None:
        """Reload no more: the worker is to stop for good. Signal handlers may call it."""
        self._is_cancelled = True

    def finish(self) -> None:
        """Become the new process, if that is due; the worker has ended."""
        self._is_cancelled |= not self._is_due
        self._requests.put(None)
        self._thread.join()
        if not self._may_execute():
            return
        _block_signals()
        if not self._may_execute():  # the last signal before was to stop
            return
        _end_helpers()
        try:
            self._restart.execute()
        except OSError:
            logger.critical("can't execute %s again", self._restart.command[0], exc_info=True)
            sys.exit(1)

    def _may_execute(self) -> bool:
        return self._is_due and not self._is_cancelled

    def _serve(self) -> None:
        while (why := self._requests.get()) is not None:
            if self._is_due or self._is_cancelled:
                continue
            logger.warning("reloading (%s)", why)
            self._reload()

    def _reload(self) -> None:
        problem = self._check()
        if self._is_cancelled:
            return
        if problem:
            logger.error("not reloaded, the old code goes on: %s", problem)
        else:
            self._is_due = True
            self._stop_worker()

    def _check(self) -> str | None:
        """Return what is wrong with the new code; None: nothing."""
        # Not a pipe: it ends with the last process that has it, and the app may start others.
        try:
            with tempfile.TemporaryFile() as said:
                return self._failure(self._restart.start_check(said), said)
        except OSError as exc:
            return str(exc)

    def _failure(self, check: subprocess.Popen[bytes], said: IO[bytes]) -> str | None:
        ends_at = time.monotonic() + _CHECK_S
        while True:
            try:
                code = check.wait(_LOOK_S)
            except subprocess.TimeoutExpired:
                if self._is_cancelled or time.monotonic() > ends_at:
                    check.kill()
                    check.wait()
                    return f"it took longer than {_CHECK_S:g} s to load"
                continue
            if not code:
                return None
            said.seek(0)
            text = said.read().decode(errors="replace").strip()
            return text[-_MOST_TEXT:] or f"exit code {code}"


def _block_signals() -> None:
    """Keep signals until the new process heeds them: by default they would end it."""
    if hasattr(signal, "pthread_sigmask"):
        signal.pthread_sigmask(signal.SIG_BLOCK, SENT_BY_MANAGERS)


def _end_helpers() -> None:
    """End the helpers of `multiprocessing`, which the new process would never wait for."""
    for module, name in (
        ("multiprocessing.forkserver", "_forkserver"),
        ("multiprocessing.resource_tracker", "_resource_tracker"),
    ):
        if module in sys.modules:
            with suppress(Exception):  # they end by themselves; only who waits for them is missing
                getattr(sys.modules[module], name)._stop()  # noqa: SLF001
