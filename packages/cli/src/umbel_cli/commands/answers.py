"""What commands share that ask workers: whom, how long, and how the answers are shown."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import click

from umbel_cli.commands.values import NameList, flatten
from umbel_cli.exits import ExitCode
from umbel_cli.output import print_json, print_table
from umbel_cli.state import CliState

F = TypeVar("F", bound=Callable[..., Any])

#: Node name and answer.
Row = tuple[str, Any]


class NoAnswerError(click.ClickException):
    """Workers that were asked did not answer."""

    exit_code = ExitCode.UNAVAILABLE


def asking_options(command: F) -> F:
    """Give `command` the options ``--destination`` and ``--timeout``."""
    command = click.option(
        "-t",
        "--timeout",
        type=click.FloatRange(min=0.01),
        default=1.0,
        show_default=True,
        metavar="SECONDS",
        help="Wait so long for answers; less where all nodes of -d have answered.",
    )(command)
    return click.option(
        "-d", "--destination", type=NameList(), multiple=True, help="Only these nodes: a@h,b@h"
    )(command)


def nodes(destination: Sequence[Sequence[str]]) -> list[str] | None:
    """Return the node names that ``--destination`` gives; None: all nodes are meant."""
    return flatten(destination) or None


def show(
    state: CliState,
    answers: dict[str, Any],
    *,
    columns: Sequence[str],
    rows: Callable[[Any], Sequence[Sequence[object]]],
    asked: list[str] | None,
) -> None:
    """Print answers by node, as a table or JSON, and end as they deserve.

    Args:
        state: The run's options.
        answers: By node name.
        columns: Of the table, after the node.
        rows: Makes the rows of one node's answer, each without the node.
        asked: The nodes that were asked; None: all.
    Raises:
        NoAnswerError: nobody answered, or one who was asked by name didn't.
        click.ClickException: one answered with an error.
    """
    failed = {name: answer["error"] for name, answer in answers.items() if _is_error(answer)}
    if state.json:
        print_json(answers)
    else:
        fine = {name: answer for name, answer in answers.items() if name not in failed}
        table = [(name, *row) for name, answer in fine.items() for row in rows(answer)]
        if fine:
            print_table(("node", *columns), table)
    missing = sorted(set(asked or ()) - answers.keys())
    if missing or not answers:
        who = f"no answer from {', '.join(missing)}" if missing else "no worker answered"
        raise NoAnswerError(f"{who} (-t waits longer)")
    if failed:
        raise click.ClickException("; ".join(f"{name}: {why}" for name, why in failed.items()))


def show_done(state: CliState, answers: dict[str, Any], asked: list[str] | None) -> None:
    """Print what nodes say that they did."""
    show(state, answers, columns=("answer",), rows=lambda it: [(it.get("ok"),)], asked=asked)


def _is_error(answer: Any) -> bool:
    return isinstance(answer, dict) and "error" in answer
