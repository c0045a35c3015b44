"""The guard against waiting for a task inside a task.

A task that blocks on another one holds its slot meanwhile: with enough of them, no slot is left
for what they wait for, and all stand still.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from umbel.errors import SyncSubtaskError
from umbel.requests import current_request

_join_allowed: ContextVar[bool] = ContextVar("umbel_join_allowed", default=False)


def assert_will_not_block() -> None:
    """Raise SyncSubtaskError inside a task that a worker runs, unless it was allowed."""
    request = current_request()
    if request.called_directly or request.is_eager or _join_allowed.get():
        return
    raise SyncSubtaskError(
        f"result.get() was called inside task {request.task!r}, which holds its slot while it "
        "waits and can stop a whole worker; use a link, 'await result' in an async task, or "
        "allow_join_result() where the other task surely runs elsewhere"
    )


@contextmanager
def allow_join_result() -> Iterator[None]:
    """Allow ``result.get()`` inside tasks, in this context."""
    with _set_join_allowed(allowed=True):
        yield


@contextmanager
def denied_join_result() -> Iterator[None]:
    """Forbid ``result.get()`` inside tasks again, in this context."""
    with _set_join_allowed(allowed=False):
        yield


@contextmanager
def _set_join_allowed(*, allowed: bool) -> Iterator[None]:
    token = _join_allowed.set(allowed)
    try:
        yield
    finally:
        _join_allowed.reset(token)
