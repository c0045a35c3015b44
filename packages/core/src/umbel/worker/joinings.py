"""What an outcome adds to chords, and whom it keeps from ever running. Pure but for the encoding.

A part counts once it has succeeded, failed or been revoked; one that is tried again doesn't. What
fails before the last step of a chain fails for the steps after it, too: one of them may be a part
of a chord, or what the caller waits for.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from umbel.canvas.ends import ENDS, read_end
from umbel.canvas.options import COUNTED
from umbel.canvas.policies import ABORT, policy_of
from umbel.canvas.unreached import unreached
from umbel.messages import Malformed, attempts_before, result_order
from umbel.outcomes import (
    ChordPart,
    ErrorInfo,
    Failure,
    Ignored,
    Outcome,
    Rejected,
    Replaced,
    Revoked,
    StoredResult,
    Success,
)
from umbel.requests import Request
from umbel.results.codec import JSON, encode_result
from umbel.signatures import Signature
from umbel.states import State
from umbel.worker.follow_ups import NOTHING, FollowUps, revoked_error

if TYPE_CHECKING:
    from umbel.interfaces.serializer import Serializer
    from umbel.messages import Message
    from umbel.worker.host import Host
    from umbel.worker.jobs import Job

logger = logging.getLogger("umbel.worker")

#: What a result of a task that never ran ranks below: whatever one says that did run.
_NEVER_RAN = {"retries": -1, "token": 0}


class Joining(NamedTuple):
    """A part of a chord, and what the chord ends with."""

    part: ChordPart
    #: None: its group is no chord.
    body: Any


class Beyond(NamedTuple):
    """What an outcome means to more than its own task."""

    #: Whose outcome it is.
    request: Request
    #: What follows from it.
    following: FollowUps
    joinings: Sequence[Joining]
    #: The failures of what won't run, since it would have come after it.
    unreached: Sequence[StoredResult]


class Joiner:
    """Finds what outcomes mean to chords and chains, with the settings of one worker process."""

    def __init__(self, host: Host) -> None:
        conf = host.conf
        self._serializer: Serializer = host.serializer(conf.result_serializer)
        self._json: Serializer = host.serializer(JSON)
        #: Seconds for which results are kept, and the counts of groups.
        self.expires_s: float | None = conf.result_expires
        self._store = host.workflow_store
        #: Seconds for which a chord is kept after its last part.
        self.ttl_s: float = host.workflow_store.ttl_s
        self._tasks = host.tasks

    def beyond(
        self, job: Job, outcome: Outcome, following: FollowUps, done_at: float
    ) -> Beyond | None:
        """Return what `outcome`, which `following` follows, means to more than its own task."""
        request = job.request
        counts = is_part(request)
        begins = bool(following.chords or following.pieces or following.passed_on)
        begins = begins or following.grown is not None
        if not counts and not request.chain and not begins:
            return None
        match outcome:
            case Success(value):
                if not counts:
                    return Beyond(request, following, (), ()) if begins else None
                own = self._own(job, State.SUCCESS, value)
                return Beyond(request, following, own, ())
            case Failure(error):
                state = State.FAILURE
            case Revoked(reason):
                state, error = State.REVOKED, revoked_error(reason)
            case Rejected(reason, requeue, error=found) if not requeue:
                state, error = State.FAILURE, found or _without_a_result("Reject", reason)
            case Ignored(reason, goes_on, error=found) if not goes_on:
                state, error = State.FAILURE, found or _without_a_result("Ignore", reason)
            case Replaced():
                return Beyond(request, following, (), ()) if begins else None
            case _:
                return None
        own = self._own(job, state, error)
        steps = [Signature.from_dict(each) for each in request.chain or ()]
        joinings, unreached = self.of_unreached(steps, error, done_at)
        return Beyond(request, following, own + joinings, unreached)

    def beyond_unreadable(
        self, message: Message | Malformed, outcome: Outcome, done_at: float
    ) -> Beyond | None:
        """Return what the end of a message, whose headers alone can be read, means to others.

        To its group, and to who waits for the end of its chain.
        """
        error = getattr(outcome, "error", None)
        if isinstance(message, Malformed) or not isinstance(message.headers, Mapping):
            return None
        headers = message.headers
        if error is None:
            return None
        group_id, index, root_id = (headers.get(k) for k in ("group", "group_index", "root_id"))
        joinings, unreached = [], []
        if isinstance(group_id, str):
            place = (group_id, index if isinstance(index, int) else None, message.id)
            is_counted = COUNTED in headers
            joinings.append(self._unreadable_part(place, error, is_counted=is_counted))
        end = read_end(headers.get(ENDS))
        if end is not None:
            unreached.append(self._failure(end.task_id, end.group_id, {}, error, done_at))
            if end.group_id is not None:
                place = (end.group_id, end.group_index, end.task_id)
                joinings.append(self._unreadable_part(place, error, is_counted=end.is_counted))
        if not joinings and not unreached:
            return None
        request = Request(
            id=message.id,
            task=message.task,
            root_id=root_id if isinstance(root_id, str) else None,
            called_directly=False,
        )
        return Beyond(request, NOTHING, joinings, unreached)

    def _unreadable_part(
        self, place: tuple[str, int | None, str], error: ErrorInfo, *, is_counted: bool
    ) -> Joining:
        """Return a part of a chord of which no more is known: what it ends with, `with_body` is told."""
        part = self._joining(place, None, State.FAILURE, error).part
        if not is_counted:
            part = msgspec.structs.replace(part, result=self._encoded(error), ttl_s=self.ttl_s)
        return Joining(part, None)

    def with_body(self, joining: Joining, body: Any) -> Joining:
        """Return what `beyond_unreadable` did, of a chord that ends with `body`.

        Raises: DecodeError: it can't be read.
        """
        part = msgspec.structs.replace(joining.part, aborts=self._aborts(body))
        return Joining(part, body)

    def of_unreached(
        self, steps: Iterable[Signature[Any]], error: ErrorInfo, done_at: float
    ) -> tuple[list[Joining], list[StoredResult]]:
        """Return what calls mean to chords that won't run because of `error`, and their failures.

        Raises: DecodeError: a step can't be read. BackendUnavailableError: nor loaded now.
        """
        joinings, results = [], []
        for step in steps:
            for call in unreached(step, self._store.load):
                options = call.options
                task_id, body = options.get("task_id"), options.get("chord")
                if not task_id:
                    continue
                if not self._is_ignored(call):
                    group_id, headers = options.get("group_id"), options.get("headers")
                    results.append(self._failure(task_id, group_id, headers, error, done_at))
                counts = body is not None or options.get(COUNTED)
                if counts and options.get("group_id"):
                    place = (options["group_id"], options.get("group_index"), task_id)
                    joinings.append(self._joining(place, body, State.FAILURE, error))
        return joinings, results

    def _is_ignored(self, call: Signature[Any]) -> bool:
        task, said = self._tasks.resolve(call.task), call.options.get("ignore_result")
        return bool(task is not None and task.ignore_result if said is None else said)

    def _failure(
        self, task_id: str, group_id: str | None, headers: Any, error: ErrorInfo, done_at: float
    ) -> StoredResult:
        """Return the failure of a call that was sent, or would have been, with `headers`."""
        body = encode_result(
            task_id=task_id,
            state=State.FAILURE,
            error=error,
            date_done=done_at,
            group_id=group_id,
            serializer=self._serializer,
        )
        order = _NEVER_RAN
        if isinstance(headers, Mapping) and attempts_before(headers):
            # In the place of a task that did run, and may have said that it is tried again.
            order = {"retries": result_order(headers, attempts_before(headers)), "token": 0}
        return StoredResult(
            task_id=task_id, state=State.FAILURE, body=body, ttl_s=self.expires_s, **order
        )

    def _own(self, job: Job, state: State, outcome: bytes | ErrorInfo) -> list[Joining]:
        request = job.request
        if not is_part(request):
            return []
        if request.group is None or request.id is None:
            logger.error(
                "%s: a part of a chord, but no header says of which: not counted", job.label
            )
            return []
        place = (request.group, request.group_index, request.id)
        return [self._joining(place, request.chord, state, outcome)]

    def _joining(
        self,
        place: tuple[str, int | None, str],
        body: Any,
        state: State,
        outcome: bytes | ErrorInfo,
    ) -> Joining:
        """Return a part of a chord, or of a group that has no body.

        Args:
            place: Id of the group, index there, id of the task.
            body: As it travels.
            state: How the task ended.
            outcome: Its value, as `result_serializer` writes it, or its error.
        """
        group_id, index, task_id = place
        aborts = isinstance(outcome, ErrorInfo) and body is not None and self._aborts(body)
        result = None
        if body is not None:
            result = self._encoded(outcome)
        part = ChordPart(
            group_id=group_id,
            index=index,
            task_id=task_id,
            state=state,
            result=result,
            ttl_s=self.expires_s if body is None else self.ttl_s,
            aborts=aborts,
        )
        return Joining(part, body)

    def _aborts(self, body: Any) -> bool:
        return policy_of(Signature.from_dict(body)) == ABORT

    def _encoded(self, outcome: bytes | ErrorInfo) -> bytes:
        """Return a value, or an error in Celery's form, as JSON."""
        if isinstance(outcome, ErrorInfo):
            fields = {
                "exc_type": outcome.exc_type,
                "exc_message": outcome.exc_message,
                "exc_module": outcome.exc_module,
            }
            return self._json.dumps(fields)
        if self._serializer.content_type == JSON:
            return outcome
        return self._json.dumps(self._serializer.loads(outcome))


def is_part(request: Request) -> bool:
    """Tell whether its end counts for a chord, or for a group."""
    return request.chord is not None or COUNTED in request.headers


def _without_a_result(signal: str, reason: str) -> ErrorInfo:
    """Return the error of a task that ended by a signal, for who waits for its result."""
    return ErrorInfo(signal, "celery.exceptions", [reason], None, f"{signal}({reason!r})")
