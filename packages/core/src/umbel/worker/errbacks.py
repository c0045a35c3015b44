"""What errbacks are called with: the id of what failed or, as in Celery, ``(request, exc, traceback)``.

Who has three arguments to be given gets these three. They travel as JSON, marked by a header, and
are made what they were where the errback runs. (Celery calls such a task inside of the worker,
beside the tasks it runs; here it is a task like any other.)
"""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

import msgspec

from umbel.canvas.options import RESULTS
from umbel.error_info import Allowed, rebuild
from umbel.errors import DecodeError
from umbel.outcomes import ErrorInfo
from umbel.requests import Request

if TYPE_CHECKING:
    from umbel.signatures import Signature
    from umbel.tasks.task import Task
    from umbel.worker.host import Host

#: Header of an errback's message. True: its first arguments are a request, an error and its
#: traceback; False: its first argument is an id.
ERRBACK: Final = "umbel_errback"
_ARGUMENTS: Final = 3

_TOLD: Final = (
    "id", "task", "args", "kwargs", "root_id", "parent_id", "group", "group_index", "retries",
    "eta", "expires", "correlation_id", "reply_to", "origin", "shadow", "hostname",
    "delivery_info", "stamped_headers", "stamps",
)  # fmt: skip


def errback_call(
    signature: Signature[Any], failed: Request, error: ErrorInfo, host: Host
) -> tuple[Signature[Any], list[Any]]:
    """Return how to call an errback of `failed`: itself, and the arguments that go before its own."""
    task = host.tasks.resolve(signature.task)
    takes_three = not signature.immutable and task is not None and _takes_three(task, signature)
    headers = {**(signature.options.get("headers") or {}), ERRBACK: takes_three}
    if not takes_three:
        return signature.set(headers=headers), [failed.id]
    request = {name: getattr(failed, name) for name in _TOLD}
    if failed.headers.get(RESULTS) is not None:
        request["args"] = [None, *failed.args[1:]]  # a list that is too long for messages
    told = {
        "exc_type": error.exc_type,
        "exc_module": error.exc_module,
        "exc_message": error.exc_message,
    }
    return signature.set(headers=headers), [request, told, error.traceback]


def revived(args: Sequence[Any], allowed: Allowed) -> list[Any]:
    """Return the arguments of such a call as they were before they travelled.

    Raises: DecodeError: they are something else.
    """
    try:
        described, told, traceback = args[:_ARGUMENTS]
        told_of = {name: described[name] for name in _TOLD if name in described}
        error = msgspec.convert({**told, "traceback": traceback}, ErrorInfo)
    except (ValueError, TypeError, msgspec.ValidationError) as exc:
        raise DecodeError(f"arguments of an errback: {exc}") from exc
    request = Request(**told_of, called_directly=False)
    return [request, rebuild(error, allowed=allowed), traceback, *args[_ARGUMENTS:]]


def shown(request: Request) -> Sequence[Any]:
    """Return the arguments of `request` as they can be stored with its result."""
    args = request.args
    if not request.headers.get(ERRBACK) or len(args) < _ARGUMENTS:
        return args
    failed, error, *rest = args
    return [getattr(failed, "id", None), repr(error), *rest]


def _takes_three(task: Task[..., Any], signature: Signature[Any]) -> bool:
    """Tell whether the task can only be called with more than the id."""
    required = [
        each.name
        for each in inspect.signature(task.run).parameters.values()
        if each.default is each.empty
        and each.kind in (each.POSITIONAL_ONLY, each.POSITIONAL_OR_KEYWORD)
        and each.name not in signature.kwargs
    ]
    return len(required) - len(signature.args) >= _ARGUMENTS - 1
