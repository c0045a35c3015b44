"""Options that every sub-command takes, before its name or after it.

They are click options without a value of their own: each writes into the one `CliState` of the
run. What stands further right wins.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import click
from click.core import ParameterSource

from umbel_cli.state import CliState

_SET = (ParameterSource.COMMANDLINE, ParameterSource.ENVIRONMENT)

#: Shown at the end of each sub-command's help, where the options themselves are left out.
HINT = "Global options (-A, -b, --json, …) may stand here too: see umbel --help."


def global_options(*, hidden: bool) -> list[click.Option]:
    """Return new option objects, as one command needs them."""
    top = not hidden

    def option(
        *flags: str, apply: Callable[[click.Context, Any], None], **more: Any
    ) -> click.Option:
        return click.Option(
            [*flags, f"umbel_global_{flags[-1].strip('-').replace('-', '_')}"],
            callback=_recorder(apply),
            expose_value=False,
            is_eager=True,
            hidden=hidden,
            **more,
        )

    return [
        option(
            "-A",
            "--app",
            apply=_store("app_path"),
            metavar="MODULE[:ATTR]",
            help="The app, or the module that holds it.",
            # Only at the top: there it is read once, and an option anywhere wins.
            envvar="UMBEL_APP" if top else None,
            show_envvar=True,
        ),
        option(
            "-b", "--broker", apply=_store("broker"), metavar="URL", help="Use this broker instead."
        ),
        option(
            "--result-backend",
            apply=_store("result_backend"),
            metavar="URL",
            help="Use this result backend instead.",
        ),
        option(
            "--config", apply=_store("config"), metavar="MODULE", help="Read settings from MODULE."
        ),
        option(
            "--workdir",
            apply=_change_directory,
            type=click.Path(exists=True, file_okay=False),
            help="Go to this folder first.",
        ),
        option("--json", apply=_store("json"), is_flag=True, help="Print JSON, for programs."),
        option("-q", "--quiet", apply=_store("quiet"), is_flag=True, help="Print results only."),
        option("-C", "--no-color", apply=_no_color, is_flag=True, help="Print without colours."),
        option(
            "--traceback", apply=_store("debug"), is_flag=True, help="Show where an error is from."
        ),
    ]


def add_global_options(command: click.Command) -> click.Command:
    """Give `command`, and all below it, the global options; its own of the same name win."""
    if getattr(command, "_umbel_has_globals", False):
        return command
    command._umbel_has_globals = True  # type: ignore[attr-defined]  # noqa: SLF001
    taken = {
        flag
        for param in command.params
        for flag in (*param.opts, *param.secondary_opts)
        if isinstance(param, click.Option)
    }
    for option in global_options(hidden=True):
        option.opts = [flag for flag in option.opts if flag not in taken]
        if option.opts:
            command.params.append(option)
    if command.epilog is None:
        command.epilog = HINT
    if isinstance(command, click.Group):
        for child in command.commands.values():
            add_global_options(child)
    return command


def _recorder(
    apply: Callable[[click.Context, Any], None],
) -> Callable[[click.Context, click.Parameter, Any], Any]:
    def record(context: click.Context, param: click.Parameter, value: Any) -> Any:
        given = context.get_parameter_source(param.name or "") in _SET
        if given and not context.resilient_parsing:
            apply(context, value)
        return value

    return record


def _store(field: str) -> Callable[[click.Context, Any], None]:
    def store(context: click.Context, value: Any) -> None:
        setattr(context.ensure_object(CliState), field, value)

    return store


def _change_directory(_context: click.Context, path: str) -> None:
    os.chdir(path)


def _no_color(context: click.Context, _value: bool) -> None:
    at: click.Context | None = context
    while at is not None:  # the outer ones print errors
        at.color = False
        at = at.parent
