"""A raised `Retry`, or an exception in ``autoretry_for``, made into the Retry outcome.

A retry is the same message sent again: same id, ``retries`` + 1, an ``eta``, its own id as
``parent_id``. All other headers and properties, known or not, are kept as they were.
"""

from __future__ import annotations

import random
from datetime import UTC, datetime
from typing import Any

import msgspec

from umbel.canvas.options import RESULTS
from umbel.clock import to_iso
from umbel.error_info import error_info
from umbel.errors import EncodeError, InvalidTaskError, Retry
from umbel.messages import Message
from umbel.outcomes import Retry as RetryOutcome
from umbel.retries import matches, retry_delay
from umbel.worker.jobs import Job

#: Options of `retry()` that are fields of the message, and those that are headers.
_FIELDS = ("queue", "priority", "exchange", "routing_key", "reply_to", "delivery_mode")


def autoretry(job: Job, exc: Exception, now: float) -> RetryOutcome | None:
    """Return the retry that the task's options ask for after `exc`; None: it has failed."""
    task, request = job.runner.task, job.request
    if not task.autoretry_for or not matches(exc, task.autoretry_for, task.dont_autoretry_for):
        return None
    options = dict(task.retry_kwargs or {})
    max_retries = options.pop("max_retries", task.max_retries)
    if max_retries is not None and request.retries >= max_retries:
        return None
    countdown = options.pop("countdown", None)
    if task.retry_backoff:
        countdown = retry_delay(
            request.retries,
            default_delay_s=task.default_retry_delay,
            backoff=task.retry_backoff,
            backoff_max=task.retry_backoff_max,
            jitter=task.retry_jitter,
            random=random.random,
        )
    elif countdown is None:
        countdown = task.default_retry_delay
    signal = Retry(exc=exc, when=countdown)
    signal.override = options
    return retry_outcome(job, signal, now)


def retry_outcome(job: Job, signal: Retry, now: float) -> RetryOutcome:
    """Return the outcome for `signal`, raised at `now` (unix seconds).

    Raises: SerializationError, InvalidTaskError: the new arguments or options are wrong.
    """
    message = _next_message(job, dict(signal.override), _due_at(signal.when, now))
    cause = signal.exc if signal.exc is not None else signal
    return RetryOutcome(
        message=message,
        error=error_info(cause),
        reason=signal.message or repr(signal.exc) if signal.exc else signal.message or "",
    )


def _due_at(when: Any, now: float) -> float:
    if when is None:
        return now
    if isinstance(when, datetime):
        return (when if when.tzinfo else when.replace(tzinfo=UTC)).timestamp()
    return now + float(when)


def _next_message(job: Job, override: dict[str, Any], due_at: float) -> Message:
    message = job.delivery.message
    assert isinstance(message, Message)  # noqa: S101 - a job is only made of a readable message
    headers = {
        **message.headers,
        "retries": job.request.retries + 1,
        "eta": to_iso(due_at),
        "parent_id": job.request.id,
    }
    changes: dict[str, Any] = {"due_at": due_at}
    if "args" in override or "kwargs" in override:
        changes |= _new_body(job, message, override, headers)
    for name in ("time_limit", "soft_time_limit"):
        if name in override:
            limits = list(headers.get("timelimit") or (None, None))
            limits[name == "soft_time_limit"] = override.pop(name)
            headers["timelimit"] = limits
    if "expires" in override:
        changes["expires_at"] = _due_at(override["expires"], due_at)
        headers["expires"] = to_iso(changes["expires_at"])
        del override["expires"]
    headers.update(override.pop("headers", None) or {})
    for name in _FIELDS:
        if name in override:
            changes[name] = override.pop(name)
    if "queue" in changes and "routing_key" not in changes:
        changes["routing_key"] = changes["queue"]
    override.pop("retry", None)
    override.pop("retry_policy", None)
    if override:
        raise InvalidTaskError(f"retry() got options it can't use: {', '.join(sorted(override))}")
    return msgspec.structs.replace(message, headers=headers, **changes)


def _new_body(
    job: Job, message: Message, override: dict[str, Any], headers: dict[str, Any]
) -> dict[str, Any]:
    """Encode the arguments that `retry()` was given in place of the message's."""
    request = job.request
    given_args, given_kwargs = override.pop("args", None), override.pop("kwargs", None)
    args = list(request.args if given_args is None else given_args)
    if given_args is not None:
        headers.pop(RESULTS, None)
    elif headers.get(RESULTS) is not None:
        args[0] = None  # what is kept stays so
    kwargs = dict(request.kwargs if given_kwargs is None else given_kwargs)
    embed = {
        "callbacks": request.callbacks,
        "errbacks": request.errbacks,
        "chain": request.chain,
        "chord": request.chord,
    }
    serializer = job.runner.serializers(message.content_type)
    headers.pop("compression", None)
    headers["argsrepr"], headers["kwargsrepr"] = repr(tuple(args))[:1024], repr(kwargs)[:1024]
    body = serializer.dumps([args, kwargs, embed])
    limit = job.runner.message_max_bytes
    if len(body) > limit:
        raise EncodeError(
            f"the new arguments of retry() take {len(body)} bytes, which is over "
            f"task_message_max_bytes ({limit}); pass a reference to the data"
        )
    return {"body": body}
