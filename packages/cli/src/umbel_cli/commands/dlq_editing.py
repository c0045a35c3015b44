"""Other arguments for a dead letter, written in the user's editor."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import click

from umbel.errors import UmbelError
from umbel.listed import task_of

if TYPE_CHECKING:
    from umbel import Umbel
    from umbel.messages import DeadLetter

_KEYS = ("task", "args", "kwargs")


def edited_call(app: Umbel, letter: DeadLetter) -> dict[str, Any]:
    """Return task, args and kwargs as somebody wants them in the place of the letter's.

    Raises:
        click.Abort: the editor was left without saving.
        UmbelError: the arguments can't be written as JSON.
    """
    text = _template(app, letter)
    while True:
        saved = click.edit(text, extension=".json")
        if saved is None:
            click.echo("nothing was saved, so nothing is replayed", err=True)
            raise click.Abort
        try:
            call = _parsed(app, saved)
        except ValueError as error:
            click.echo(f"this can't be sent: {error}", err=True)
            click.confirm("Edit it again?", default=True, abort=True, err=True)
            text = saved
        else:
            return call


def _template(app: Umbel, letter: DeadLetter) -> str:
    """Return the call as JSON; an empty one where it can't be read."""
    try:
        found = app.dead_letters.arguments(letter)
        args, kwargs = found.args, found.kwargs
    except UmbelError as error:
        click.echo(f"its arguments can't be read: {error}", err=True)
        args, kwargs = [], {}
    call = {"task": task_of(letter) or "", "args": args, "kwargs": kwargs}
    # By umbel's serializer: dates and the like stand in its form, and are read back from it.
    return json.dumps(json.loads(app.serializer("json").dumps(call)), indent=2, ensure_ascii=False)


def _parsed(app: Umbel, text: str) -> dict[str, Any]:
    try:
        call = app.serializer("json").loads(text.encode())
    except UmbelError as error:
        raise ValueError(str(error)) from error
    if not isinstance(call, dict) or set(call) != set(_KEYS):
        raise ValueError(f"it must be an object of {', '.join(_KEYS)}")
    if not isinstance(call["task"], str) or not call["task"]:
        raise ValueError("task must be the name of a task")
    if not isinstance(call["args"], list) or not isinstance(call["kwargs"], dict):
        raise ValueError("args must be a list, and kwargs an object")
    return call
