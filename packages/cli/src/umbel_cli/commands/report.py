"""``umbel report``: what to put into a bug report."""

from __future__ import annotations

import platform
import sys
from importlib.metadata import PackageNotFoundError, distributions, version
from typing import Any

import click

from umbel.errors import UmbelError
from umbel_cli.commands.plugins import installed
from umbel_cli.output import print_json
from umbel_cli.state import CliState, pass_state

_LIBRARIES = ("pluggy", "msgspec", "click", "rich", "pydantic")


@click.command()
@pass_state
def report(state: CliState) -> None:
    """Print versions, platform and settings, without passwords: for a bug report."""
    document = {
        "versions": _versions(),
        "python": sys.version.replace("\n", " "),
        "platform": platform.platform(),
        "plugins": {row["name"]: row["error"] or "ok" for row in installed()},
        "app": state.app_path,
        "settings": _settings(state),
    }
    if state.json:
        print_json(document)
        return
    for title, content in document.items():
        _print(title, content)


def _versions() -> dict[str, str]:
    found = {
        each.name: each.version
        for each in sorted(distributions(), key=lambda each: each.name)
        if each.name == "umbel" or each.name.startswith("umbel-")
    }
    for name in _LIBRARIES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def _settings(state: CliState) -> dict[str, Any] | str:
    """Return what isn't a default; what is wrong with it where it can't be read."""
    try:
        return state.app().conf.table(with_defaults=False)
    except UmbelError as error:
        return str(error)


def _print(title: str, content: Any) -> None:
    if not isinstance(content, dict):
        click.echo(f"{title}: {content or 'none'}")
        return
    click.echo(f"{title}:" if content else f"{title}: none")
    for name, value in content.items():
        click.echo(f"  {name}: {value}")
