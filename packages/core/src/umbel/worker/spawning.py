"""Starting children where nothing can be forked cleanly: each is a fresh interpreter."""

from __future__ import annotations

import multiprocessing
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from multiprocessing.process import BaseProcess
from types import ModuleType

from umbel.worker.board import Board
from umbel.worker.child import ChildSpec, child_main
from umbel.worker.processes import Child
from umbel.worker.surroundings import current_folder


class SpawnedProcess:
    """A process of `multiprocessing`."""

    def __init__(self, process: BaseProcess):
        self._process = process
        self.pid = process.pid or 0

    @property
    def sentinel(self) -> int:
        """What becomes readable when the process ends."""
        return self._process.sentinel

    def send_signal(self, _number: int) -> None:
        """Send nothing: it might reach another process by mistake."""

    def kill(self) -> None:
        """End it at once."""
        self._process.kill()

    def release(self, wait_s: float) -> int | None:
        """Return the exit code, and free all; None: it isn't known within `wait_s` seconds."""
        self._process.join(wait_s)
        exitcode = self._process.exitcode
        with suppress(ValueError):  # it isn't known to have ended
            self._process.close()
        return exitcode


class Spawner:
    """Starts each child as soon as it is ordered. On the supervisor's thread."""

    def __init__(self) -> None:
        self._context = multiprocessing.get_context("spawn")
        self._started: list[Child] = []

    @property
    def ordered(self) -> list[int]:
        """The numbers of the children that are not handed over yet."""
        return [child.index for child in self._started]

    @property
    def is_full(self) -> bool:
        """Whether nothing more may be ordered for the moment."""
        return False

    @property
    def will_answer(self) -> bool:
        """Whether `answers` brings something."""
        return bool(self._started)

    @property
    def sentinels(self) -> tuple[()]:
        """Nothing is waited for."""
        return ()

    @property
    def pids(self) -> tuple[()]:
        """No other processes are started."""
        return ()

    def order(self, spec: ChildSpec, board: Board) -> None:
        """Start a child; `answers` brings it. Raises: OSError: `board` is closed then."""
        if current_folder() is None:  # it was removed: nothing can be started from there
            os.chdir(os.sep)
        ours, theirs = self._context.Pipe()
        process = self._context.Process(
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
        self._started.append(Child(spec, SpawnedProcess(process), ours, board))

    def answers(self) -> Iterator[Child]:
        """Yield what was started."""
        while self._started:
            yield self._started.pop(0)

    def end_late(self, _longest_s: float) -> bool:
        """Tell that nothing is late here: children import the app for themselves."""
        return False

    def close(self) -> list[Child]:
        """Start nothing more; returns children that were not handed over."""
        return list(self.answers())


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
