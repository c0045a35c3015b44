"""Show how far a run is: a bar on a terminal, a line now and then anywhere else."""

from __future__ import annotations

import sys
import time
from types import TracebackType
from typing import Protocol, Self

import click
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TextColumn,
    TimeRemainingColumn,
)
from rich.text import Text

_LINE_EVERY_S = 2.0


class Shown(Protocol):
    """What a run reports to."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None: ...

    def update(self, done: int) -> None:
        """Say that `done` results are there."""


def shown(total: int, *, done: int, quiet: bool, color: bool) -> Shown:
    """Return the right kind of display for standard error."""
    if quiet:
        return _Nothing()
    if sys.stderr.isatty():
        return _Bar(total, done=done, color=color)
    return _Lines(total, done=done)


class _Nothing:
    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        return None

    def update(self, done: int) -> None:
        """Show nothing."""


class _Lines(_Nothing):
    """For logs and pipes: a line every two seconds, and one at the end."""

    def __init__(self, total: int, *, done: int) -> None:
        self._total, self._first = total, done
        self._started = self._last = time.monotonic()

    def update(self, done: int) -> None:
        now = time.monotonic()
        if done < self._total and now - self._last < _LINE_EVERY_S:
            return
        self._last = now
        rate = (done - self._first) / max(now - self._started, 0.001)
        line = f"{done}/{self._total} files, {rate:.0f} tasks/s"
        if rate and done < self._total:
            line += f", {(self._total - done) / rate:.0f} s to go"
        click.echo(line, err=True)


class _Bar(_Nothing):
    """For a terminal: a bar with count, rate and remaining time."""

    def __init__(self, total: int, *, done: int, color: bool) -> None:
        self._progress = Progress(
            TextColumn("indexing"),
            BarColumn(bar_width=None),
            MofNCompleteColumn(),
            _RateColumn(),
            TimeRemainingColumn(compact=True),
            TextColumn("left"),
            console=Console(stderr=True, no_color=not color),
        )
        self._task = self._progress.add_task("indexing", total=total, completed=done)

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._progress.stop()

    def update(self, done: int) -> None:
        """Move the bar."""
        self._progress.update(self._task, completed=done)


class _RateColumn(ProgressColumn):
    def render(self, task: Task) -> Text:
        """Return tasks a second, over the last half minute."""
        speed = task.finished_speed or task.speed
        return Text("- tasks/s" if speed is None else f"{speed:.0f} tasks/s")
