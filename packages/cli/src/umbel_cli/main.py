"""The entry point of `umbel`."""

from __future__ import annotations

import sys

import click

from umbel_cli.groups import RootGroup
from umbel_cli.state import CliState


def _print_version(context: click.Context, _param: click.Parameter, value: bool) -> None:
    if not value or context.resilient_parsing:
        return
    from importlib.metadata import version  # noqa: PLC0415 - slows --help

    python = ".".join(map(str, sys.version_info[:3]))
    click.echo(f"umbel {version('umbel')} (umbel-cli {version('umbel-cli')}, Python {python})")
    context.exit()


def make_cli() -> RootGroup:
    """Return the command `umbel`, new."""
    root = RootGroup()
    root.params.append(
        click.Option(
            ["--version"],
            is_flag=True,
            expose_value=False,
            is_eager=True,
            callback=_print_version,
            help="Print versions and exit.",
        )
    )
    return root


def main() -> int:
    """Run the command line; the process ends with its exit code."""
    return int(make_cli()(prog_name="umbel", obj=CliState(is_program=True)) or 0)
