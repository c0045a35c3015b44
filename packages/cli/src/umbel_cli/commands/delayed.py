"""``umbel delayed``: look at what waits for its time, let it run now, drop it."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

import click

from umbel.listed import id_of, task_of
from umbel.messages import Delayed, Malformed
from umbel_cli.groups import SuggestingGroup
from umbel_cli.output import moment, print_json, print_table, printable, seconds, shorten
from umbel_cli.state import CliState, pass_state

if TYPE_CHECKING:
    from umbel.queues import DelayedFilter, DelayedMessages

F = TypeVar("F", bound=Callable[..., Any])

_WIDTH = 60


@click.group(cls=SuggestingGroup)
def delayed() -> None:
    """Look at what waits for its time, and let it run now.

    That is a call with a countdown or an eta, a task that waits for its next try, or a message
    that was given back for later. It is named by its task's id, by the first characters of that
    (4 or more), or by its receipt.
    """


def _filters(command: F) -> F:
    command = click.option("--task", metavar="NAME", help="Of this task; a pattern: 'shop.*'.")(
        command
    )
    return click.option("-Q", "--queue", help="Of this queue.")(command)


def _selection(command: F) -> F:
    command = click.option("-y", "--yes", is_flag=True, help="Don't ask.")(command)
    command = _filters(command)
    command = click.option("--all", "all_of_them", is_flag=True, help="All that fit.")(command)
    return click.argument("names", nargs=-1, metavar="[ID]...")(command)


@delayed.command("ls")
@_filters
@click.option("--limit", type=click.IntRange(1), default=50, show_default=True, help="How many.")
@pass_state
def list_delayed(state: CliState, queue: str | None, task: str | None, limit: int) -> None:
    """List what waits for its time, next due first."""
    where = _where(queue, task)
    found = list(state.app().delayed.find(limit=limit + 1, **where))
    shown = found[:limit]
    if state.json:
        print_json([_row(one) for one in shown])
        return
    if not shown:
        state.note("nothing is delayed" + (" that fits" if where else ""))
        return
    now = time.time()
    print_table(
        ("receipt", "id", "task", "queue", "due", "in", "arguments"),
        [
            (
                one.receipt,
                _cell(id_of(one)),
                _cell(task_of(one)),
                _cell(one.queue),
                moment(one.due_at),
                seconds(max(0.0, one.due_at - now)),
                _cell(_arguments(one)),
            )
            for one in shown
        ],
    )
    if len(found) > limit:
        state.note(f"there are more than these {limit}; see --limit")


@delayed.command()
@_selection
@pass_state
def promote(
    state: CliState,
    names: tuple[str, ...],
    all_of_them: bool,
    queue: str | None,
    task: str | None,
    yes: bool,
) -> None:
    """Let messages run now: those of the IDs, or --all that fit."""
    waiting, where = state.app().delayed, _where(queue, task)
    if _is_by_name(names, all_of_them, where):
        count = waiting.promote(names)
    else:
        _confirm(waiting, where, "Let {} run now?", yes=yes)
        count = waiting.promote(where=where)
    _tell(state, "promoted", count)


@delayed.command()
@_selection
@pass_state
def drop(
    state: CliState,
    names: tuple[str, ...],
    all_of_them: bool,
    queue: str | None,
    task: str | None,
    yes: bool,
) -> None:
    """Drop messages for good: those of the IDs, or --all that fit. There is no way back."""
    waiting, where = state.app().delayed, _where(queue, task)
    if _is_by_name(names, all_of_them, where):
        found = [waiting.get(name) for name in names]
        if not yes:
            labels = ", ".join(_label(one) for one in found)
            click.confirm(f"Drop {labels} for good?", abort=True, err=True)
        count = waiting.drop([one.receipt for one in found])
    else:
        _confirm(waiting, where, "Drop {} for good?", yes=yes)
        count = waiting.drop(where=where)
    _tell(state, "dropped", count)


def _where(queue: str | None, task: str | None) -> DelayedFilter:
    where: DelayedFilter = {}
    if queue is not None:
        where["queue"] = queue
    if task is not None:
        where["task"] = task
    return where


def _is_by_name(names: tuple[str, ...], all_of_them: bool, where: DelayedFilter) -> bool:
    if names and (all_of_them or where):
        raise click.UsageError("give IDs, or --all and a filter, not both")
    if not names and not all_of_them:
        raise click.UsageError("name delayed messages by their IDs, or give --all (that fit)")
    return bool(names)


def _confirm(waiting: DelayedMessages, where: DelayedFilter, question: str, *, yes: bool) -> None:
    if not yes and (count := waiting.count(**where)):
        click.confirm(question.format(_messages(count)), abort=True, err=True)


def _tell(state: CliState, done: str, count: int) -> None:
    if state.json:
        print_json({done: count})
    else:
        click.echo(f"{done} {_messages(count)}")


def _row(one: Delayed) -> dict[str, Any]:
    headers = {} if isinstance(one.message, Malformed) else one.message.headers
    return {
        "receipt": one.receipt,
        "id": id_of(one),
        "task": task_of(one),
        "queue": one.queue,
        "due_at": moment(one.due_at),
        "retries": headers.get("retries", 0),
        "args": headers.get("argsrepr"),
        "kwargs": headers.get("kwargsrepr"),
    }


def _arguments(one: Delayed) -> str:
    if isinstance(one.message, Malformed):
        return f"malformed: {one.message.reason}"
    headers = one.message.headers
    shown = f"{headers.get('argsrepr') or '()'} {headers.get('kwargsrepr') or ''}"
    return shown.removesuffix("{}").strip()


def _cell(text: str | None) -> str | None:
    return None if text is None else shorten(printable(text), _WIDTH)


def _label(one: Delayed) -> str:
    return printable(f"{task_of(one) or 'malformed'}[{id_of(one) or one.receipt}]")


def _messages(count: int) -> str:
    return f"{count} delayed message{'s' if count != 1 else ''}"
