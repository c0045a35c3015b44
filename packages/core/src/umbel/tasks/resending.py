"""What `Task.retry` decides: whether there is another run, when, and what it gets."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, NoReturn

from umbel.errors import MaxRetriesExceededError, Retry
from umbel.publishing.drafts import RESERVED_HEADERS
from umbel.requests import Request

if TYPE_CHECKING:
    from umbel.tasks.definition import TaskDefinition


def next_run(
    task: TaskDefinition,
    request: Request,
    exc: BaseException | None,
    eta: datetime | None,
    countdown: float | timedelta | None,
    max_retries: int | None,
) -> Retry:
    """Return the signal that asks for another run of `request`.

    Raises: `exc` or MaxRetriesExceededError: there is none; `exc` or the error that is being
        handled, where the task was called as a plain function.
    """
    if request.called_directly:
        _fail(exc or sys.exc_info()[1] or Retry("the task was called directly, nobody retries it"))
    limit = task.max_retries if max_retries is None else max_retries
    if limit is not None and request.retries >= limit:
        text = (
            f"can't retry {request.task}[{request.id}] args: {request.argsrepr} "
            f"kwargs: {request.kwargsrepr}: its {limit} retries are used up"
        )
        _fail(exc or MaxRetriesExceededError(text))
    when: Any = countdown.total_seconds() if isinstance(countdown, timedelta) else countdown
    if when is None:
        when = task.default_retry_delay if eta is None else eta
    return Retry(None, exc, when)


def _fail(exc: BaseException) -> NoReturn:
    raise exc


def overrides(
    args: Iterable[Any] | None, kwargs: Mapping[str, Any] | None, options: Mapping[str, Any]
) -> dict[str, Any]:
    """Return what the next run gets in place of what this one had; None says nothing."""
    found = {name: value for name, value in options.items() if value is not None}
    if args is not None:
        found["args"] = list(args)
    if kwargs is not None:
        found["kwargs"] = dict(kwargs)
    return found


def resend_options(request: Request, signal: Retry) -> dict[str, Any]:
    """Return the options that send `request` once more, as `signal` asks: same id, same route."""
    options = {
        **execution_options(request),
        "retries": request.retries + 1,
        "parent_id": request.id,
        "add_to_parent": False,
        "eta" if isinstance(signal.when, datetime) else "countdown": signal.when,
        **signal.override,
    }
    return {
        name: value
        for name, value in options.items()
        if value is not None and name not in ("args", "kwargs")
    }


def execution_options(request: Request) -> dict[str, Any]:
    """Return the options that `request` was sent with: its id, its route, what follows from it."""
    hard, soft = request.timelimit
    options = {
        "task_id": request.id,
        "retries": request.retries,
        "root_id": request.root_id,
        "parent_id": request.parent_id,
        "group_id": request.group,
        "group_index": request.group_index,
        "link": request.callbacks,
        "link_error": request.errbacks,
        "chain": request.chain,
        "chord": request.chord,
        "expires": request.expires,
        "time_limit": hard,
        "soft_time_limit": soft,
        "ignore_result": request.ignore_result,
        "reply_to": request.reply_to,
        "shadow": request.shadow,
        "replaced_task_nesting": request.replaced_task_nesting,
        "queue": request.delivery_info.get("routing_key"),
        "priority": request.delivery_info.get("priority"),
        "stamped_headers": request.stamped_headers,
        "stamps": request.stamps,
        "headers": {k: v for k, v in request.headers.items() if k not in RESERVED_HEADERS},
    }
    return {name: value for name, value in options.items() if value is not None}
