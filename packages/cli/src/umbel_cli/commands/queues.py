"""``umbel queue`` and ``umbel queues``: how full they are, what waits in them, pausing them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click
import msgspec

from umbel.interfaces.broker import Capability
from umbel.messages import DeadLetter, Malformed, Message
from umbel_cli.groups import SuggestingGroup
from umbel_cli.output import moment, print_json, print_table, seconds, shorten
from umbel_cli.state import CliState, pass_state

if TYPE_CHECKING:
    from umbel import Umbel

_ARGUMENTS_WIDTH = 60


@click.group(cls=SuggestingGroup, invoke_without_command=True)
@click.pass_context
def queues(context: click.Context) -> None:
    """Show queues, pause and resume them.

    For each: how many messages are ready, delayed, held by a worker, or dead letters. Without a command it lists them. The age is that of the oldest ready message.
    """
    if context.invoked_subcommand is None:
        context.invoke(list_queues)


@queues.command("ls")
@pass_state
def list_queues(state: CliState) -> None:
    """List all queues."""
    app = state.app()
    stats, paused = list(app.queues), _paused(app)
    if state.json:
        print_json(
            [
                {
                    **msgspec.structs.asdict(found),
                    "paused": None if paused is None else found.name in paused,
                }
                for found in stats
            ]
        )
        return
    print_table(
        ("queue", "ready", "delayed", "held", "dead", "oldest", "state"),
        [
            (
                s.name,
                s.ready,
                s.delayed,
                s.held,
                s.dead,
                seconds(s.oldest_age_s),
                "paused" if s.name in (paused or ()) else None,
            )
            for s in stats
        ],
    )


@queues.command()
@click.argument("names", nargs=-1, required=True, metavar="NAME...")
@pass_state
def pause(state: CliState, names: tuple[str, ...]) -> None:
    """Let no worker take from these queues.

    It holds for all workers and outlives them, until it is taken back by resume. Sending goes on,
    and so does what workers hold already.
    """
    state.app().queues.pause(*names)
    _tell(state, "paused", names)


@queues.command()
@click.argument("names", nargs=-1, required=True, metavar="NAME...")
@pass_state
def resume(state: CliState, names: tuple[str, ...]) -> None:
    """Let workers take from these queues again."""
    state.app().queues.resume(*names)
    _tell(state, "resumed", names)


@queues.command()
@click.argument("name")
@click.option("--limit", type=click.IntRange(1), default=10, show_default=True, help="How many.")
@click.option("--offset", type=click.IntRange(0), default=0, help="Pass over so many.")
@click.option("--dead", is_flag=True, help="Show the dead letters instead, newest first.")
@pass_state
def peek(state: CliState, name: str, limit: int, offset: int, dead: bool) -> None:
    """Show what waits in the queue NAME.

    Next to run first; nothing is taken out.
    """
    app = state.app()
    letters: Sequence[DeadLetter] = ()
    if dead:
        letters = app.broker.dead_letters(name, limit=limit, offset=offset)
        rows = [_described(letter.message, letter) for letter in letters]
    else:
        rows = [_described(found) for found in app.queues.peek(name, limit=limit, offset=offset)]
    if state.json:
        print_json(rows)
    elif not rows:
        state.note(f"{'no dead letters of' if dead else 'nothing waits in'} queue {name!r}")
    else:
        _print_messages(rows, dead=dead)


def _paused(app: Umbel) -> Sequence[str] | None:
    """Return the names of the paused queues; None where the broker can't pause any."""
    return app.queues.paused() if Capability.PAUSE in app.broker.capabilities else None


def _tell(state: CliState, done: str, names: Sequence[str]) -> None:
    if state.json:
        print_json({done: list(dict.fromkeys(names))})
    else:
        click.echo(f"{done} {', '.join(dict.fromkeys(names))}")


def _described(message: Message | Malformed, letter: DeadLetter | None = None) -> dict[str, Any]:
    row: dict[str, Any]
    if isinstance(message, Malformed):
        row = {"id": None, "task": None, "malformed": message.reason, "size": len(message.raw)}
    else:
        headers = message.headers
        row = {
            "id": message.id,
            "task": message.task,
            "args": headers.get("argsrepr"),
            "kwargs": headers.get("kwargsrepr"),
            "priority": message.priority,
            "eta": moment(message.due_at),
            "expires": moment(message.expires_at),
            "retries": headers.get("retries", 0),
            "origin": headers.get("origin"),
            "size": len(message.body),
        }
    if letter is not None:
        row |= {
            "reason": letter.reason,
            "died_at": moment(letter.died_at),
            "deliveries": letter.deliveries,
        }
    return row


def _print_messages(rows: Sequence[dict[str, Any]], *, dead: bool) -> None:
    last = "reason" if dead else "arguments"
    print_table(
        ("id", "task", "priority", "died" if dead else "eta", last),
        [
            (
                row["id"],
                row["task"],
                row.get("priority"),
                row.get("died_at" if dead else "eta"),
                shorten(row["reason"] if dead else _arguments(row), _ARGUMENTS_WIDTH),
            )
            for row in rows
        ],
    )


def _arguments(row: dict[str, Any]) -> str:
    if "malformed" in row:
        return f"malformed: {row['malformed']}"
    return f"{row['args'] or '()'} {row['kwargs'] or ''}".removesuffix("{}").strip()
