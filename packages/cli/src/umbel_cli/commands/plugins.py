"""``umbel plugins``: what is installed, what it offers, and what is wrong with it."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import click

from umbel.errors import PluginClashError
from umbel.plugins import PluginReport, installed_plugins
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
    reports = installed_plugins().report()
    clashes = _clashes(reports)
    for report in reports:
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
                "problems": [
                    *clashes.get(label, ()),
                    *_problems_of(label, catalog, is_known=report.error is not None),
                ],
                "load_ms": round(report.load_ms, 1),
            }
        )
    return rows


def _clashes(reports: Sequence[PluginReport]) -> dict[str, list[str]]:
    """Return what can't be used since two plugins offer it, for each of them."""
    holders: dict[tuple[str, str], list[str]] = defaultdict(list)
    for report in reports:
        for kind, names in report.offers.items():
            for name in names:
                holders[kind, name].append(report.distribution or report.name)
    found: dict[str, list[str]] = defaultdict(list)
    for (kind, name), labels in holders.items():
        if len(labels) > 1:
            text = str(PluginClashError(kind, name, sorted(labels)))
            for label in labels:
                found[label].append(text)
    return found


def _problems_of(label: str, catalog: Catalog, *, is_known: bool) -> list[str]:
    """Return what is wrong with the commands of `label`; nothing twice where `is_known`."""
    names_it = re.compile(rf"(?<![\w.-]){re.escape(label)}(?![\w.-])")
    found = [text for text in catalog.problems if names_it.search(text)]
    return [text for text in found if not (is_known and "can't be loaded" in text)]


def _print(row: dict[str, Any]) -> None:
    title = f"{row['distribution'] or row['name']} {row['version'] or ''}".strip()
    wrong = [row["error"], *row["problems"]] if row["error"] else row["problems"]
    click.echo(click.style(title, bold=True, fg="red" if wrong else None))
    for text in wrong:
        click.echo(f"  can't be used: {text}")
    for kind, names in row["offers"].items():
        click.echo(f"  {kind}: {', '.join(names)}")
