"""What is sent, run here and now with all that follows from it, by the code that a worker runs.

Decoding, admission of arguments, execution and the plan of what follows are the worker's own;
only the broker is missing: what would be sent next runs right after.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, ClassVar, Final, cast

import msgspec

from umbel.canvas.expansion import Expansion
from umbel.ids import hostname
from umbel.interfaces.backend import BackendCapability
from umbel.outcomes import Failure, Ignored, Rejected, Revoked, Success
from umbel.requests import current_children, current_request
from umbel.results.async_result import AsyncResult, EagerResult
from umbel.results.codec import decode_result
from umbel.states import State
from umbel.worker.chords import Chords
from umbel.worker.decode import Decoder
from umbel.worker.eager import EagerRun, run_one
from umbel.worker.eager_chords import EagerChords
from umbel.worker.jobs import Settlement
from umbel.worker.planning import Planner
from umbel.workflow_store import WorkflowStore

if TYPE_CHECKING:
    from umbel.canvas.freezing import ResultTuple
    from umbel.interfaces.backend import Backend
    from umbel.interfaces.coordinator import Coordinator
    from umbel.interfaces.serializer import Serializer
    from umbel.messages import Message
    from umbel.outcomes import Outcome, StoredResult
    from umbel.results.source import ResultSource
    from umbel.worker.host import Host

#: Whose task runs in this context.
_running: ContextVar[EagerWorkflow | None] = ContextVar("umbel_eager_workflow", default=None)
#: All others are followed by another run of the same id.
_FINAL: Final = (Success, Failure, Rejected, Revoked, Ignored)
_STATES: Final = {Success: State.SUCCESS, Failure: State.FAILURE, Revoked: State.REVOKED}


class EagerWorkflow:
    """All that is run here because of one call, and what came of it.

    Args:
        host: The app.
        source: How to read the results of what is sent meanwhile, and not run here.
        backend: Returns where results are kept, of the tasks that say so
            (``store_eager_result``); None: nowhere.
    """

    def __init__(
        self, host: Host, source: ResultSource, backend: Callable[[], Backend | None]
    ) -> None:
        self._host = cast("Host", _EagerHost(host))
        self._source, self._backend = source, backend
        self._serializer: Serializer = host.serializer(host.conf.result_serializer)
        self._decoder = Decoder(self._host, hostname(), has_supervisor=False)
        self._planner = Planner(self._host, hostname())
        self._counter = EagerChords()
        self._never_ran = _Failures(backend if host.conf.task_store_eager_result else lambda: None)
        self._chords = Chords(self._host, cast("Backend", self._never_ran), counter=self._counter)
        #: The final runs by id, and the errors that kept others from running.
        self._runs: dict[str, _Settled] = {}
        self._causes: dict[str, BaseException] = {}
        self._results: dict[str, AsyncResult[Any]] = {}
        #: By the ids of what the tasks of this one sent, and that ran here.
        self._below: dict[str, EagerWorkflow] = {}

    def expansion(self) -> Expansion:
        """Return an empty one, for what is to be run."""
        return self._host.workflow_store.expansion(lambda _place: self._host.new_id())

    def begin(self, expansion: Expansion) -> None:
        """Take in what the messages of `expansion` refer to; before they run."""
        if expansion.pieces:
            self._host.workflow_store.keep(expansion.pieces)
        self._host.workflow_store.open_chords(self._counter, expansion.chords, expires_s=None)

    def run(self, messages: Sequence[Message]) -> None:
        """Run `messages`, their retries and all that follows from them, in this thread.

        Raises: UnknownTaskError, InvalidTaskError: one of them can't be run.
        """
        waiting = deque(messages)
        while waiting:
            token = _running.set(self)
            try:
                run = run_one(self._host, self._decoder, waiting.popleft())
            finally:
                _running.reset(token)
            following = self._settle(run)
            if isinstance(run.outcome, _FINAL):
                waiting.extend(following)
            else:
                waiting.extendleft(reversed(following))

    def add_to_parent(self, begun: Sequence[ResultTuple]) -> None:
        """Put what began this into the children of the task that runs here, and sent it.

        Not into those of a task that a worker runs: what is run here isn't stored, so that who
        goes through its children would wait for ever.
        """
        above, children = _running.get(), current_children()
        if above is None or children is None:
            return
        sender = self._host.tasks.resolve(current_request().task or "")
        if sender is None or sender.trail:
            children += begun
            above._below.update(  # noqa: SLF001 - of this class
                dict.fromkeys([*self._runs, *self._never_ran.results], self)
            )

    def result(self, task_id: str) -> AsyncResult[Any]:
        """Return what came of a task; PENDING where it was never come to."""
        found = self._results.get(task_id)
        if found is None:
            found = self._results[task_id] = self._made(task_id)
        return found

    # -- below --------------------------------------------------------------------------------

    def _settle(self, run: EagerRun) -> Sequence[Message]:
        """Do what a worker does with an outcome; return what is to run next."""
        job, outcome = run.job, run.outcome
        plan = self._planner.plan(Settlement(job.delivery, outcome, job, run.done_at))
        if plan.result is not None and job.runner.task.store_eager_result:
            backend = self._backend()
            if backend is not None:
                backend.store([plan.result])
        if isinstance(outcome, _FINAL) and job.request.id is not None:
            body = None if plan.result is None else plan.result.body
            self._runs[job.request.id] = _Settled(run, body)
        following = list(plan.follow_ups)
        if plan.beyond is not None:
            if isinstance(outcome, Failure) and isinstance(run.value, BaseException):
                ids = [each.task_id for each in plan.beyond.unreached]
                self._causes.update(dict.fromkeys(ids, run.value))
            self._chords.close(self._chords.settle([plan.beyond], following))
        return following

    def _made(self, task_id: str) -> AsyncResult[Any]:
        settled = self._runs.get(task_id)
        if settled is not None:
            return self._of_run(task_id, settled)
        stored = self._never_ran.results.get(task_id)
        if stored is None:
            return EagerResult(task_id, None, State.PENDING, source=self._source)
        document = decode_result(stored.body, self._serializer)
        cause = self._causes.get(task_id)
        return EagerResult(
            task_id,
            self._source.exception(document) if cause is None else cause,
            stored.state,
            document.traceback,
            date_done=document.date_done,
            source=self._source,
        )

    def _of_run(self, task_id: str, settled: _Settled) -> EagerResult[Any]:
        run, outcome = settled.run, settled.run.outcome
        request = run.job.request
        error = getattr(outcome, "error", None)
        return EagerResult(
            task_id,
            run.value,
            _STATES.get(type(outcome), State.IGNORED),
            error.traceback if error is not None else None,
            name=request.task,
            args=tuple(request.args),
            kwargs=request.kwargs,
            retries=request.retries,
            children=self._children(outcome, settled.body),
            date_done=run.done_at,
            source=self._source,
            make=self._child,
        )

    def _children(self, outcome: Outcome, body: bytes | None) -> list[Any] | None:
        """Return result tuples of what the task sent, and of what followed it."""
        if body is None:
            return getattr(outcome, "children", None)
        return decode_result(body, self._serializer).children

    def _child(self, task_id: str) -> AsyncResult[Any]:
        """Return the result of what was sent meanwhile: here, or to a worker."""
        if task_id in self._runs or task_id in self._never_ran.results:
            return self.result(task_id)
        if (below := self._below.get(task_id)) is not None:
            return below.result(task_id)
        return AsyncResult(task_id, self._source)


class _Settled(msgspec.Struct, frozen=True):
    run: EagerRun
    #: As it would be stored; None: it wouldn't.
    body: bytes | None


class _EagerHost:
    """An app whose workflows keep what is too much for a message in this process."""

    def __init__(self, host: Host) -> None:
        self._host = host
        pieces = cast("Coordinator", _Pieces())
        self.workflow_store = WorkflowStore(host.conf, lambda: pieces, host.serializer)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._host, name)


class _Pieces:
    """The part of a coordinator that a workflow store needs; lasts as long as the run."""

    def __init__(self) -> None:
        self._values: dict[str, bytes] = {}

    def put(self, key: str, value: bytes, *, ttl_s: float | None) -> None:
        """Keep `value`."""
        self._values[key] = value

    def get(self, keys: Sequence[str]) -> Mapping[str, bytes]:
        """Return what is kept."""
        return {key: self._values[key] for key in keys if key in self._values}


class _Failures:
    """The part of a backend that chords need: keeps the failures of what never ran."""

    capabilities: ClassVar[frozenset[BackendCapability]] = frozenset()

    def __init__(self, backend: Callable[[], Backend | None]) -> None:
        self._backend = backend
        self.results: dict[str, StoredResult] = {}

    def store(self, results: Sequence[StoredResult]) -> None:
        """Keep `results`."""
        self.results.update({each.task_id: each for each in results})
        backend = self._backend()
        if backend is not None:
            backend.store(results)
