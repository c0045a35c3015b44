"""What is published after an outcome: callbacks, the next step of a chain, errbacks, a retry.

Pure but for the encoding of arguments. Ids derive from the parent's, so that the same outcome
settled twice yields the same messages.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

from umbel.canvas.expansion import ChordSize, Expansion
from umbel.errors import DecodeError
from umbel.ids import derived_id
from umbel.messages import attempts_before
from umbel.outcomes import ErrorInfo, Failure, Outcome, Retry, Revoked, Success
from umbel.signatures import Signature
from umbel.worker.errbacks import errback_call

if TYPE_CHECKING:
    from umbel.canvas.freezing import ResultTuple
    from umbel.messages import Message
    from umbel.requests import Request
    from umbel.worker.host import Host
    from umbel.worker.jobs import Job

logger = logging.getLogger("umbel.worker")


class FollowUps(NamedTuple):
    """What is to be sent after an outcome."""

    messages: list[Message]
    #: Chords that begin with these messages, to be opened before.
    chords: list[ChordSize]
    #: Result tuples of what follows a success: its children, beside those that the task sent.
    results: list[ResultTuple]


_NOTHING = FollowUps([], [], [])


def revoked_error(reason: str) -> ErrorInfo:
    """Return the error that stands for a task that was revoked."""
    return ErrorInfo("TaskRevokedError", "celery.exceptions", [reason], None, reason)


def follow_ups(job: Job, outcome: Outcome, host: Host) -> FollowUps:
    """Return what to send after `outcome`, in order."""
    request = job.request
    match outcome:
        case Success(value):
            if not request.callbacks and not request.chain:
                return _NOTHING
            result = job.runner.result_serializer.loads(value)
            expansion = Expansion(ids_after(request))
            for edge, call in _readable(job, request.callbacks or (), "callback"):
                expansion.add(call, [result], edge)
            _add_next_step(job, result, expansion)
            return FollowUps(
                messages_of(expansion, request, host), expansion.chords, expansion.results
            )
        case Retry(message):
            return FollowUps([message], [], [])
        case Failure(error) if request.errbacks:
            return _errbacks(job, error, host)
        case Revoked(reason) if request.errbacks:
            return _errbacks(job, revoked_error(reason), host)
        case _:
            return _NOTHING


def _errbacks(job: Job, error: ErrorInfo, host: Host) -> FollowUps:
    request = job.request
    expansion = Expansion(ids_after(request))
    for edge, call in _readable(job, request.errbacks or (), "errback"):
        expansion.add(*errback_call(call, request, error, host), edge)
    return FollowUps(messages_of(expansion, request, host), expansion.chords, [])


def messages_of(expansion: Expansion, parent: Request, host: Host) -> list[Message]:
    """Return the messages of what was expanded, which follows from `parent`."""
    return [host.message_for(call, parent=parent) for call in expansion.calls]


def ids_after(request: Request) -> Callable[[str], str]:
    """Return what names that which follows from `request`, by its place there."""
    before = attempts_before(request.headers)
    # What follows from a replay is not what followed from the attempts before it.
    after = f"/{before}" if before else ""
    return lambda place: derived_id(request.id or "", f"{place}{after}")


def _add_next_step(job: Job, result: Any, expansion: Expansion) -> None:
    """Add the next step of the chain; what remains of the chain travels with it."""
    steps = [call for _, call in _readable(job, job.request.chain or (), "chain")]
    if steps:
        *rest, step = steps
        expansion.add(step, [result], "chain", [each.to_dict() for each in rest])


def _readable(job: Job, raw: Iterable[Any], edge: str) -> Iterator[tuple[str, Signature]]:
    """Go through signatures and their places."""
    for index, each in enumerate(raw):
        try:
            yield f"{edge}:{index}", Signature.from_dict(each)
        except DecodeError as exc:
            logger.error("%s: its %s can't be read and isn't sent: %s", job.label, edge, exc)
