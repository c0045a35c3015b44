"""Add up what the tasks counted. Pure, and the same for tasks and for a plain loop."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import TypedDict

from umbel_cli.demo.analysis import SourceReport, analyse
from umbel_cli.demo.corpus import source_path


class Totals(TypedDict):
    """Sums over many files."""

    files: int
    not_parseable: int
    lines: int
    functions: int
    classes: int
    branches: int
    complexity: int


def add_up(reports: Iterable[SourceReport]) -> Totals:
    """Return the sums over `reports`."""
    totals: Totals = {
        "files": 0,
        "not_parseable": 0,
        "lines": 0,
        "functions": 0,
        "classes": 0,
        "branches": 0,
        "complexity": 0,
    }
    for report in reports:
        totals["files"] += 1
        totals["not_parseable"] += report["problem"] is not None
        totals["lines"] += report["lines"]
        totals["functions"] += report["functions"]
        totals["classes"] += report["classes"]
        totals["branches"] += report["branches"]
        totals["complexity"] += report["complexity"]
    return totals


def by_plain_loop(files: Sequence[str]) -> Totals:
    """Return the sums over `files`, without umbel: one after the other, in this process."""
    return add_up(analyse(source_path(file).read_bytes()) for file in files)


def shares(pids: Iterable[int]) -> dict[int, int]:
    """Return how many tasks each process did, the busiest first."""
    return dict(Counter(pids).most_common())
