"""What the demo remembers of a run, so that one that was stopped goes on where it was.

A run is an id, and the ids of its tasks derive from that and the file: nothing else needs to be
kept to find out what is done and what isn't.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from umbel.ids import derived_id, new_id


class Run(NamedTuple):
    """One pass over the library."""

    id: str
    #: Digest of the list of files and the Python version: another list is another run.
    digest: str
    finished: bool = False

    def task_id(self, file: str) -> str:
        """Return the id of the task for `file`."""
        return derived_id(self.id, file)


class RunNotes:
    """The file that the current run is noted in.

    Args:
        folder: The demo's folder; made when something is noted.
    """

    def __init__(self, folder: Path) -> None:
        self._path = folder / "demo.json"

    def read(self) -> Run | None:
        """Return the run that was noted; None where there is none, or its note is unreadable."""
        try:
            noted = json.loads(self._path.read_text("utf-8"))
            return Run(str(noted["run"]), str(noted["digest"]), bool(noted["finished"]))
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def write(self, run: Run) -> None:
        """Note `run`, whole or not at all."""
        self._path.parent.mkdir(parents=True, exist_ok=True)
        draft = self._path.with_suffix(f".{os.getpid()}.tmp")
        noted = {"run": run.id, "digest": run.digest, "finished": run.finished}
        draft.write_text(json.dumps(noted), "utf-8")
        draft.replace(self._path)

    def resume_or_begin(self, files: Sequence[str], *, fresh: bool = False) -> tuple[Run, bool]:
        """Return the noted run if it is over the same files and not finished, else a new one.

        Args:
            files: What the run is over.
            fresh: Begin a new one in any case.
        Returns: The run, and whether it goes on from before.
        """
        noted = self.read()
        digest = _digest(files)
        if not fresh and noted is not None and noted.digest == digest and not noted.finished:
            return noted, True
        run = Run(new_id(), digest)
        self.write(run)
        return run, False


def _digest(files: Sequence[str]) -> str:
    text = "\n".join((sys.version, *files))
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()
