"""A distributed task queue: one small core, and everything else a plugin.

Make an `Umbel`, put its `task` decorator on functions, and call their `delay`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from umbel.app import Umbel
from umbel.current_app import shared_task
from umbel.errors import Ignore, Reject, Retry, UmbelError
from umbel.requests import Request, current_request
from umbel.results.async_result import AsyncResult, EagerResult
from umbel.routing import Queue
from umbel.signatures import Signature
from umbel.tasks.task import Task

if TYPE_CHECKING:
    from umbel.hookspecs import hookimpl

    __version__: str

__all__ = [
    "AsyncResult",
    "EagerResult",
    "Ignore",
    "Queue",
    "Reject",
    "Request",
    "Retry",
    "Signature",
    "Task",
    "Umbel",
    "UmbelError",
    "__version__",
    "current_request",
    "hookimpl",
    "shared_task",
]


def __getattr__(name: str) -> Any:
    # Imported by who asks for them only: both cost start-up time.
    if name == "hookimpl":
        from umbel.hookspecs import hookimpl  # noqa: PLC0415 - see above

        return hookimpl
    if name == "__version__":
        from importlib.metadata import version  # noqa: PLC0415 - see above

        return version("umbel")
    raise AttributeError(f"module 'umbel' has no attribute {name!r}")
