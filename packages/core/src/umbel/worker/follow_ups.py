"""What is published after an outcome: callbacks, the next step of a chain, errbacks, a retry.

Pure but for the encoding of arguments. Ids derive from the parent's, so that the same outcome
settled twice yields the same messages.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from umbel.errors import DecodeError
from umbel.ids import derived_id
from umbel.messages import attempts_before
from umbel.outcomes import Failure, Outcome, Retry, Revoked, Success
from umbel.signatures import Signature

if TYPE_CHECKING:
    from collections.abc import Iterable

    from umbel.messages import Message
    from umbel.worker.host import Host
    from umbel.worker.jobs import Job

logger = logging.getLogger("umbel.worker")


def follow_ups(job: Job, outcome: Outcome, host: Host) -> list[Message]:
    """Return the messages to send after `outcome`, in order."""
    request = job.request
    match outcome:
        case Success(value):
            if not request.callbacks and not request.chain:
                return []
            result = job.runner.result_serializer.loads(value)
            messages = _calls(job, request.callbacks or (), [result], "callback", host)
            return messages + _next_step(job, result, host)
        case Retry(message):
            return [message]
        case Failure() | Revoked():
            return _calls(job, request.errbacks or (), [request.id], "errback", host)
        case _:
            return []


def _calls(job: Job, raw: Iterable[Any], args: list[Any], edge: str, host: Host) -> list[Message]:
    return [
        _message(job, each, args, f"{edge}:{index}", host)
        for index, each in enumerate(_readable(job, raw, edge))
    ]


def _next_step(job: Job, result: Any, host: Host) -> list[Message]:
    """Return the next step of the chain; what remains of the chain travels with it."""
    chain = job.request.chain
    if not chain:
        return []
    *rest, step = _readable(job, chain, "chain")
    if rest:
        step = step.set(chain=[each.to_dict() for each in rest])
    return [_message(job, step, [result], "chain", host)]


def _message(job: Job, signature: Signature, args: list[Any], edge: str, host: Host) -> Message:
    call = signature.clone(args)
    if not call.options.get("task_id"):
        before = attempts_before(job.request.headers)
        # What follows from a replay is not what followed from the attempts before it.
        edge = f"{edge}/{before}" if before else edge
        call = call.set(task_id=derived_id(job.request.id or "", edge))
    return host.message_for(call, parent=job.request)


def _readable(job: Job, raw: Iterable[Any], edge: str) -> list[Signature]:
    found = []
    for each in raw:
        try:
            found.append(Signature.from_dict(each))
        except DecodeError as exc:
            logger.error("%s: its %s can't be read and isn't sent: %s", job.label, edge, exc)
    return found
