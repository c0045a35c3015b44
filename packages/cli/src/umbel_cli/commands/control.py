"""``umbel control``: tell workers what to do."""

from __future__ import annotations

from typing import Any

import click

from umbel_cli.commands.answers import asking_options, nodes, show_done
from umbel_cli.groups import SuggestingGroup
from umbel_cli.state import CliState, pass_state

Destination = tuple[tuple[str, ...], ...]
_COUNT = click.IntRange(1)


@click.group(cls=SuggestingGroup)
def control() -> None:
    """Tell the workers that run now what to do, and show what they answer.

    The exit code is 69 if nobody answers. To revoke or end tasks: umbel revoke.
    """


@control.command("rate_limit")
@click.argument("task")
@click.argument("rate")
@asking_options
@pass_state
def rate_limit(
    state: CliState, task: str, rate: str, destination: Destination, timeout: float
) -> None:
    """Let each worker start RATE tasks of the type TASK, such as 10/s, 100/m or 5/h.

    0 takes the limit off, reset goes back to what the code says. It is remembered, for workers
    that start later too; with -d it is not.
    """
    done = state.app().control.rate_limit(
        task, rate, nodes(destination), reply=True, timeout=timeout
    )
    show_done(state, _by_node(done), nodes(destination))


@control.command("pool_grow")
@click.argument("n", type=_COUNT, default=1)
@asking_options
@pass_state
def pool_grow(state: CliState, n: int, destination: Destination, timeout: float) -> None:
    """Let each worker run N more processes."""
    _order(state, "pool_grow", destination, timeout, n=n)


@control.command("pool_shrink")
@click.argument("n", type=_COUNT, default=1)
@asking_options
@pass_state
def pool_shrink(state: CliState, n: int, destination: Destination, timeout: float) -> None:
    """Let each worker run N processes fewer; they finish what they run."""
    _order(state, "pool_shrink", destination, timeout, n=n)


@control.command()
@click.argument("most", type=_COUNT, metavar="MAX")
@click.argument("fewest", type=_COUNT, default=1, metavar="[MIN]")
@asking_options
@pass_state
def autoscale(
    state: CliState, most: int, fewest: int, destination: Destination, timeout: float
) -> None:
    """Let the number of each worker's processes follow the load, between MIN and MAX."""
    _order(state, "autoscale", destination, timeout, max=most, min=fewest)


@control.command()
@asking_options
@pass_state
def shutdown(state: CliState, destination: Destination, timeout: float) -> None:
    """Stop workers as TERM does: what runs is finished, the rest is given back."""
    _order(state, "shutdown", destination, timeout)


def _order(
    state: CliState, method: str, destination: Destination, timeout: float, **arguments: Any
) -> None:
    to = nodes(destination)
    answers = state.app().control.call(method, arguments, destination=to, timeout=timeout)
    show_done(state, answers, to)


def _by_node(answers: list[dict[str, Any]] | None) -> dict[str, Any]:
    return {name: answer for each in answers or () for name, answer in each.items()}
