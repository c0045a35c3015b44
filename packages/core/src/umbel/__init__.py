"""A distributed task queue: one small core, and everything else a plugin.

Make an `Umbel`, put its `task` decorator on functions, and call their `delay`.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from umbel.app import Umbel
    from umbel.canvas import (
        Signature,
        chain,
        chord,
        chunks,
        group,
        maybe_signature,
        signature,
        xmap,
        xstarmap,
    )
    from umbel.current_app import shared_task
    from umbel.errors import Ignore, Reject, Retry, UmbelError
    from umbel.hookspecs import hookimpl
    from umbel.requests import Request, current_request
    from umbel.results.async_result import AsyncResult, EagerResult
    from umbel.results.group_result import GroupResult
    from umbel.results.result_set import ResultSet
    from umbel.results.tuples import result_from_tuple
    from umbel.routing import Queue
    from umbel.tasks.task import Task

    __version__: str

__all__ = [
    "AsyncResult",
    "EagerResult",
    "GroupResult",
    "Ignore",
    "Queue",
    "Reject",
    "Request",
    "ResultSet",
    "Retry",
    "Signature",
    "Task",
    "Umbel",
    "UmbelError",
    "__version__",
    "chain",
    "chord",
    "chunks",
    "current_request",
    "group",
    "hookimpl",
    "maybe_signature",
    "result_from_tuple",
    "shared_task",
    "signature",
    "xmap",
    "xstarmap",
]


#: Where each name comes from. Loaded when it is first asked for: a plugin's hooks import this
#: package too, and ``umbel --help`` loads all of them.
_HOMES = {
    "AsyncResult": "umbel.results.async_result",
    "EagerResult": "umbel.results.async_result",
    "GroupResult": "umbel.results.group_result",
    "Ignore": "umbel.errors",
    "Queue": "umbel.routing",
    "Reject": "umbel.errors",
    "Request": "umbel.requests",
    "ResultSet": "umbel.results.result_set",
    "Retry": "umbel.errors",
    "Signature": "umbel.canvas",
    "Task": "umbel.tasks.task",
    "Umbel": "umbel.app",
    "UmbelError": "umbel.errors",
    "chain": "umbel.canvas",
    "chord": "umbel.canvas",
    "chunks": "umbel.canvas",
    "current_request": "umbel.requests",
    "group": "umbel.canvas",
    "hookimpl": "umbel.hookspecs",
    "maybe_signature": "umbel.canvas",
    "result_from_tuple": "umbel.results.tuples",
    "shared_task": "umbel.current_app",
    "signature": "umbel.canvas",
    "xmap": "umbel.canvas",
    "xstarmap": "umbel.canvas",
}


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        value = getattr(import_module(_HOMES[name]), name)
        globals()[name] = value
        return value
    if name == "__version__":
        from importlib.metadata import version  # noqa: PLC0415 - costs start-up time

        return version("umbel")
    raise AttributeError(f"module 'umbel' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
