"""All that is known of one dead letter, for people and for programs."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import click

from umbel.dead_letters.replays import REPLAYS
from umbel.errors import UmbelError
from umbel.messages import ATTEMPTS_BEFORE, DeadLetter, Malformed, Message
from umbel_cli.output import moment, print_table, printable

if TYPE_CHECKING:
    from umbel.dead_letters import DeadLetters

_LINEAGE = ("root_id", "parent_id", "group", "group_index", "origin", "replaced_task_nesting")
#: What isn't worth a line.
_EMPTY = (None, 0, "")
_RAW_SHOWN = 2000
_MIB = 1024 * 1024


def described(letter: DeadLetter, letters: DeadLetters) -> dict[str, Any]:
    """Return what is known of `letter`, as JSON can hold it."""
    document: dict[str, Any] = {
        "receipt": letter.receipt,
        "queue": letter.queue,
        "kind": str(letter.kind),
        "reason": letter.reason,
        "died_at": moment(letter.died_at),
        "deliveries": letter.deliveries,
        "details": letter.details,
    }
    message = letter.message
    if isinstance(message, Malformed):
        raw = message.raw[:_RAW_SHOWN].decode("utf-8", "backslashreplace")
        return {**document, "malformed": message.reason, "raw": raw, "size": len(message.raw)}
    return {**document, **_of_message(message), **_arguments(letter, letters)}


def _of_message(message: Message) -> dict[str, Any]:
    headers = message.headers
    return {
        "id": message.id,
        "task": message.task,
        "retries": headers.get("retries") or 0,
        "attempts_before": headers.get(ATTEMPTS_BEFORE) or 0,
        "replays": headers.get(REPLAYS) or 0,
        "priority": message.priority,
        "eta": moment(message.due_at),
        "expires": moment(message.expires_at),
        "lineage": {name: headers.get(name) for name in _LINEAGE},
        "headers": headers,
        "content_type": message.content_type,
        "size": len(message.body),
    }


def _arguments(letter: DeadLetter, letters: DeadLetters) -> dict[str, Any]:
    """Return the arguments decoded, or why they can't be."""
    try:
        found = letters.arguments(letter)
    except UmbelError as error:
        return {"args": None, "kwargs": None, "undecoded": str(error)}
    except Exception as error:  # noqa: BLE001 - a serializer's own errors, at the bytes of others
        return {"args": None, "kwargs": None, "undecoded": f"{type(error).__name__}: {error}"}
    return {"args": found.args, "kwargs": found.kwargs, "then": found.embed or None}


def print_letter(document: Mapping[str, Any]) -> None:
    """Print what `described` returned, for a person."""
    first = ("id", "task", "receipt", "queue", "kind", "reason", "died_at", "deliveries")
    then = ("retries", "attempts_before", "replays", "priority", "eta", "expires")
    last = ("args", "kwargs", "undecoded", "malformed", "raw", "content_type", "size")
    shown = {name: document.get(name) for name in (*first, *then, *last)}
    _print_fields({name: each for name, each in shown.items() if each not in _EMPTY})
    lineage = {name: each for name, each in document.get("lineage", {}).items() if each}
    _section("lineage", lineage)
    details = dict(document["details"])
    _print_attempts(details.pop("attempts", None))
    exception = details.pop("exception", None)
    _section("details", details)
    if isinstance(exception, Mapping):
        text = exception.get("traceback") or exception.get("message")
        click.secho("\nexception", bold=True)
        click.echo(printable(str(text).rstrip()))
    _section("headers", document.get("headers") or {})


def _section(title: str, fields: Mapping[str, Any]) -> None:
    if fields:
        click.secho(f"\n{title}", bold=True)
        _print_fields(fields)


def _print_fields(fields: Mapping[str, Any]) -> None:
    width = max(len(name) for name in fields)
    for name, value in fields.items():
        text = value if isinstance(value, str) else _as_text(value)
        click.echo(f"{printable(name):<{width}}  {printable(text)}")


def _as_text(value: Any) -> str:
    try:
        return json.dumps(value, ensure_ascii=False)
    except (TypeError, ValueError):
        return repr(value)


def _print_attempts(attempts: Any) -> None:
    if not isinstance(attempts, list):
        return
    rows = [each for each in attempts if isinstance(each, Mapping)]
    click.secho("\nattempts", bold=True)
    print_table(
        ("at", "exit", "signal", "memory", "pid", "worker"),
        [
            (
                moment(each["at"]) if isinstance(each.get("at"), (int, float)) else None,
                each.get("exit"),
                each.get("signal"),
                _mebibytes(each.get("memory_bytes")),
                each.get("pid"),
                each.get("hostname"),
            )
            for each in rows
        ],
    )


def _mebibytes(size: Any) -> str | None:
    return f"{size / _MIB:.0f} MiB" if isinstance(size, (int, float)) else None
