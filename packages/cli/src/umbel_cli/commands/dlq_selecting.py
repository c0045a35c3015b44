"""Options that say which dead letters a command is about."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from functools import update_wrapper
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import click

from umbel.messages import DeathKind
from umbel_cli.commands.values import Age

if TYPE_CHECKING:
    from umbel.dead_letters import LetterFilter

F = TypeVar("F", bound=Callable[..., Any])

_FILTERS = ("queue", "task", "kind", "reason", "older_than", "newer_than")
_SHOWN = 5


class Selected(NamedTuple):
    """Dead letters by name or, where there are no names, by filter."""

    names: tuple[str, ...]
    where: LetterFilter
    #: Don't ask.
    yes: bool

    def confirm(self, count: int, question: str, labels: Sequence[str] = ()) -> None:
        """Ask whether to go on with `count` letters. Raises: click.Abort: no."""
        if self.yes or not count:
            return
        shown = f"{count} dead letter{'s' if count != 1 else ''}"
        if labels:
            more = " …" if len(labels) > _SHOWN else ""
            shown += f" ({', '.join(labels[:_SHOWN])}{more})"
        click.confirm(question.format(shown), abort=True, err=True)


def filter_options(command: F) -> F:
    """Give `command` the options of a filter, as its argument `where`."""

    def run(*args: Any, **options: Any) -> Any:
        where = {name: options.pop(name) for name in _FILTERS}
        given = {name: value for name, value in where.items() if value is not None}
        return command(*args, where=given, **options)

    return _with_filters(update_wrapper(run, command))  # type: ignore[return-value]


def selection_options(command: F) -> F:
    """Give `command` IDs, ``--all`` and a filter, as its argument `selected`."""

    def run(
        *args: Any, names: tuple[str, ...], all_of_them: bool, yes: bool, **options: Any
    ) -> Any:
        found: LetterFilter = {}
        for name in _FILTERS:
            if (value := options.pop(name)) is not None:
                found[name] = value  # type: ignore[literal-required]
        if names and (all_of_them or found):
            raise click.UsageError("give IDs, or --all and a filter, not both")
        if not names and not all_of_them:
            raise click.UsageError("name dead letters by their IDs, or give --all (that fit)")
        # What dies while somebody reads the question isn't meant by the answer.
        found.setdefault("older_than", datetime.now(UTC))
        return command(*args, selected=Selected(names, found, yes), **options)

    wrapped: Any = update_wrapper(run, command)
    wrapped = click.option("-y", "--yes", "yes", is_flag=True, help="Don't ask.")(wrapped)
    wrapped = _with_filters(wrapped)
    wrapped = click.option("--all", "all_of_them", is_flag=True, help="All that fit.")(wrapped)
    return click.argument("names", nargs=-1, metavar="[ID]...")(wrapped)  # type: ignore[no-any-return]


def _with_filters(command: Callable[..., Any]) -> Callable[..., Any]:
    for option in reversed(
        (
            click.option("-Q", "--queue", help="Of this queue."),
            click.option("--task", metavar="NAME", help="Of this task; a pattern: 'shop.*'."),
            click.option(
                "--kind",
                type=click.Choice([each.value for each in DeathKind]),
                help="Of this kind.",
            ),
            click.option("--reason", metavar="TEXT", help="With this in the reason."),
            click.option("--older-than", type=Age(), help="Died before: 2h, or a time."),
            click.option("--newer-than", type=Age(), help="Died after: 30m, or a time."),
        )
    ):
        command = option(command)
    return command
