"""Random workflows in a user's project: sent all at once, run by real processes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from project import Project

from workflows.building import Builder
from workflows.generator import workflow
from workflows.observing import differences
from workflows.tasks import LedgerFile, Run

_SUPPORT = Path(__file__).parents[1]
_EXTRA = f"""
import sys
sys.path.append({str(_SUPPORT)!r})
from workflows.tasks import LedgerFile, add_call
add_call(app, LedgerFile("runs").note)
"""
_CALLS = 25
#: The first seed, far from those of other tests.
FIRST = 2_000_000


class RandomProject:
    """A project, and random workflows of it.

    Args:
        folder: Where to make it.
        seeds: Of the workflows.
        **settings: Of its app.
    """

    def __init__(self, folder: Path, seeds: range, **settings: Any) -> None:
        self.project = Project(folder, _EXTRA, **settings)
        self._ledger = LedgerFile(folder / "runs")
        self._nodes = {str(seed): workflow(seed, calls=_CALLS) for seed in seeds}
        self._results: dict[str, Any] = {}

    def send(self) -> None:
        """Send all workflows."""
        for seed, node in self._nodes.items():
            self._results[seed] = Builder(self.project.app, seed).build(node).apply_async()

    def is_over(self) -> bool:
        """Tell whether no message waits, and none is held."""
        stats = self.project.app.broker.stats("celery")
        return stats.ready + stats.held + stats.delayed == 0

    def differences(self, *, is_once: bool) -> str:
        """Return in what way workflows didn't come to what they must; nothing, where all did."""
        runs: dict[str, list[Run]] = {seed: [] for seed in self._nodes}
        for run in self._ledger.runs():
            runs[run.flow].append(run)
        found = {}
        for seed, node in self._nodes.items():
            told = differences(
                self.project.app,
                node,
                self._results[seed],
                runs[seed],
                is_once=is_once,
                timeout=0,
            )
            if told:
                found[seed] = told
        shown = [f"seed {seed}: {self._nodes[seed]!r}: {found[seed]}" for seed in list(found)[:5]]
        return "\n".join([f"{len(found)} of {len(self._nodes)}", *shown]) if found else ""

    def close(self) -> None:
        """End what was started."""
        self._ledger.close()
        self.project.close()
