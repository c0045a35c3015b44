"""``umbel config``: what the settings are, where each is from, and whether all is well."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from umbel.errors import ConfigError, PluginError, near_matches
from umbel.settings import Problem
from umbel_cli.commands.settings_schema import schema_of
from umbel_cli.exits import ExitCode
from umbel_cli.groups import SuggestingGroup
from umbel_cli.output import print_json, print_table, shorten
from umbel_cli.state import CliState, pass_state

if TYPE_CHECKING:
    from umbel import Umbel

_VALUE_WIDTH = 60


@click.group(cls=SuggestingGroup)
def config() -> None:
    """Show and check the settings: of the app, or without -A of this folder."""


@config.command()
@click.argument("names", nargs=-1, metavar="[NAME]...")
@click.option("--source", is_flag=True, help="Also say where each value is from.")
@click.option("--all", "show_all", is_flag=True, help="Also those that have their default.")
@pass_state
def show(state: CliState, names: tuple[str, ...], source: bool, show_all: bool) -> None:
    """Print settings; passwords and secrets are masked.

    Without NAMEs: those that something sets.
    """
    conf = state.app().conf
    table = conf.table(with_defaults=show_all or bool(names))
    for name in names:
        if name not in table:
            close = near_matches(name, table, limit=1)
            hint = f"; did you mean {close[0]!r}?" if close else ""
            raise ConfigError(f"there is no setting {name!r}{hint}")
    shown = {name: table[name] for name in names} if names else dict(sorted(table.items()))
    if state.json:
        print_json(
            {
                name: {"value": value, "source": state.source_of(conf, name)} if source else value
                for name, value in shown.items()
            }
        )
    elif not shown:
        state.note("nothing is set, all settings have their defaults (--all shows them)")
    else:
        columns = ("setting", "value", "source")[: 3 if source else 2]
        print_table(
            columns,
            [
                (name, shorten(repr(value), _VALUE_WIDTH), state.source_of(conf, name))[
                    : len(columns)
                ]
                for name, value in shown.items()
            ],
        )


@config.command()
@click.option("--connect", is_flag=True, help="Also try the broker and the result backend.")
@pass_state
def check(state: CliState, connect: bool) -> None:
    """Look for mistakes in the settings; the exit code is 4 if there is one.

    What the URLs name must be installed. With --connect it must answer, too: the exit code is 69
    if it doesn't.
    """
    app = state.app()
    problems = [_as_row(problem) for problem in app.conf.problems()]
    if not problems:
        problems = _missing_plugins(app)
    if not problems and connect:
        _connect(app)
    if state.json:
        print_json({"ok": not problems, "problems": problems})
    else:
        for row in problems:
            click.echo(f"{row['setting']} {row['problem']} (from {row['source']})")
        if not problems:
            state.note("the settings are well" + (", broker and backend answer" if connect else ""))
    if problems:
        click.get_current_context().exit(ExitCode.CONFIG)


@config.command()
@pass_state
def schema(state: CliState) -> None:
    """Print all settings as a JSON Schema, for editors."""
    conf = state.app().conf
    print_json(schema_of(conf.setting(name) for name in sorted(conf)))


def _as_row(problem: Problem) -> dict[str, Any]:
    return {"setting": problem.name, "problem": problem.text, "source": problem.source}


def _missing_plugins(app: Umbel) -> list[dict[str, Any]]:
    """Return a row for each URL that no installed plugin can open."""
    rows = []
    for setting, open_it in (
        ("broker_url", app.open_broker),
        ("result_backend", app.open_backend),
        ("coordinator_url", app.open_coordinator),
    ):
        try:
            handle = open_it()
        except (ConfigError, PluginError) as error:
            source = app.conf.source_of(setting)
            rows.append(
                {"setting": setting, "problem": f"can't be used: {error}", "source": source}
            )
        else:
            if handle is not None:
                handle.close()
    return rows


def _connect(app: Umbel) -> None:
    """Raise what the broker or the backend says to being used."""
    app.broker.check()
    if app.backend is not None:
        app.backend.check()
