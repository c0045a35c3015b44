"""``umbel purge``: drop all that waits in queues."""

from __future__ import annotations

import click

from umbel_cli.commands.values import NameList, flatten
from umbel_cli.output import print_json
from umbel_cli.state import CliState, pass_state


@click.command()
@click.option("-Q", "--queues", type=NameList(), multiple=True, help="These queues: a,b")
@click.option("-X", "--exclude-queues", type=NameList(), multiple=True, help="Not these: a,b")
@click.option("-f", "--force", "--yes", is_flag=True, help="Don't ask.")
@pass_state
def purge(
    state: CliState,
    queues: tuple[tuple[str, ...], ...],
    exclude_queues: tuple[tuple[str, ...], ...],
    force: bool,
) -> None:
    """Drop all messages that wait in queues, the delayed ones too. There is no way back.

    Without -Q: the queues that the app's workers consume. What a worker holds already, and dead
    letters, stay.
    """
    app = state.app()
    left_out = flatten(exclude_queues)
    names = [n for n in flatten(queues) or app.control.queue_names() if n not in left_out]
    if not names:
        raise click.UsageError("no queue is left to purge")
    broker = app.broker
    if not force:
        waiting = [broker.stats(name) for name in names]
        shown = ", ".join(f"{found.name} ({found.ready + found.delayed})" for found in waiting)
        click.confirm(f"Drop all messages that wait in {shown}?", abort=True, err=True)
    dropped = {name: broker.purge(name) for name in names}
    if state.json:
        print_json(dropped)
        return
    for name, count in dropped.items():
        click.echo(f"dropped {count} message{'s' if count != 1 else ''} from {name}")
