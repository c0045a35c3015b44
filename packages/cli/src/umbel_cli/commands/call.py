"""``umbel call``: send a task, and wait for its result if asked to."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any

import click

from umbel.errors import UnknownTaskError
from umbel_cli.app_loading import import_tasks
from umbel_cli.commands.outcome import show_outcome
from umbel_cli.commands.values import JsonOf, Moment, SecondsOrMoment, json_or_text
from umbel_cli.output import print_json
from umbel_cli.state import CliState, pass_state

if TYPE_CHECKING:
    from umbel import Umbel
    from umbel.results import AsyncResult


@click.command()
@click.argument("name")
@click.argument("arguments", nargs=-1, metavar="[ARG]...")
@click.option("-a", "--args", type=JsonOf(list, "'[1, \"x\"]'"), help="Arguments, a JSON list.")
@click.option(
    "-k", "--kwargs", type=JsonOf(dict, "'{\"x\": 1}'"), help="Keyword arguments, a JSON object."
)
@click.option("--eta", type=Moment(), help="Run it at this time (ISO 8601).")
@click.option("--countdown", type=float, metavar="SECONDS", help="Run it in so many seconds.")
@click.option("--expires", type=SecondsOrMoment(), help="Don't run it after this.")
@click.option("-Q", "--queue", help="Send it to this queue.")
@click.option("--priority", type=click.IntRange(0, 255), help="0 to 255, higher goes first.")
@click.option("--serializer", help="Encode the arguments with this serializer.")
@click.option("--task-id", help="Give it this id.")
@click.option(
    "--on-conflict",
    type=click.Choice(["raise", "return", "replace"]),
    help="If a task of that id is waiting, running or just done: fail (the default), take its "
    "result, or take its place.",
)
@click.option("--exchange", help="AMQP exchange.")
@click.option("--routing-key", help="AMQP routing key.")
@click.option("--wait", is_flag=True, help="Wait for the result and print it.")
@click.option("--timeout", type=float, metavar="SECONDS", help="Wait no longer; implies --wait.")
@click.option("--unchecked", is_flag=True, help="Send it though the app knows no such task.")
@pass_state
def call(
    state: CliState,
    /,
    name: str,
    arguments: tuple[str, ...],
    args: list[Any] | None,
    kwargs: dict[str, Any] | None,
    wait: bool,
    timeout: float | None,
    unchecked: bool,
    **options: str | float | datetime | None,
) -> None:
    """Send the task NAME, and print its id.

    Each ARG is JSON, or text where it isn't: `umbel call tasks.add 2 3`. With --wait the result is
    printed instead, and the exit code is 1 if the task failed, 75 if the time ran out.
    """
    if args is not None and arguments:
        raise click.UsageError("give the arguments either by --args or after the name, not both")
    given = args if args is not None else [json_or_text(argument) for argument in arguments]
    chosen = {key: value for key, value in options.items() if value is not None}
    app = state.app()
    sent = _send(app, state, name, given, kwargs or {}, chosen, unchecked=unchecked)
    if wait or timeout is not None:
        show_outcome(state, sent, wait=True, timeout_s=timeout)
    elif state.json:
        print_json({"id": sent.id, "task": name})
    else:
        click.echo(sent.id)


def _send(
    app: Umbel,
    state: CliState,
    name: str,
    args: list[Any],
    kwargs: dict[str, Any],
    options: dict[str, Any],
    *,
    unchecked: bool,
) -> AsyncResult[Any]:
    if state.app_path is not None:
        import_tasks(state.loaded_app())
        try:
            return app.tasks[name].apply_async(args, kwargs, **options)
        except UnknownTaskError as error:
            if not unchecked:
                raise UnknownTaskError(f"{error} (--unchecked sends it all the same)") from None
    return app.send_task(name, args, kwargs, **options)
