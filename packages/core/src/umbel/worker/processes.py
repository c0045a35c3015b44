"""Starting child processes clean: never a fork of a process that has threads or sockets.

On Linux a fork server has the app imported and children are forked from it; elsewhere each
child is a fresh interpreter.
"""

from __future__ import annotations

import multiprocessing
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from multiprocessing.connection import Connection
from multiprocessing.context import BaseContext
from multiprocessing.process import BaseProcess
from types import ModuleType

from umbel.worker.board import Board
from umbel.worker.child import ChildSpec, child_main
from umbel.worker.preload import MODULES_VARIABLE, PATH_VARIABLE


class Child:
    """A running child, as its supervisor sees it."""

    def __init__(self, spec: ChildSpec, process: BaseProcess, pipe: Connection, board: Board):
        self.spec, self.process, self.pipe, self.board = spec, process, pipe, board
        self.was_ready = False

    @property
    def pid(self) -> int:
        """Its process id."""
        return self.process.pid or 0

    def tell(self, command: bytes) -> None:
        """Send a command; a child that is gone hears none."""
        try:
            self.pipe.send_bytes(command)
        except OSError:
            return

    def kill(self) -> None:
        """End it at once."""
        self.process.kill()

    def release(self) -> None:
        """Free what belongs to it, after its end."""
        self.process.join()
        self.process.close()
        self.pipe.close()
        self.board.close()


def process_context(preload: Sequence[str]) -> BaseContext:
    """Return how children are started here.

    Args:
        preload: Modules that the fork server imports before it forks; may be empty.
    """
    if not sys.platform.startswith("linux"):
        return multiprocessing.get_context("spawn")
    if not preload:
        return multiprocessing.get_context("forkserver")
    os.environ[PATH_VARIABLE] = os.pathsep.join(sys.path)
    os.environ[MODULES_VARIABLE] = ",".join(preload)
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["umbel.worker.preload"])
    return context


def start_child(context: BaseContext, spec: ChildSpec, board: Board) -> Child:
    """Start a child; it is ready when its board says so."""
    ours, theirs = context.Pipe()
    process = context.Process(  # type: ignore[attr-defined]
        target=child_main, args=(spec, theirs), name=f"umbel-child-{spec.index}"
    )
    with _without_main():
        process.start()
    theirs.close()
    return Child(spec, process, ours, board)


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
