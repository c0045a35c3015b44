"""``umbel revoke``: take tasks back before they run, or end those that do."""

from __future__ import annotations

import click

from umbel_cli.output import print_json
from umbel_cli.state import CliState, pass_state


@click.command()
@click.argument("task_ids", nargs=-1, required=True, metavar="ID...")
@click.option("--terminate", is_flag=True, help="End them also where they run.")
@click.option(
    "-s", "--signal", default="SIGTERM", show_default=True, help="Signal that --terminate sends."
)
@pass_state
def revoke(state: CliState, task_ids: tuple[str, ...], terminate: bool, signal: str) -> None:
    """Revoke the tasks of these IDs: no worker starts them any more."""
    state.app().control.revoke(list(task_ids), terminate=terminate, signal=signal)
    if state.json:
        print_json({"revoked": list(task_ids), "terminate": terminate})
    else:
        state.note(f"revoked {len(task_ids)} task{'s' if len(task_ids) != 1 else ''}")
