"""click groups that propose near matches, and the one at the top that loads commands late."""

from __future__ import annotations

import os
import traceback
from difflib import get_close_matches
from typing import TYPE_CHECKING

import click

from umbel_cli.catalog import Catalog, Offered
from umbel_cli.exits import EXIT_CODES_HELP, ExitCode, exit_code_of, is_umbel_error
from umbel_cli.global_options import add_global_options, global_options
from umbel_cli.state import CliState

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem


class SuggestingGroup(click.Group):
    """A group that proposes what a misspelt sub-command may have meant."""

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the sub-command. Raises: click.UsageError: there is none of that name."""
        name = args[0]
        if self.get_command(ctx, name) is None and not ctx.resilient_parsing and name[:1] != "-":
            close = get_close_matches(name, self.list_commands(ctx), n=1)
            hint = f"did you mean {close[0]!r}?" if close else f"see {ctx.command_path} --help"
            ctx.fail(f"there is no command {name!r}; {hint}")
        return super().resolve_command(ctx, args)


class RootGroup(SuggestingGroup):
    """`umbel` itself: commands from the hook, global options, errors on one line."""

    def __init__(self, catalog: Catalog | None = None) -> None:
        super().__init__(
            "umbel",
            params=list(global_options(hidden=False)),
            help="Run and watch background tasks.\n\nOptions may stand before or after the command.",
            epilog=EXIT_CODES_HELP,
            no_args_is_help=True,
            context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
        )
        self._catalog = catalog or Catalog()

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Read the options before the sub-command."""
        state = ctx.ensure_object(CliState)
        state.debug = os.environ.get("UMBEL_DEBUG", "0") not in ("", "0")
        if os.environ.get("NO_COLOR"):
            ctx.color = False
        return super().parse_args(ctx, args)

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return all names, our own first."""
        return [offered.name for offered in self._catalog.all()]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import the command of that name."""
        offered = self._catalog.find(cmd_name)
        return None if offered is None else add_global_options(offered.load())

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the list of commands, importing none of them."""
        own = [o for o in self._catalog.all() if o.is_own]
        others = [o for o in self._catalog.all() if not o.is_own]
        _write(formatter, "Commands", [(o.name, o.help) for o in own])
        _write(formatter, "Commands of plugins", [(o.name, _with_plugin(o)) for o in others])
        if problems := self._catalog.problems:
            with formatter.section("Problems"):
                for problem in problems:
                    formatter.write_text(problem)

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """Return what `incomplete` may become: commands, importing none of them, and options."""
        from click.shell_completion import CompletionItem  # noqa: PLC0415 - only shells ask for it

        commands = [
            CompletionItem(offered.name, help=offered.help)
            for offered in self._catalog.all()
            if offered.name.startswith(incomplete)
        ]
        return commands + click.Command.shell_complete(self, ctx, incomplete)

    def invoke(self, ctx: click.Context) -> object:
        """Run the sub-command; an UmbelError becomes one line and an exit code."""
        try:
            return super().invoke(ctx)
        except (click.ClickException, click.Abort, click.exceptions.Exit):
            raise
        except KeyboardInterrupt:
            click.echo("", err=True)
            raise click.exceptions.Exit(ExitCode.INTERRUPTED) from None
        except Exception as error:
            is_ours = is_umbel_error(error)
            if isinstance(error, BrokenPipeError) or not (is_ours or isinstance(error, OSError)):
                raise  # click ends quietly where nobody reads any more
            _report(ctx, error)
            code = exit_code_of(error) if is_ours else ExitCode.FAILED
            raise click.exceptions.Exit(code) from None


def _report(ctx: click.Context, error: Exception) -> None:
    if ctx.ensure_object(CliState).debug:
        click.echo("".join(traceback.format_exception(error)), err=True, nl=False)
    else:
        label = click.style("Error:", fg="red", bold=True)
        click.echo(f"{label} {error}", err=True, color=ctx.color)


def _write(formatter: click.HelpFormatter, title: str, rows: list[tuple[str, str]]) -> None:
    if rows:
        with formatter.section(title):
            formatter.write_dl(rows)


def _with_plugin(offered: Offered) -> str:
    return f"{offered.help} [{offered.plugin}]"
