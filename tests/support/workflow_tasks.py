"""Tasks that tests of workflows on workers share, and calls of them."""

from __future__ import annotations

from typing import Any

from umbel import Signature, Umbel


def define(app: Umbel) -> None:
    """Give `app` tasks that add, tell what they were called with, or fail."""

    @app.task(name="add")
    def add(*numbers: int) -> int:
        return sum(numbers)

    @app.task(name="same")
    def same(*values: Any) -> list[Any]:
        return list(values)

    @app.task(name="told")
    def told(*ids: str) -> list[str]:
        return list(ids)

    @app.task(name="fail")
    def fail(*_: Any) -> None:
        raise ValueError("bad")


def sig(name: str, *args: Any, **options: Any) -> Signature[Any]:
    """Return a call of a task, with options."""
    return Signature(name, args, options=options)
