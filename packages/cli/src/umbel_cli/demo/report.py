"""Show the outcome of a demo run, and what to try next."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from umbel.redaction import mask_url
from umbel_cli.demo.corpus import module_name
from umbel_cli.demo.summary import Totals, add_up

if TYPE_CHECKING:
    from umbel_cli.demo.job import JobResult
    from umbel_cli.demo.tasks import FileReport
_Count = Literal["complexity", "lines", "functions", "classes", "branches"]

_SHOWN_MODULES = 10
_COUNTS: tuple[_Count, ...] = ("complexity", "lines", "functions", "classes", "branches")
#: How many of these fit into a narrow terminal, and from how many columns on it isn't one.
_FEW, _WIDE = 3, 110
_WIDTH_OF_FILES = 120


def as_document(result: JobResult, *, plain: Totals | None) -> dict[str, Any]:
    """Return the outcome as JSON has it."""
    document: dict[str, Any] = {
        "run": result.run.id,
        "resumed": result.resumed,
        "totals": add_up(result.reports),
        "seconds": round(result.elapsed_s, 3),
        "done_now": result.done_now,
        "tasks_per_second": round(result.rate, 1),
        "processes": {str(pid): count for pid, count in result.shares.items()},
        "failed": result.failed,
        "most_complex": [
            {
                "module": module_name(report["file"]),
                "complexity": report["complexity"],
                "lines": report["lines"],
                "functions": report["functions"],
                "classes": report["classes"],
                "branches": report["branches"],
                "worst": report["worst"],
            }
            for report in most_complex(result.reports)
        ],
    }
    if plain is not None:
        document["plain_loop"] = plain
        document["adds_up"] = plain == document["totals"]
    return document


def most_complex(reports: Sequence[FileReport]) -> list[FileReport]:
    """Return the ten most complex modules, worst first."""
    ranked = sorted(reports, key=lambda report: (-report["complexity"], report["file"]))
    return ranked[:_SHOWN_MODULES]


def print_report(result: JobResult, *, plain: Totals | None, color: bool) -> None:
    """Print tables and totals for people."""
    console = Console(no_color=not color, highlight=False)
    if not console.is_terminal:
        console.width = _WIDTH_OF_FILES
    console.print(_table(most_complex(result.reports), is_wide=console.width >= _WIDE))
    totals = add_up(result.reports)
    console.print(
        f"[bold]{totals['files']:,}[/] files, [bold]{totals['lines']:,}[/] lines, "
        f"{totals['functions']:,} functions, {totals['classes']:,} classes, "
        f"{totals['branches']:,} branches, complexity {totals['complexity']:,}"
        + (f"; {totals['not_parseable']} not parseable" if totals["not_parseable"] else ""),
        soft_wrap=True,
    )
    console.print(
        f"{result.done_now:,} tasks in {result.elapsed_s:.1f} s: "
        f"[bold]{result.rate:.0f} tasks/s[/]",
        soft_wrap=True,
    )
    console.print(f"{len(result.shares)} processes: {_share_line(result)}", soft_wrap=True)
    for file, why in result.failed.items():
        console.print(f"[red]failed[/]: {escape(f'{file}: {why}')}", soft_wrap=True)
    if plain is not None:
        console.print(_verdict(plain, totals))


def next_steps(result: JobResult, *, options: Sequence[str] = ()) -> str:
    """Return what to try next.

    Args:
        result: What came of the run.
        options: Those with which it was told where messages and results are kept.
    """
    command = shlex.join(["umbel", "-A", "umbel_cli.demo.tasks", *map(mask_url, options)])
    example = result.run.task_id(most_complex(result.reports)[0]["file"])
    return f"""
What to try next:
  {command} result {example}
      the most complex module's result, as it is stored
  {command} call umbel_cli.demo.tasks.index_file ast.py
  {command} queues
  {command} worker --pool solo --burst
      send a task, see it wait in its queue, run it in the foreground
  umbel demo --verify
      count everything once more in a plain loop, and compare; --processes 1 for comparison

Your own first task, in tasks.py:
  from umbel import Umbel
  app = Umbel("tasks")

  @app.task
  def add(x: int, y: int) -> int:
      return x + y

Then `umbel -A tasks worker` in one terminal, and in another:
  umbel -A tasks call tasks.add 2 3 --wait"""


def _table(reports: Sequence[FileReport], *, is_wide: bool) -> Table:
    counts = _COUNTS if is_wide else _COUNTS[:_FEW]
    table = Table(
        title="The most complex modules", title_justify="left", title_style="bold", box=box.SIMPLE
    )
    table.add_column("module", no_wrap=True, overflow="ellipsis")
    for name in counts:
        table.add_column(name, justify="right", no_wrap=True, min_width=len(name))
    table.add_column("most complex function", no_wrap=True, overflow="ellipsis")
    for report in reports:
        worst = report["worst"][0] if report["worst"] else None
        table.add_row(
            module_name(report["file"]),
            *(f"{report[name]:,}" for name in counts),
            f"{worst['complexity']} {worst['name']}" if worst else "-",
        )
    return table


def _share_line(result: JobResult) -> str:
    done = sum(result.shares.values())
    return ", ".join(
        f"{pid} did {count:,} ({100 * count / done:.0f} %)" for pid, count in result.shares.items()
    )


def _verdict(plain: Totals, totals: Totals) -> str:
    if plain == totals:
        return "[green]A plain loop over the same files counts the same.[/]"
    wrong = ", ".join(
        f"{name} {plain[name]:,} instead of {totals[name]:,}"  # type: ignore[literal-required]
        for name in plain
        if plain[name] != totals[name]  # type: ignore[literal-required]
    )
    return f"[red]A plain loop over the same files counts otherwise: {wrong}[/]"
