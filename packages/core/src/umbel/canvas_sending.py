"""The part of an app that sends signatures: calls, and chains, groups and chords of them."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, cast

from umbel.canvas.expansion import Expansion
from umbel.canvas.forms import kind_of
from umbel.canvas.freezing import Freezer
from umbel.canvas.iterations import chunks
from umbel.canvas.options import COUNTED
from umbel.errors import BackendError
from umbel.interfaces.backend import BackendCapability
from umbel.requests import current_children, current_request
from umbel.results.async_result import AsyncResult
from umbel.results.converted import ConvertedResult
from umbel.results.tuples import result_from_tuple
from umbel.sender import Call
from umbel.signatures import Signature
from umbel.workflow_options import check_options
from umbel.workflow_store import WorkflowStore

if TYPE_CHECKING:
    from umbel.ids import IdFactory
    from umbel.interfaces.backend import Backend
    from umbel.interfaces.broker import Broker
    from umbel.interfaces.coordinator import Coordinator
    from umbel.interfaces.serializer import Serializer
    from umbel.publishing.publisher import Publisher
    from umbel.registry import TaskRegistry
    from umbel.results.async_result import EagerResult
    from umbel.results.source import ResultSource
    from umbel.settings import Settings
    from umbel.worker.eager_workflows import EagerWorkflow
    from umbel.worker.host import Host

logger = logging.getLogger("umbel.workflows")

#: Messages that go to the broker together.
_FIRST_BATCH, _BATCH = 100, 500


class CanvasSending:
    """What `umbel.app.Umbel` sends signatures with. Not for use by itself."""

    conf: Settings
    new_id: IdFactory
    registry: TaskRegistry
    _workflow_store: WorkflowStore | None = None

    if TYPE_CHECKING:

        @property
        def tasks(self) -> TaskRegistry:
            """The tasks by name."""

        @property
        def backend(self) -> Backend | None:
            """This process's handle of the result backend."""

        @property
        def broker(self) -> Broker:
            """This process's handle of the broker."""

        @property
        def coordinator(self) -> Coordinator | None:
            """This process's handle of the coordinator."""

        @property
        def results(self) -> ResultSource:
            """How results are read."""

        def serializer(self, name_or_content_type: str) -> Serializer:
            """Return a serializer."""

        def send_call(self, call: Call) -> AsyncResult[Any]:
            """Send one call."""

        def run_locally(
            self, call: Call, *, throw: bool | None, is_sent: bool = False
        ) -> EagerResult[Any]:
            """Run one call in this thread."""

        @property
        def publisher(self) -> Publisher:
            """What sends."""

        def _call_of(self, given: Any) -> Call:
            """Return the call of a signature, its arguments checked."""

    def apply_signature(
        self,
        signature: Signature[Any],
        args: Sequence[Any],
        kwargs: Mapping[str, Any],
        options: Mapping[str, Any],
    ) -> Any:
        """Send what `signature` begins with; return its result.

        Args:
            signature: What to send.
            args: Go before its own arguments.
            kwargs: Merged into its own.
            options: Over its own.
        Raises: as `umbel.Task.apply_async`; BackendError: a chord, and its parts can't be counted.
        """
        if self.conf.task_always_eager:
            return self.run_signature_locally(
                signature, args, kwargs, options, throw=None, is_sent=True
            )
        wanted = signature.clone(args, kwargs, **options)
        check_options(wanted)
        if kind_of(wanted) is None:
            return self.send_call(self._call_of(wanted))
        fresh: set[str] = set()
        expansion = self._expansion(fresh)
        expansion.add(wanted, (), "")
        signatures = list(self._opened(expansion))
        self._publish(signatures, [self._checked(each, fresh) for each in signatures])
        (result,) = expansion.results
        children = current_children()
        if children is not None and wanted.options.get("add_to_parent", True):
            parent = self.tasks.resolve(current_request().task or "")
            if parent is None or parent.trail:
                children += expansion.begun
        return result_from_tuple(result, self.results, make=self._maker(expansion))

    def freeze_signature(self, signature: Signature[Any]) -> tuple[Signature[Any], Any]:
        """Return `signature` with an id wherever it has none, and the result it will have."""
        celery = self.conf.canvas_semantics == "celery"
        frozen, result = Freezer(lambda _place: self.new_id(), celery=celery).freeze(signature, "")
        return frozen, result_from_tuple(result, self.results)

    def run_signature_locally(
        self,
        signature: Signature[Any],
        args: Sequence[Any],
        kwargs: Mapping[str, Any],
        options: Mapping[str, Any],
        *,
        throw: bool | None,
        is_sent: bool = False,
    ) -> Any:
        """Run `signature`, and all that follows from it, in this thread; return its result.

        Args:
            signature: What to run.
            args: Go before its own arguments.
            kwargs: Merged into its own.
            options: Over its own.
            throw: Raise its error, of a group that of the first member that failed; None: as
                ``task_eager_propagates`` says.
            is_sent: It is among the children of a task that runs here, as what is sent is.
        """
        wanted = signature.clone(args, kwargs, **options)
        check_options(wanted)
        if isinstance(wanted, chunks):
            wanted = wanted.group()
        if kind_of(wanted) is None:
            return self.run_locally(self._call_of(wanted), throw=throw, is_sent=is_sent)
        run = self._eager_workflow()
        expansion = run.expansion()
        expansion.add(wanted, (), "")
        request = current_request()
        parent = None if request.called_directly else request
        calls = [self._call_of(each) for each in expansion.calls]
        run.begin(expansion)
        run.run([self.publisher.compose(call, parent) for call in calls])
        if is_sent and wanted.options.get("add_to_parent", True):
            run.add_to_parent(expansion.begun)
        result: Any = result_from_tuple(expansion.results[0], self.results, make=run.result)
        if self.conf.task_eager_propagates if throw is None else throw:
            result.get(disable_sync_subtasks=False)
        return result

    def _eager_workflow(self) -> EagerWorkflow:
        """Return what runs calls in this thread."""
        # Only eager callers pay for it.
        from umbel.worker.eager_workflows import EagerWorkflow  # noqa: PLC0415

        return EagerWorkflow(cast("Host", self), self.results, lambda: self.backend)

    @property
    def workflow_store(self) -> WorkflowStore:
        """Where the pieces of workflows are kept that are too much to travel in a message."""
        store = self._workflow_store
        if store is None:
            store = self._workflow_store = WorkflowStore(
                self.conf, lambda: self.coordinator, self.serializer
            )
        return store

    def _expansion(self, fresh: set[str]) -> Expansion:
        """Return an empty one; the ids that it makes are added to `fresh`."""

        def made(_place: str) -> str:
            new = self.new_id()
            fresh.add(new)
            return new

        return self.workflow_store.expansion(made)

    def _opened(self, expansion: Expansion) -> Iterator[Signature[Any]]:
        """Have all parts of chords counted that will come; return the calls to be sent."""
        backend = self.backend
        if backend is None or BackendCapability.CHORD not in backend.capabilities:
            if any(each.body is not None for each in expansion.chords):
                raise BackendError(_why_not(backend))
            expansion.chords.clear()
        if expansion.pieces:
            self.workflow_store.keep(expansion.pieces)
        if expansion.chords:
            expires_s = self.conf.result_expires
            self.workflow_store.open_chords(backend, expansion.chords, expires_s=expires_s)  # type: ignore[arg-type]
        are_counted = bool(expansion.chords)
        for call in expansion.calls:
            if not are_counted and call.options.get(COUNTED):
                yield call.set(**{COUNTED: None})
            else:
                yield call

    def _checked(self, signature: Signature[Any], fresh: set[str]) -> Call:
        """Return a call of a workflow; its id is known to be new if it is `fresh`."""
        call = self._call_of(signature)
        options = {**call.options, "add_to_parent": False}
        made = options["task_id"] if options.get("task_id") in fresh else None
        if made is not None:
            del options["task_id"]
        return Call(call.name, call.args, call.kwargs, options, call.task, made)

    def _publish(self, signatures: Sequence[Signature[Any]], calls: Sequence[Call]) -> None:
        """Hand `calls` to the broker, a few of them first: workers begin while the rest is made.

        Where some are sent and others can't be, these fail: what waits for them ends.

        Args:
            signatures: What `calls` are made of.
            calls: What to send.
        """
        sent, batch = 0, _FIRST_BATCH
        try:
            while sent < len(calls):
                taken = calls[sent : sent + batch]
                for _ in self.publisher.publish_many(taken, batch=batch):
                    sent += 1
                batch = _BATCH
        except Exception as exc:
            if sent:
                exc.add_note(f"{sent} calls before these were sent")
                self._give_up(signatures[sent:], exc)
            raise

    def _give_up(self, signatures: Sequence[Signature[Any]], exc: Exception) -> None:
        """Let calls fail that couldn't be sent because of `exc`. Raises nothing."""
        backend = self.backend
        if backend is None:
            return
        # Only callers who fail pay for it.
        from umbel.worker.unsent import fail_unsent  # noqa: PLC0415

        try:
            fail_unsent(cast("Host", self), backend, self.broker, signatures, exc)
        except Exception as also:  # noqa: BLE001 - the first one is what the caller is told
            logger.error(
                "%d calls weren't sent, and nobody can be told so: %s", len(signatures), also
            )

    def _maker(self, expansion: Expansion) -> Callable[[str], AsyncResult[Any]]:
        """Return what makes results by their ids, typed as the tasks are annotated."""
        tasks = self.tasks.values()
        loads = {task.name: task.load_result for task in tasks if task.load_result is not None}
        ignoring = {task.name for task in tasks if task.ignore_result}
        is_plain = not loads and not ignoring and not any(map(_may_ignore, expansion.calls))
        known = {} if is_plain else dict(_by_id(expansion.calls))
        source = self.results

        def make(task_id: str) -> AsyncResult[Any]:
            call = known.get(task_id)
            if call is None:
                return AsyncResult(task_id, source)
            name, said = call.task, call.options.get("ignore_result")
            ignored = name in ignoring if said is None else bool(said)
            if name in loads:
                return ConvertedResult(task_id, source, loads[name], name=name, ignored=ignored)
            return AsyncResult(task_id, source, name=name, ignored=ignored)

        return make


def _may_ignore(call: Signature[Any]) -> bool:
    """Tell whether the result of `call`, or of what comes after it, may not be kept."""
    options = call.options
    after = (*(options.get("chain") or ()), options.get("chord"))
    return bool(options.get("ignore_result")) or any(map(_is_said_to_ignore, after))


def _is_said_to_ignore(raw: Any) -> bool:
    options = raw.options if isinstance(raw, Signature) else (raw or {}).get("options")
    return bool(options and options.get("ignore_result"))


def _by_id(calls: Iterable[Signature[Any]]) -> Iterator[tuple[str, Signature[Any]]]:
    """Yield `calls` by their ids, and what comes after them."""
    waiting = list(calls)
    seen: set[str] = set()
    while waiting:
        call = waiting.pop()
        task_id, options = call.options.get("task_id"), call.options
        if task_id is None or task_id in seen:
            continue
        seen.add(task_id)
        yield task_id, call
        after = [*(options.get("chain") or ())]
        if options.get("chord") is not None:
            after.append(options["chord"])
        waiting += [each for raw in after for each in _calls_in(Signature.from_dict(raw))]


def _calls_in(signature: Signature[Any]) -> list[Signature[Any]]:
    members: Any = signature.kwargs.get("tasks") if kind_of(signature) else None
    if members is not None:
        return [call for each in members for call in _calls_in(each)]
    body = signature.kwargs.get("body") if kind_of(signature) else None
    return [signature] if body is None else _calls_in(body)


def _why_not(backend: Backend | None) -> str:
    if backend is None:
        return "chords need a result backend that counts their parts; set result_backend"
    return (
        f"chords need a result backend that counts their parts: {type(backend).__name__} has no "
        f"capability 'chord'; use another one"
    )
