"""``umbel result``: show what came of a task."""

from __future__ import annotations

import click

from umbel_cli.commands.outcome import show_outcome
from umbel_cli.state import CliState, pass_state


@click.command()
@click.argument("task_id", metavar="ID")
@click.option("--traceback", is_flag=True, help="Print the traceback of a task that failed.")
@click.option("--wait", is_flag=True, help="Wait until there is a result.")
@click.option("--timeout", type=float, metavar="SECONDS", help="Wait no longer; implies --wait.")
@pass_state
def result(
    state: CliState, task_id: str, traceback: bool, wait: bool, timeout: float | None
) -> None:
    """Print the result of the task ID.

    The exit code is 0 if it succeeded, 1 if it failed, 75 if there is no result yet: a task that
    was never sent looks the same as one that waits.
    """
    show_outcome(
        state,
        state.app().AsyncResult(task_id),
        wait=wait or timeout is not None,
        timeout_s=timeout,
        traceback=traceback,
    )
