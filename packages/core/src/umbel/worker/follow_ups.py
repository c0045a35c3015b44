"""What is published after an outcome: callbacks, the next step of a chain, errbacks, a retry.

Pure but for the encoding of arguments. Ids derive from the parent's, so that the same outcome
settled twice yields the same messages.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from umbel.canvas.additions import Addition
from umbel.canvas.expansion import ChordSize, Expansion
from umbel.canvas.options import RESULTS
from umbel.canvas.references import Piece, stored
from umbel.canvas.replacing import replacement
from umbel.errors import DecodeError, InvalidTaskError, UmbelError
from umbel.outcomes import (
    ErrorInfo,
    Failure,
    Ignored,
    Outcome,
    Rejected,
    Replaced,
    Retry,
    Revoked,
    Success,
)
from umbel.requests import ids_after
from umbel.signatures import Signature
from umbel.worker.errbacks import errback_call
from umbel.worker.kept_results import used_by

if TYPE_CHECKING:
    from umbel.canvas.freezing import ResultTuple
    from umbel.messages import Message
    from umbel.requests import Request
    from umbel.worker.host import Host
    from umbel.worker.jobs import Job

logger = logging.getLogger("umbel.worker")


class Growth(NamedTuple):
    """Parts that a chord has more, and the signatures that the messages to them are made of."""

    group_id: str
    task_ids: list[str]
    #: What it is kept under, should its task be settled anew.
    key: str
    raw: list[Any]


class FollowUps(NamedTuple):
    """What is to be sent after an outcome."""

    messages: list[Message]
    #: Chords that begin with these messages, to be opened before.
    chords: list[ChordSize]
    #: Result tuples of what follows a success: its children, beside those that the task sent.
    results: list[ResultTuple]
    #: To be kept before that, as these messages refer to them.
    pieces: Sequence[Piece] = ()
    #: Keys of pieces that were kept, and that these messages hold now.
    passed_on: Sequence[str] = ()
    #: What the task has added to its chord.
    grown: Growth | None = None


#: Nothing at all.
NOTHING = FollowUps([], [], [])


def revoked_error(reason: str) -> ErrorInfo:
    """Return the error that stands for a task that was revoked."""
    return ErrorInfo("TaskRevokedError", "celery.exceptions", [reason], None, reason)


def follow_ups(job: Job, outcome: Outcome, host: Host) -> FollowUps:
    """Return what to send after `outcome`, in order."""
    request = job.request
    match outcome:
        case Success(value, added=added):
            had = used_by(request) if RESULTS in request.headers else ()
            if not request.callbacks and not request.chain and added is None:
                return FollowUps([], [], [], (), had) if had else NOTHING
            result = job.runner.result_serializer.loads(value)
            expansion = expansion_after(request, host)
            for edge, call in _readable(job, request.callbacks or (), "callback"):
                expansion.add(call, [result], edge)
            passed_on = _add_next_step(job, result, expansion, host)
            grown = None if added is None else _add_parts(job, added, expansion)
            return FollowUps(
                messages_of(expansion, request, host),
                expansion.chords,
                expansion.begun,
                expansion.pieces,
                (*passed_on, *had, *(() if grown is None else (grown.key,))),
                grown,
            )
        case Retry(message):
            return FollowUps([message], [], [])
        case Replaced(data, added=added):
            return _in_its_place(job, data, added, host)
        case (
            Failure(error)
            | Rejected(requeue=False, error=ErrorInfo() as error)
            | Ignored(error=ErrorInfo() as error)
        ) if request.errbacks:
            return _errbacks(job, error, host)
        case Revoked(reason) if request.errbacks:
            return _errbacks(job, revoked_error(reason), host)
        case _:
            return NOTHING


def _in_its_place(job: Job, data: bytes, added: bytes | None, host: Host) -> FollowUps:
    """Return what runs in the place of a task. Raises: DecodeError, BackendUnavailableError."""
    request = job.request
    signature = Signature.from_dict(job.runner.task_serializer.loads(data))
    passed_on = used_by(request) if RESULTS in request.headers else ()
    if isinstance(signature, stored):
        passed_on = (*passed_on, signature.key)
        signature = replacement(_kept(signature, host), request)
    expansion = expansion_after(request, host)
    # Each attempt at a task has an id of its own for what replaces it.
    expansion.add(signature, (), f"replaced:{request.attempt}")
    grown = None if added is None else _add_parts(job, added, expansion)
    messages = messages_of(expansion, request, host)
    return FollowUps(messages, expansion.chords, [], expansion.pieces, passed_on, grown)


def _add_parts(job: Job, added: bytes, expansion: Expansion) -> Growth:
    """Add what the task has added to its chord."""
    raw = job.runner.task_serializer.loads(added)
    request = job.request
    ids = []
    for index, each in enumerate(map(Addition.from_dict, raw)):
        ids.append(each.task_id)
        if each.is_sent:
            expansion.add(each.signature, (), f"added:{index}.sent")
    return Growth(request.group or "", ids, added_by(request), raw)


def added_by(request: Request) -> str:
    """Return what is kept under it of that which a task has added to its chord."""
    return f"added:{request.id}/{request.attempt}"


def _kept(reference: stored, host: Host) -> Signature[Any]:
    """Return what a reference stands for, called with its arguments.

    Raises: DecodeError: it is no longer kept, or can't be read. BackendUnavailableError.
    """
    signature = host.workflow_store.load(reference)
    if isinstance(signature, stored):
        raise DecodeError(
            f"the rest of this workflow is no longer kept, under the key {reference.key!r}; "
            f"set canvas_expires to more than a workflow can stand still"
        )
    return signature.clone(reference.args) if reference.args else signature


def _errbacks(job: Job, error: ErrorInfo, host: Host) -> FollowUps:
    request = job.request
    messages: list[Message] = []
    chords: list[ChordSize] = []
    pieces: list[Piece] = []
    for edge, call in _readable(job, request.errbacks or (), "errback"):
        expansion = expansion_after(request, host)
        made = errback_messages(call, request, error, edge, expansion, request, host)
        if made:
            messages += made
            chords += expansion.chords
            pieces += expansion.pieces
    return FollowUps(messages, chords, [], pieces)


def errback_messages(
    errback: Signature[Any],
    failed: Request,
    error: ErrorInfo,
    place: str,
    expansion: Expansion,
    parent: Request,
    host: Host,
) -> list[Message]:
    """Return the messages that tell `errback` of what has `failed`; none where it can't be sent.

    Others wait for that failure, too: it isn't held up by one that can't be told.

    Args:
        errback: What to call.
        failed: What has failed.
        error: Why.
        place: Where the errback stands, for ids.
        expansion: An empty one, for what it begins with.
        parent: What it follows from.
        host: The app.
    Raises: OSError: a part of its workflow can't be read now.
    """
    try:
        call, args = errback_call(errback, failed, error, host)
        expansion.add(call, args, place)
        return messages_of(expansion, parent, host)
    except (OSError, MemoryError):
        raise
    except Exception as exc:  # noqa: BLE001 - options of foreign clients may be of any type
        logger.error("%s[%s]: its errback can't be sent: %s", failed.task, failed.id, exc)
        return []


def expansion_after(request: Request, host: Host) -> Expansion:
    """Return an empty expansion for what follows from `request`."""
    return host.workflow_store.expansion(ids_after(request))


def messages_of(expansion: Expansion, parent: Request, host: Host) -> list[Message]:
    """Return the messages of what was expanded, which follows from `parent`.

    Raises: EncodeError, InvalidTaskError, ConfigError: one of them can't be sent.
    """
    try:
        return [host.message_for(call, parent=parent) for call in expansion.calls]
    except (UmbelError, OSError, MemoryError):
        raise
    except Exception as exc:
        # Options of foreign clients may be of any type.
        raise InvalidTaskError(f"what follows from {parent.task!r} can't be sent: {exc}") from exc


def _add_next_step(job: Job, result: Any, expansion: Expansion, host: Host) -> Sequence[str]:
    """Add the next step of the chain; what remains of the chain travels with it.

    Returns: Keys of what was loaded.
    """
    *rest, last = job.request.chain or (None,)
    if last is None:
        return ()
    step = next((call for _, call in _readable(job, (last,), "chain")), None)
    if step is None:
        return ()
    if not isinstance(step, stored):
        expansion.add(step, [result], "chain", rest)
        return ()
    expansion.add(host.workflow_store.load(step), [result], "chain", rest)
    return (step.key,)


def _readable(job: Job, raw: Iterable[Any], edge: str) -> Iterator[tuple[str, Signature[Any]]]:
    """Go through signatures and their places."""
    for index, each in enumerate(raw):
        try:
            yield f"{edge}:{index}", Signature.from_dict(each)
        except DecodeError as exc:
            logger.error("%s: its %s can't be read and isn't sent: %s", job.label, edge, exc)
