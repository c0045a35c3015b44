"""What an outcome adds to chords, and whom it keeps from ever running. Pure but for the encoding.

A part counts once it has succeeded, failed or been revoked; one that is tried again doesn't. What
fails before the last step of a chain fails for the steps after it, too: one of them may be a part
of a chord, or what the caller waits for.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from umbel.canvas.unreached import unreached
from umbel.outcomes import ChordPart, ErrorInfo, Failure, Outcome, Revoked, StoredResult, Success
from umbel.results.codec import JSON, encode_result
from umbel.signatures import Signature
from umbel.states import State
from umbel.worker.follow_ups import revoked_error

if TYPE_CHECKING:
    from umbel.canvas.expansion import ChordSize
    from umbel.interfaces.serializer import Serializer
    from umbel.requests import Request
    from umbel.worker.host import Host
    from umbel.worker.jobs import Job

logger = logging.getLogger("umbel.worker")

#: What a result of a task that never ran ranks below: whatever one says that did run.
_NEVER_RAN = {"retries": -1, "token": 0}


class Joining(NamedTuple):
    """A part of a chord, and what the chord ends with."""

    part: ChordPart
    body: Any


class Beyond(NamedTuple):
    """What an outcome means to more than its own task."""

    #: Whose outcome it is.
    request: Request
    #: That begin with what follows from it.
    chords: Sequence[ChordSize]
    joinings: Sequence[Joining]
    #: The failures of what won't run, since it would have come after it.
    unreached: Sequence[StoredResult]


class Joiner:
    """Finds what outcomes mean to chords and chains, with the settings of one worker process."""

    def __init__(self, host: Host) -> None:
        conf = host.conf
        self._serializer: Serializer = host.serializer(conf.result_serializer)
        self._json: Serializer = host.serializer(JSON)
        self._expires: float | None = conf.result_expires
        self._tasks = host.tasks

    @property
    def ttl_s(self) -> float | None:
        """How long a chord is kept after its last part."""
        return self._expires

    def beyond(
        self, job: Job, outcome: Outcome, chords: Sequence[ChordSize], done_at: float
    ) -> Beyond | None:
        """Return what `outcome`, after which `chords` begin, means to more than its own task."""
        request = job.request
        if request.chord is None and not request.chain and not chords:
            return None
        match outcome:
            case Success(value):
                if request.chord is None:
                    return Beyond(request, chords, (), ()) if chords else None
                own = self._own(job, State.SUCCESS, self._as_json(value))
                return Beyond(request, chords, own, ())
            case Failure(error):
                state = State.FAILURE
            case Revoked(reason):
                state, error = State.REVOKED, revoked_error(reason)
            case _:
                return None
        own = self._own(job, state, self._as_result(error))
        steps = [Signature.from_dict(each) for each in request.chain or ()]
        joinings = own + self.of_unreached(steps, error)
        unreached = self.results_of_unreached(steps, error, done_at)
        return Beyond(request, chords, joinings, unreached)

    def of_unreached(self, steps: Iterable[Signature], error: ErrorInfo) -> list[Joining]:
        """Return the parts of chords among calls that won't run because of `error`."""
        result = self._as_result(error)
        found = []
        for call in unreached_in(steps):
            options = call.options
            task_id, body = options.get("task_id"), options.get("chord")
            if task_id and body is not None and options.get("group_id"):
                part = ChordPart(
                    group_id=options["group_id"],
                    index=options.get("group_index"),
                    task_id=task_id,
                    state=State.FAILURE,
                    result=result,
                    ttl_s=self._expires,
                )
                found.append(Joining(part, body))
        return found

    def results_of_unreached(
        self, steps: Iterable[Signature], error: ErrorInfo, done_at: float
    ) -> list[StoredResult]:
        """Return the failures of calls that won't run because of `error`, for who waits for them."""
        return [
            self._failure(call, error, done_at)
            for call in unreached_in(steps)
            if call.options.get("task_id") and not self._is_ignored(call)
        ]

    def _is_ignored(self, call: Signature) -> bool:
        task, said = self._tasks.resolve(call.task), call.options.get("ignore_result")
        return bool(task is not None and task.ignore_result if said is None else said)

    def _failure(self, call: Signature, error: ErrorInfo, done_at: float) -> StoredResult:
        task_id = call.options["task_id"]
        body = encode_result(
            task_id=task_id,
            state=State.FAILURE,
            error=error,
            date_done=done_at,
            group_id=call.options.get("group_id"),
            serializer=self._serializer,
        )
        return StoredResult(
            task_id=task_id, state=State.FAILURE, body=body, ttl_s=self._expires, **_NEVER_RAN
        )

    def _own(self, job: Job, state: State, result: bytes) -> list[Joining]:
        request = job.request
        if request.chord is None:
            return []
        if request.group is None or request.id is None:
            logger.error(
                "%s: a part of a chord, but no header says of which: not counted", job.label
            )
            return []
        part = ChordPart(
            group_id=request.group,
            index=request.group_index,
            task_id=request.id,
            state=state,
            result=result,
            ttl_s=self._expires,
        )
        return [Joining(part, request.chord)]

    def _as_result(self, error: ErrorInfo) -> bytes:
        fields = {
            "exc_type": error.exc_type,
            "exc_message": error.exc_message,
            "exc_module": error.exc_module,
        }
        return self._json.dumps(fields)

    def _as_json(self, value: bytes) -> bytes:
        if self._serializer.content_type == JSON:
            return value
        return self._json.dumps(self._serializer.loads(value))


def unreached_in(steps: Iterable[Signature]) -> Iterator[Signature]:
    """Go through all calls of `steps`."""
    for step in steps:
        yield from unreached(step)
