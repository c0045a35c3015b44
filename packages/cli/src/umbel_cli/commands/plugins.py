"""``umbel plugins``: what is installed, what it offers, and what is wrong with it."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

import click

from umbel.plugins import installed_plugins
from umbel_cli.catalog import Catalog
from umbel_cli.exits import ExitCode
from umbel_cli.output import print_json
from umbel_cli.state import CliState, pass_state


@click.command()
@pass_state
def plugins(state: CliState) -> None:
    """Show the plugins that are installed here, and what each offers.

    The exit code is 1 if one of them can't be used.
    """
    rows = installed()
    if state.json:
        print_json(rows)
    else:
        for row in rows:
            _print(row)
    if any(row["error"] or row["problems"] for row in rows):
        click.get_current_context().exit(ExitCode.FAILED)


def installed() -> list[dict[str, Any]]:
    """Return what is known of each installed plugin."""
    catalog = Catalog()
    commands: dict[str, list[str]] = defaultdict(list)
    for offered in catalog.all():
        commands[offered.plugin].append(offered.name)
    rows = []
    for report in installed_plugins().report():
        label = report.distribution or report.name
        offers = {f"{kind}s": list(names) for kind, names in report.offers.items()}
        if label in commands:
            offers["commands"] = commands[label]
        rows.append(
            {
                "name": report.name,
                "distribution": report.distribution,
                "version": report.version,
                "error": report.error,
                "offers": offers,
                "problems": [text for text in catalog.problems if f" {label}" in text],
                "load_ms": round(report.load_ms, 1),
            }
        )
    return rows


def _print(row: dict[str, Any]) -> None:
    title = f"{row['distribution'] or row['name']} {row['version'] or ''}".strip()
    wrong = [row["error"], *row["problems"]] if row["error"] else row["problems"]
    click.echo(click.style(title, bold=True, fg="red" if wrong else None))
    for text in wrong:
        click.echo(f"  can't be used: {text}")
    for kind, names in row["offers"].items():
        click.echo(f"  {kind}: {', '.join(names)}")
