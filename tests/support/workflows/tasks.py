"""The task that workflows are made of, and the ledger of what has run."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from workflows.nodes import FAIL, RETURN
from workflows.values import shown, value_of

if TYPE_CHECKING:
    from umbel import Umbel

CALL = "workflows.call"


class Run(NamedTuple):
    """One attempt at a task, as the task itself tells."""

    task_id: str
    tag: str
    #: What it was called with.
    input: str
    #: How many attempts came before.
    retries: int
    #: Which workflow it is a part of, where there are many.
    flow: str = ""


def add_call(app: Umbel, note: Callable[[Run], object]) -> None:
    """Give `app` the task, which has each of its runs noted as it begins."""

    @app.task(name=CALL, bind=True, max_retries=None)
    def call(
        self: Any,
        *args: Any,
        tag: str,
        does: str = RETURN,
        retries: int = 0,
        by: dict[str, Any] | None = None,
        adds: dict[str, Any] | None = None,
        flow: str = "",
    ) -> str:
        note(Run(self.request.id, tag, shown(args), self.request.retries, flow))
        if self.request.retries < retries:
            raise self.retry(countdown=0)
        if does == FAIL:
            raise ValueError(tag)
        if adds is not None:
            self.add_to_chord(adds)
        if by is not None:
            return self.replace(by)
        return value_of(tag, args)


class LedgerFile:
    """A file that processes note their runs in."""

    def __init__(self, path: Path | str) -> None:
        self._path = path
        self._fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)

    def note(self, run: Run) -> None:
        """Note `run`."""
        os.write(self._fd, json.dumps(run).encode() + b"\n")

    def runs(self) -> Iterator[Run]:
        """Go through what was noted."""
        whole, _, _ = Path(self._path).read_text().rpartition("\n")  # the last may be half there
        for line in whole.splitlines():
            yield Run(*json.loads(line))

    def close(self) -> None:
        """Close it."""
        os.close(self._fd)
