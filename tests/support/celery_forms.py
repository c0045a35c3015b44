"""Signatures as Celery's clients put them into messages, before they have ids."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

Form = dict[str, Any]


def call(task: str, *args: Any, immutable: bool = False, **options: Any) -> Form:
    """Return a call of a task."""
    return {
        "task": task,
        "args": list(args),
        "kwargs": {},
        "options": options,
        "subtask_type": None,
        "immutable": immutable,
    }


def chain(*steps: Form, **options: Any) -> Form:
    """Return a chain."""
    return _composed("chain", {"tasks": list(steps)}, options)


def group(*members: Form, **options: Any) -> Form:
    """Return a group."""
    return _composed("group", {"tasks": list(members)}, options)


def chord(header: Sequence[Form] | Form, body: Form, **options: Any) -> Form:
    """Return a chord."""
    return _composed("chord", {"header": header, "body": body, "kwargs": {}}, options)


def _composed(kind: str, kwargs: Form, options: Form) -> Form:
    form = call(f"celery.{kind}", **options)
    return {**form, "kwargs": kwargs, "subtask_type": kind}
