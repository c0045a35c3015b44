"""The half of an app that sends calls and reads results."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any, Unpack, cast

from umbel.canvas.forms import kind_of
from umbel.canvas_sending import CanvasSending
from umbel.errors import InvalidTaskError
from umbel.off_loop import in_thread
from umbel.options import SEND_OPTIONS, SendOptions
from umbel.outcomes import StoredResult
from umbel.publishing.publisher import Publisher, PublishListeners
from umbel.requests import current_request
from umbel.results.async_result import AsyncResult as Result
from umbel.results.codec import encode_result, result_too_large
from umbel.results.converted import ConvertedResult
from umbel.results.source import ResultSource
from umbel.sender import Call
from umbel.signatures import Signature

if TYPE_CHECKING:
    from umbel.clock import Clock
    from umbel.control import Control
    from umbel.dead_letters import DeadLetters
    from umbel.events import Events
    from umbel.handles import Handles
    from umbel.ids import IdFactory
    from umbel.interfaces.backend import Backend
    from umbel.interfaces.broker import Broker
    from umbel.interfaces.coordinator import Coordinator
    from umbel.interfaces.pool import PoolSpec
    from umbel.interfaces.serializer import Serializer
    from umbel.messages import Message
    from umbel.queues import DelayedMessages, Queues
    from umbel.registry import TaskRegistry
    from umbel.requests import Request
    from umbel.results.async_result import EagerResult
    from umbel.settings import Settings
    from umbel.tasks.task import Task

#: A call for `send_many`: a signature, or (task or name, args, kwargs, options), all but the
#: first optional.
Sendable = Signature[Any] | tuple[Any, ...]


class SendingApp(CanvasSending):
    """What `umbel.app.Umbel` sends with. Not for use by itself."""

    main: str
    conf: Settings
    clock: Clock
    new_id: IdFactory
    registry: TaskRegistry
    _handles: Handles
    _publish_listeners: PublishListeners
    _publisher: Publisher | None = None
    _results: ResultSource | None = None

    if TYPE_CHECKING:

        @property
        def events(self) -> Events:
            """Who listens to what."""

        @property
        def tasks(self) -> TaskRegistry:
            """The tasks by name."""

        def serializer(self, name_or_content_type: str) -> Serializer:
            """Return a serializer."""

        def pool(self, name: str) -> PoolSpec:
            """Return what is offered as a pool."""

        def import_tasks(self) -> None:
            """Import all modules with tasks."""

    # -- sending --------------------------------------------------------------------------------

    def send_task(
        self,
        name: str,
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
        **options: Unpack[SendOptions],
    ) -> Result[Any]:
        """Send the task of that name, which needn't be known here.

        Arguments aren't checked. A task that is registered here sends with its own options.

        Raises: as `Task.apply_async`.
        """
        return self.send_call(Call(name, args, kwargs or {}, options, self.tasks.resolve(name)))

    def send(self, signature: Signature[Any], **options: Unpack[SendOptions]) -> Result[Any]:
        """Send `signature`, with `options` over its own. Raises: as `Signature.apply_async`."""
        result: Result[Any] = self.apply_signature(signature, (), {}, options)
        return result

    def send_many(self, calls: Iterable[Sendable], *, batch: int = 1000) -> list[Result[Any]]:
        """Send many calls, `batch` of them in one go to the broker.

        Args:
            calls: Signatures of tasks, or tuples (task or its name, args, kwargs, options). May be a
                generator: no more than a batch of it is held as messages at once.
            batch: How many go to the broker at a time.
        Returns: A result for each call, in order.
        Raises: as `Task.apply_async`; batches before the one that failed have been sent, and
            a note on the error tells how many calls that is.
        """
        return self.send_calls((self._call_of(call) for call in calls), batch=batch)

    async def asend_task(
        self,
        name: str,
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
        **options: Unpack[SendOptions],
    ) -> Result[Any]:
        """Send as `send_task` does, without blocking the event loop."""
        return await in_thread(self.send_task, name, args, kwargs, **options)

    async def asend(self, signature: Signature[Any], **options: Unpack[SendOptions]) -> Result[Any]:
        """Send as `send` does, without blocking the event loop."""
        return await in_thread(self.send, signature, **options)

    async def asend_many(
        self, calls: Iterable[Sendable], *, batch: int = 1000
    ) -> list[Result[Any]]:
        """Send as `send_many` does, without blocking the event loop."""
        return await in_thread(self.send_many, calls, batch=batch)

    def send_call(self, call: Call) -> Result[Any]:
        """Send one call; return once the broker has it."""
        if self.conf.task_always_eager:
            return self.run_locally(call, throw=None, is_sent=True)
        return self._result_of(self.publisher.publish(call), call.task)

    def send_calls(self, calls: Iterable[Call], *, batch: int) -> list[Result[Any]]:
        """Send `calls`, `batch` of them in one go to the broker."""
        if batch < 1:
            raise InvalidTaskError(f"batch must be 1 or more, not {batch!r}")
        if self.conf.task_always_eager:
            return [self.run_locally(call, throw=None, is_sent=True) for call in calls]
        results: list[Result[Any]] = []
        try:
            for message, task in self.publisher.publish_many(calls, batch=batch):
                results.append(self._result_of(message, task))
        except Exception as exc:
            if results:
                exc.add_note(f"{len(results)} calls before these were sent")
            raise
        return results

    def message_for(self, signature: Signature[Any], *, parent: Request | None = None) -> Message:
        """Build the message of a call: routed, its arguments encoded, nothing sent.

        Args:
            signature: What to call. Options that a foreign client gave it and that mean nothing
                here are passed over.
            parent: The request that it follows from.
        Raises: EncodeError, InvalidTaskError, ConfigError.
        """
        stamps = signature.options.get("stamped_headers") or ()
        options = {
            key: value
            for key, value in signature.options.items()
            if key in SEND_OPTIONS or key in stamps
        }
        name = signature.task
        kwargs = dict(signature.kwargs)  # a plain one is faster to encode
        call = Call(name, signature.args, kwargs, options, self.registry.resolve(name))
        return self.publisher.compose(call, parent)

    @property
    def publisher(self) -> Publisher:
        """What sends; made at the first send."""
        publisher = self._publisher
        if publisher is None:
            publisher = self._publisher = Publisher(
                conf=self.conf,
                events=self.events,
                listeners=self._publish_listeners,
                tasks=self.tasks,
                serializer=self.serializer,
                broker=lambda: self._handles.broker,
                clock=self.clock,
                new_id=self.new_id,
            )
        return publisher

    def _call_of(self, given: Sendable) -> Call:
        """Return the call that a signature or tuple stands for, its arguments checked."""
        if isinstance(given, Signature):
            if kind_of(given) is not None:
                raise InvalidTaskError(f"{given!r:.80} is sent by its apply_async, not with others")
            what: Any = given.task
            args, kwargs, options = given.args, dict(given.kwargs), given.options
        else:
            if not 1 <= len(given) <= 4:
                raise InvalidTaskError(
                    f"a call is (task, args, kwargs, options), not a tuple of {len(given)}"
                )
            what, args, kwargs, options = [*given, None, None, None][:4]
        task: Task[..., Any] | None = self.tasks.resolve(what) if isinstance(what, str) else what
        if task is None:
            return Call(what, args or (), kwargs or {}, options or {})
        return task.call(args, kwargs, options or {})

    # -- running here ---------------------------------------------------------------------------

    def run_locally(
        self, call: Call, *, throw: bool | None, is_sent: bool = False
    ) -> EagerResult[Any]:
        """Run one call in this thread, by the code that a worker runs.

        Args:
            call: What to run.
            throw: Raise the task's exception; None: as ``task_eager_propagates`` says.
            is_sent: It is among the children of a task that runs here, as what is sent is.
        """
        request = current_request()
        message = self.publisher.compose(call, None if request.called_directly else request)
        run = self._eager_workflow()
        run.run([message])
        if is_sent and call.options.get("add_to_parent", True):
            run.add_to_parent([[[message.id, None], None]])
        result: EagerResult[Any] = cast("EagerResult[Any]", run.result(message.id))
        if self.conf.task_eager_propagates if throw is None else throw:
            result.get(disable_sync_subtasks=False)
        return result

    # -- results --------------------------------------------------------------------------------

    def AsyncResult(self, task_id: str, task_name: str | None = None) -> Result[Any]:  # noqa: N802 - Celery's name
        """Return the result of the task with that id, there already or still to come."""
        task = self.tasks.resolve(task_name) if task_name is not None else None
        if task is not None and task.load_result is not None:
            return ConvertedResult(task_id, self.results, task.load_result, name=task_name)
        return Result(task_id, self.results, name=task_name)

    @property
    def results(self) -> ResultSource:
        """How results of this app are read."""
        source = self._results
        if source is None:
            source = self._results = ResultSource(
                backend=lambda: self.backend,
                serializer=lambda: self.serializer(self.conf.result_serializer),
                revoke=self._revoke,
                allowed=self.conf.result_allowed_exceptions or (),
                clock=self.clock,
                group_ttl_s=self.conf.result_expires,
            )
        return source

    def store_state(self, request: Request, task_id: str, state: str, meta: Any) -> None:
        """Store a state of a task's own, such as PROGRESS; nothing where results are disabled.

        Args:
            request: The run that says so; a later run of the task isn't overwritten.
            task_id: The task's id.
            state: Any word.
            meta: What the result's ``info`` shows.
        Raises: EncodeError: `meta` can't be encoded, or is too large.
        """
        backend = self.backend
        if backend is None:
            return
        body = encode_result(
            task_id=task_id,
            state=state,
            meta=meta,
            parent_id=request.parent_id,
            group_id=request.group,
            serializer=self.serializer(self.conf.result_serializer),
        )
        if len(body) > self.conf.result_max_bytes:
            raise result_too_large(request.task or "", len(body), self.conf.result_max_bytes)
        result = StoredResult(
            task_id=task_id,
            state=state,
            body=body,
            token=request.token,
            retries=request.result_order,
            ttl_s=self.conf.result_expires,
        )
        backend.store([result])

    def is_revoked(self, task_id: str) -> bool:
        """Tell whether the task was revoked; no where there is no coordinator."""
        return self.control.is_revoked(task_id)

    def _result_of(self, message: Message, task: Task[..., Any] | None) -> Result[Any]:
        ignored = bool(message.headers.get("ignore_result"))
        if task is not None and task.load_result is not None:
            return ConvertedResult(
                message.id, self.results, task.load_result, name=message.task, ignored=ignored
            )
        return Result(message.id, self.results, name=message.task, ignored=ignored)

    def _revoke(self, task_ids: Sequence[str], *, terminate: bool, signal: str) -> None:
        self.control.revoke(task_ids, terminate=terminate, signal=signal)

    @cached_property
    def control(self) -> Control:
        """Orders to the fleet, and questions to it."""
        from umbel.control import Control  # noqa: PLC0415 - most programs only send

        return Control(self)

    @property
    def dead_letters(self) -> DeadLetters:
        """What won't be tried again by itself: to look at, send again or drop."""
        from umbel.dead_letters import DeadLetters  # noqa: PLC0415 - few programs look at them

        return DeadLetters(self)

    @property
    def delayed(self) -> DelayedMessages:
        """What waits for its time: to look at, run now or drop."""
        from umbel.queues import DelayedMessages  # noqa: PLC0415 - few programs look at it

        return DelayedMessages(self)

    @property
    def queues(self) -> Queues:
        """The broker's queues: how full they are; pausing and purging them."""
        from umbel.queues import Queues  # noqa: PLC0415 - few programs look at them

        return Queues(self)

    # -- connections ----------------------------------------------------------------------------

    @property
    def broker(self) -> Broker:
        """This process's handle of the broker, opened at its first use."""
        return self._handles.broker

    @property
    def backend(self) -> Backend | None:
        """This process's handle of the result backend; None where results are disabled."""
        return self._handles.backend

    @property
    def coordinator(self) -> Coordinator | None:
        """This process's handle of the coordinator; None where there is none."""
        return self._handles.coordinator

    def open_broker(self) -> Broker:
        """Return a new handle of the broker; the caller closes it."""
        return self._handles.open_broker()

    def open_backend(self) -> Backend | None:
        """Return a new handle of the result backend, or None; the caller closes it."""
        return self._handles.open_backend()

    def open_coordinator(self) -> Coordinator | None:
        """Return a new handle of the coordinator, or None; the caller closes it."""
        return self._handles.open_coordinator()
