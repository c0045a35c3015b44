"""``umbel dlq``: look at dead letters, send them again, drop them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from umbel.listed import id_of, task_of
from umbel.messages import DeadLetter, Malformed
from umbel_cli.commands.dlq_editing import edited_call
from umbel_cli.commands.dlq_selecting import Selected, filter_options, selection_options
from umbel_cli.commands.dlq_showing import described, print_letter
from umbel_cli.commands.values import Rate
from umbel_cli.exits import ExitCode
from umbel_cli.groups import SuggestingGroup
from umbel_cli.output import moment, print_json, print_table, printable, shorten
from umbel_cli.state import CliState, pass_state

if TYPE_CHECKING:
    from umbel.dead_letters import LetterFilter

_REASON_WIDTH = 60


@click.group(cls=SuggestingGroup)
def dlq() -> None:
    """Look at dead letters, and send them again.

    A dead letter is a message that isn't tried again by itself: its task killed its process too
    often, it can't be read, no worker knows its task, the task refused it; or it failed, where
    task_dead_letter says so. It is named by its task's id, by the first characters of that (4 or
    more), or by its receipt.
    """


@dlq.command("ls")
@filter_options
@click.option("--limit", type=click.IntRange(1), default=50, show_default=True, help="How many.")
@pass_state
def list_letters(state: CliState, where: LetterFilter, limit: int) -> None:
    """List dead letters, newest first."""
    letters = list(state.app().dead_letters.find(limit=limit + 1, **where))
    shown = letters[:limit]
    if state.json:
        print_json([_row(letter) for letter in shown])
        return
    if not shown:
        state.note("no dead letters" + (" that fit" if where else ""))
        return
    print_table(
        ("receipt", "id", "task", "queue", "kind", "died", "reason"),
        [
            (
                letter.receipt,
                _cell(id_of(letter)),
                _cell(task_of(letter)),
                _cell(letter.queue),
                letter.kind,
                moment(letter.died_at),
                _cell(letter.reason),
            )
            for letter in shown
        ],
    )
    if len(letters) > limit:
        state.note(f"there are more than these {limit}; see --limit")


@dlq.command()
@click.argument("name", metavar="ID")
@pass_state
def show(state: CliState, name: str) -> None:
    """Show all that is known of one dead letter."""
    letters = state.app().dead_letters
    letter = letters.get(name)
    document = described(letter, letters)
    if state.json:
        print_json(document)
    else:
        print_letter(document)


@dlq.command()
@selection_options
@click.option("--edit", is_flag=True, help="Edit the arguments of one in $EDITOR first.")
@click.option("--rate", type=Rate(), metavar="RATE", help="At most so many: 10/s, 100/m.")
@click.option("-n", "--dry-run", is_flag=True, help="Only tell how many.")
@pass_state
def replay(
    state: CliState, selected: Selected, edit: bool, rate: str | None, dry_run: bool
) -> None:
    """Send dead letters again: those of the IDs, or --all that fit.

    Each is sent once: as the message goes to its queue, the letter is gone. The task keeps its id,
    and its new result takes the place of the old one; retries count from 0, eta and expires are
    taken away. The exit code is 1 where some couldn't be sent.
    """
    letters = state.app().dead_letters
    if edit:
        if len(selected.names) != 1:
            raise click.UsageError("--edit takes one ID")
        call = edited_call(state.app(), letters.get(selected.names[0]))
        report = letters.replay(selected.names[0], dry_run=dry_run, **call)
    elif selected.names:
        report = letters.replay(selected.names, rate=rate, dry_run=dry_run)
    else:
        if not dry_run:
            selected.confirm(letters.count(**selected.where), "Send {} again?")
        report = letters.replay(where=selected.where, rate=rate, dry_run=dry_run)
    if state.json:
        print_json({**report._asdict(), "dry_run": dry_run})
    else:
        click.echo(f"{'would replay' if dry_run else 'replayed'} {_letters(report.replayed)}")
        if report.gone:
            state.note(f"{_letters(report.gone)} went meanwhile by others' doing")
        if report.unreadable:
            state.note(
                f"{_letters(report.unreadable)} can't be read, and so not be sent as they are; "
                "see --edit"
            )
    if report.unreadable or (selected.names and report.gone):
        click.get_current_context().exit(ExitCode.FAILED)


@dlq.command()
@selection_options
@pass_state
def drop(state: CliState, selected: Selected) -> None:
    """Drop dead letters for good: those of the IDs, or --all that fit. There is no way back."""
    letters = state.app().dead_letters
    if selected.names:
        found = [letters.get(name) for name in selected.names]
        selected.confirm(len(found), "Drop {} for good?", [_label(letter) for letter in found])
        dropped = letters.drop([letter.receipt for letter in found])
    else:
        selected.confirm(letters.count(**selected.where), "Drop {} for good?")
        dropped = letters.drop(where=selected.where)
    if state.json:
        print_json({"dropped": dropped})
    else:
        click.echo(f"dropped {_letters(dropped)}")


def _row(letter: DeadLetter) -> dict[str, Any]:
    message = letter.message
    headers = {} if isinstance(message, Malformed) else message.headers
    return {
        "receipt": letter.receipt,
        "id": id_of(letter),
        "task": task_of(letter),
        "queue": letter.queue,
        "kind": str(letter.kind),
        "reason": letter.reason,
        "died_at": moment(letter.died_at),
        "deliveries": letter.deliveries,
        "args": headers.get("argsrepr"),
        "kwargs": headers.get("kwargsrepr"),
    }


def _cell(text: str | None) -> str | None:
    return None if text is None else shorten(printable(text), _REASON_WIDTH)


def _label(letter: DeadLetter) -> str:
    return printable(f"{task_of(letter) or 'malformed'}[{id_of(letter) or letter.receipt}]")


def _letters(count: int) -> str:
    return f"{count} dead letter{'s' if count != 1 else ''}"
