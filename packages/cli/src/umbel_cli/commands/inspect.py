"""``umbel inspect``: ask workers what they do."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import click

from umbel_cli.commands.answers import asking_options, nodes, show, show_done
from umbel_cli.groups import SuggestingGroup
from umbel_cli.output import seconds, shorten
from umbel_cli.state import CliState, pass_state

_ARGUMENTS_WIDTH = 40
_VALUE_WIDTH = 60

Destination = tuple[tuple[str, ...], ...]


@click.group(cls=SuggestingGroup)
def inspect() -> None:
    """Ask the workers that run now: who is there, what runs, what waits in their hands.

    The exit code is 69 if nobody answers.
    """


@inspect.command()
@asking_options
@pass_state
def ping(state: CliState, destination: Destination, timeout: float) -> None:
    """Ask who is there."""
    show_done(state, _ask(state, "ping", destination, timeout), nodes(destination))


@inspect.command()
@asking_options
@pass_state
def active(state: CliState, destination: Destination, timeout: float) -> None:
    """Show what runs."""
    now = time.time()

    def rows(answer: Any) -> Sequence[Sequence[object]]:
        return [
            (
                each["id"],
                each["name"],
                seconds(now - each["time_start"]),
                each["worker_pid"],
                _arguments(each),
            )
            for each in answer
        ]

    columns = ("id", "task", "since", "pid", "arguments")
    answers = _ask(state, "active", destination, timeout)
    show(state, answers, columns=columns, rows=rows, asked=nodes(destination))


@inspect.command()
@asking_options
@pass_state
def reserved(state: CliState, destination: Destination, timeout: float) -> None:
    """Show what workers hold and haven't started.

    It is given back at once where what runs takes long.
    """

    def rows(answer: Any) -> Sequence[Sequence[object]]:
        return [(each["id"], each["name"], each["worker_pid"], _arguments(each)) for each in answer]

    columns = ("id", "task", "pid", "arguments")
    answers = _ask(state, "reserved", destination, timeout)
    show(state, answers, columns=columns, rows=rows, asked=nodes(destination))


@inspect.command()
@asking_options
@pass_state
def scheduled(state: CliState, destination: Destination, timeout: float) -> None:
    """Show that no worker holds tasks for later: they wait in the broker."""
    answers = _ask(state, "scheduled", destination, timeout)
    show(state, answers, columns=("id",), rows=list, asked=nodes(destination))
    state.note("what is to run later waits in the broker: umbel queues")


@inspect.command()
@asking_options
@pass_state
def stats(state: CliState, destination: Destination, timeout: float) -> None:
    """Show the workers' processes, and how many tasks these have run. --json has more."""

    def rows(answer: Any) -> Sequence[Sequence[object]]:
        pool = answer["pool"]
        return [
            (
                answer["pid"],
                seconds(answer["uptime"]),
                pool["implementation"],
                len(pool["processes"]),
                pool["slots"],
                answer["done"],
            )
        ]

    columns = ("pid", "up", "pool", "processes", "slots", "done")
    answers = _ask(state, "stats", destination, timeout)
    show(state, answers, columns=columns, rows=rows, asked=nodes(destination))


@inspect.command()
@click.argument("options", nargs=-1, metavar="[OPTION]...")
@asking_options
@pass_state
def registered(
    state: CliState, options: tuple[str, ...], destination: Destination, timeout: float
) -> None:
    """List the tasks that workers know, with the OPTIONs of each, such as rate_limit."""
    answers = _ask(state, "registered", destination, timeout, taskinfoitems=list(options))
    show(
        state,
        answers,
        columns=("task",),
        rows=lambda it: [(n,) for n in it],
        asked=nodes(destination),
    )


@inspect.command("active_queues")
@asking_options
@pass_state
def active_queues(state: CliState, destination: Destination, timeout: float) -> None:
    """List the queues that workers consume."""
    answers = _ask(state, "active_queues", destination, timeout)
    show(
        state,
        answers,
        columns=("queue",),
        rows=lambda it: [(each["name"],) for each in it],
        asked=nodes(destination),
    )


@inspect.command()
@asking_options
@pass_state
def revoked(state: CliState, destination: Destination, timeout: float) -> None:
    """List the ids of revoked tasks."""
    answers = _ask(state, "revoked", destination, timeout)
    show(
        state,
        answers,
        columns=("id",),
        rows=lambda it: [(each,) for each in it],
        asked=nodes(destination),
    )


@inspect.command()
@click.option("--all", "with_defaults", is_flag=True, help="Also those that have their default.")
@asking_options
@pass_state
def conf(state: CliState, with_defaults: bool, destination: Destination, timeout: float) -> None:
    """Print the workers' settings; passwords and secrets are masked."""

    def rows(answer: Any) -> Sequence[Sequence[object]]:
        return [
            (name, shorten(repr(value), _VALUE_WIDTH)) for name, value in sorted(answer.items())
        ]

    answers = _ask(state, "conf", destination, timeout, with_defaults=with_defaults)
    show(state, answers, columns=("setting", "value"), rows=rows, asked=nodes(destination))


def _ask(
    state: CliState, method: str, destination: Destination, timeout: float, **arguments: Any
) -> dict[str, Any]:
    inspected = state.app().control.inspect(nodes(destination), timeout)
    return inspected.call(method, **arguments) or {}


def _arguments(row: dict[str, Any]) -> str:
    text = f"{row['args'] or '()'} {row['kwargs'] or ''}".removesuffix("{}").strip()
    return shorten(text, _ARGUMENTS_WIDTH)
