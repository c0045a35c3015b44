"""Tasks: functions that can be called here, or sent to run elsewhere.

A `Task` holds a sender, never the app.
"""

from __future__ import annotations

from collections.abc import Coroutine, Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Generic, ParamSpec, TypeVar, Unpack

from umbel.argument_checks import keywords, positional
from umbel.canvas import chunks, xmap, xstarmap
from umbel.errors import InvalidTaskError, Resent, TaskSignal
from umbel.messages import META
from umbel.off_loop import in_thread
from umbel.options import SendOptions
from umbel.requests import (
    Request,
    current_children,
    current_request,
    reset_current_request,
    set_current_request,
)
from umbel.sender import Call, Sender
from umbel.signatures import Signature
from umbel.tasks.arguments import plain_call
from umbel.tasks.resending import execution_options, next_run, overrides, resend_options
from umbel.tasks.workflow_part import WorkflowPart

if TYPE_CHECKING:
    from umbel.interfaces.backend import Backend
    from umbel.results.async_result import AsyncResult as Result
    from umbel.results.async_result import EagerResult

P = ParamSpec("P")
R = TypeVar("R")


class Task(WorkflowPart, Generic[P, R]):
    """A task of an app.

    Made by ``@app.task``, or from a subclass with a `run` method by ``app.register_task``. There
    is one instance a process, which all runs share. Attributes that a subclass sets are defaults
    of its options.
    """

    # -- calling --------------------------------------------------------------------------------

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """Run the task here and now, as a function; no broker is involved."""
        request = current_request()
        if request.called_directly or request.task == self.name:
            result: R = self.run(*args, **kwargs)
            return result
        # Called inside another task: that one's request isn't this one's.
        return self._call_inside(args, kwargs)

    def delay(self, *args: P.args, **kwargs: P.kwargs) -> Result[R]:
        """Send the task with these arguments; return once the broker has it.

        Raises:
            TaskArgumentsError: the arguments don't fit the function.
            EncodeError: an argument can't be serialized.
            BrokerUnavailableError: the broker didn't take it in time. Where its answer was lost
                on the way, it may have it all the same; another try by umbel sends the same id.
        """
        return self._send(args, kwargs, {})

    def apply_async(
        self,
        args: Iterable[Any] | None = None,
        kwargs: Mapping[str, Any] | None = None,
        **options: Unpack[SendOptions],
    ) -> Result[R]:
        """Send the task with `args`, `kwargs` and options for this one call.

        Args:
            args: Positional arguments, a list or tuple.
            kwargs: Keyword arguments.
            **options: See `umbel.options.SendOptions`.
        Raises: as `delay`; InvalidTaskError: an option is unknown or has a wrong value.
        """
        return self._send(args, kwargs, options)

    def map_async(
        self, items: Iterable[Any], *, batch: int = 1000, **options: Unpack[SendOptions]
    ) -> list[Result[R]]:
        """Send the task once for each of `items`, many in one go to the broker.

        Args:
            items: A tuple is a call's arguments, anything else its only argument. May be a
                generator: no more than a batch of it is held as messages at once.
            batch: How many go to the broker at a time.
            **options: As in `apply_async`, for all of them.
        Returns: A result for each item, in order.
        Raises: as `apply_async`; batches before the one that failed have been sent, and the
            error tells how many that is.
        """
        calls = (self.call(_item_arguments(item), {}, options) for item in items)
        return self._app.send_calls(calls, batch=batch)

    def apply(
        self,
        args: Iterable[Any] | None = None,
        kwargs: Mapping[str, Any] | None = None,
        *,
        throw: bool | None = None,
        **options: Unpack[SendOptions],
    ) -> EagerResult[R]:
        """Run the task in this thread by the code that a worker runs, and return its result.

        Arguments and value are serialized as on the way to a worker; retries run at once.

        Args:
            args: Positional arguments.
            kwargs: Keyword arguments.
            throw: Raise the task's exception. None: as ``task_eager_propagates`` says.
            **options: As in `apply_async`.
        """
        call = self.call(args, kwargs, options)
        return self._app.run_locally(call, throw=throw)

    async def adelay(self, *args: P.args, **kwargs: P.kwargs) -> Result[R]:
        """Send as `delay` does, without blocking the event loop."""
        return await in_thread(self._send, args, kwargs, {})

    async def aapply_async(
        self,
        args: Iterable[Any] | None = None,
        kwargs: Mapping[str, Any] | None = None,
        **options: Unpack[SendOptions],
    ) -> Result[R]:
        """Send as `apply_async` does, without blocking the event loop."""
        return await in_thread(self._send, args, kwargs, options)

    async def amap_async(
        self, items: Iterable[Any], *, batch: int = 1000, **options: Unpack[SendOptions]
    ) -> list[Result[R]]:
        """Send as `map_async` does, without blocking the event loop."""
        calls = (self.call(_item_arguments(item), {}, options) for item in items)
        return await in_thread(self._app.send_calls, calls, batch=batch)

    # -- signatures -----------------------------------------------------------------------------

    def s(self, *args: Any, **kwargs: Any) -> Signature[R]:
        """Return the call as data; a parent's result will be put before `args`."""
        return self._signature(args, kwargs)

    def si(self, *args: P.args, **kwargs: P.kwargs) -> Signature[R]:
        """Return the call as data, complete: a parent's result isn't put in."""
        return self._signature(args, kwargs, immutable=True)

    def signature(
        self,
        args: Iterable[Any] | None = None,
        kwargs: Mapping[str, Any] | None = None,
        options: Mapping[str, Any] | None = None,
        *,
        immutable: bool = False,
        **more: Unpack[SendOptions],
    ) -> Signature[R]:
        """Return the call as data, with options for when it is sent."""
        args, kwargs = positional(self.name, args), keywords(self.name, kwargs)
        found = self._signature(args, kwargs, immutable=immutable)
        return found.set(**(options or {}), **more) if options or more else found

    subtask = signature

    def signature_from_request(
        self,
        request: Request | None = None,
        args: Iterable[Any] | None = None,
        kwargs: Mapping[str, Any] | None = None,
        queue: str | None = None,
        **options: Any,
    ) -> Signature[R]:
        """Return a run of the task as data, with its id and all that follows from it.

        Args:
            request: The run; None: the one that runs here.
            args: In the place of its own; None: the same.
            kwargs: In the place of its own; None: the same.
            queue: Where to send it; None: where it came from.
            **options: Over its own.
        """
        request = current_request() if request is None else request
        found = {**execution_options(request), **options}
        if queue is not None:
            found["queue"] = queue
        args = request.args if args is None else args
        return self.signature(args, request.kwargs if kwargs is None else kwargs, **found)

    subtask_from_request = signature_from_request

    def map(self, it: Iterable[Any]) -> xmap:
        """Return one call that runs the task with each item of `it`, in turn; a list of results."""
        return xmap(self.s(), it)

    def starmap(self, it: Iterable[Any]) -> xstarmap:
        """Return one call that runs the task with the arguments in each item of `it`, in turn."""
        return xstarmap(self.s(), it)

    def chunks(self, it: Iterable[Any], n: int) -> chunks:
        """Return calls that each run the task with the arguments in `n` items of `it`, in turn."""
        return chunks(self.s(), it, n)

    # -- inside a run ---------------------------------------------------------------------------

    @property
    def request(self) -> Request:
        """The request that runs in this context; an empty one outside of tasks."""
        return current_request()

    def retry(
        self,
        args: Iterable[Any] | None = None,
        kwargs: Mapping[str, Any] | None = None,
        exc: BaseException | None = None,
        throw: bool = True,
        eta: datetime | None = None,
        countdown: float | timedelta | None = None,
        max_retries: int | None = None,
        **options: Any,
    ) -> TaskSignal:
        """End this run, and run the task again later under the same id.

        Without `countdown` or `eta` it waits `default_retry_delay` seconds. Called as a plain
        function the task has nobody to run it again: `exc` or the error being handled is raised.

        Args:
            args: Positional arguments of the next run; None: the same.
            kwargs: Keyword arguments of the next run; None: the same.
            exc: The error that is the cause. Raised after the last retry, and stored.
            throw: False sends the next run at once and returns: this one goes on, and ends as
                it will. To raise what is returned ends it without a result.
            eta: When to run again. A time without zone is UTC.
            countdown: Seconds to wait.
            max_retries: In place of the task's own, for this call.
            **options: Such as `queue`, `priority`, `time_limit`, for the next run.
        Raises:
            Retry: always, unless `throw` is False.
            MaxRetriesExceededError: the last retry has been used, and there is no `exc`.
        """
        request = current_request()
        signal = next_run(self, request, exc, eta, countdown, max_retries)
        if self._converters is not None:
            args, kwargs = plain_call(args, kwargs)
        signal.override = overrides(args, kwargs, options)
        if throw:
            raise signal from exc
        call = Call(
            self.name,
            signal.override.get("args", request.args),
            signal.override.get("kwargs", request.kwargs),
            resend_options(request, signal),
            self,
        )
        self._app.send_call(call)
        return Resent("the next run has been sent")

    def update_state(
        self, task_id: str | None = None, state: str | None = None, meta: Any = None
    ) -> None:
        """Store a state of the task's own, such as ``PROGRESS``, with `meta` as its result.

        Args:
            task_id: None: the task that runs here.
            state: Any word; None: ``PROGRESS``.
            meta: What the result's ``info`` shows.
        Raises: InvalidTaskError: no task runs here and no `task_id` is given.
        """
        request = current_request()
        found = request.id if task_id is None else task_id
        if found is None:
            raise InvalidTaskError(f"update_state() of {self.name!r} needs a task_id outside a run")
        self._app.store_state(request, found, state or "PROGRESS", meta)

    def is_aborted(self, task_id: str | None = None) -> bool:
        """Tell whether the task was revoked since it began, so that a long one can stop early.

        Asks the coordinator at each call. Where there is none, nothing can be revoked.

        Args:
            task_id: None: the task that runs here.
        """
        found = self.request.id if task_id is None else task_id
        return found is not None and self._app.is_revoked(found)

    # -- the app --------------------------------------------------------------------------------

    @property
    def app(self) -> Sender:
        """The app that the task belongs to. Raises: InvalidTaskError: it belongs to none."""
        return self._app

    @property
    def backend(self) -> Backend | None:
        """The app's result backend; None where results are disabled."""
        return self._app.backend

    def AsyncResult(self, task_id: str) -> Result[R]:  # noqa: N802 - Celery's name
        """Return the result of the run of this task that has that id."""
        return self._app.AsyncResult(task_id, task_name=self.name)

    def _send(
        self,
        args: Iterable[Any] | None,
        kwargs: Mapping[str, Any] | None,
        options: Mapping[str, Any],
    ) -> Result[R]:
        return self._app.send_call(self.call(args, kwargs, options))

    def call(
        self,
        args: Iterable[Any] | None,
        kwargs: Mapping[str, Any] | None,
        options: Mapping[str, Any],
    ) -> Call:
        """Return a call of this task with its arguments checked, and as they will travel."""
        args = positional(self.name, args)
        if type(kwargs) is not dict:
            kwargs = keywords(self.name, kwargs)
        if self.typing:
            self.argument_check(args, kwargs)
        if self._converters is not None:
            args, kwargs = self._converters.dump(args, kwargs)
        return Call(self.name, args, kwargs, options, self)

    def _signature(
        self, args: Sequence[Any], kwargs: Mapping[str, Any], *, immutable: bool = False
    ) -> Signature[R]:
        if self._converters is not None:
            args, kwargs = plain_call(args, kwargs)
        return Signature(self.name, args, kwargs, immutable=immutable, app=self._sender)

    def _call_inside(self, args: Any, kwargs: Any) -> R:
        outer = current_request()
        request = Request(
            task=self.name,
            args=args,
            kwargs=kwargs,
            root_id=outer.root_id or outer.id,
            parent_id=outer.id,
            delivery_info=outer.delivery_info,
            hostname=outer.hostname,
            headers={META: outer.meta} if outer.meta else {},
        )
        if self.is_coroutine:
            return self._await_inside(request)  # type: ignore[return-value]
        tokens = set_current_request(request, current_children())
        try:
            result: R = self.run(*args, **kwargs)
            return result
        finally:
            reset_current_request(tokens)

    async def _await_inside(self, request: Request) -> Any:
        tokens = set_current_request(request, current_children())
        try:
            return await self.run(*request.args, **request.kwargs)
        finally:
            reset_current_request(tokens)


class AsyncTask(Task[P, R]):
    """A task made of an ``async def``: called directly it is awaited, sent it is like any other."""

    if TYPE_CHECKING:
        # At run time it is the class's own, which returns what the function returns.
        def __call__(self, *args: P.args, **kwargs: P.kwargs) -> Coroutine[Any, Any, R]:  # type: ignore[override]
            """Run the task here and now, as a coroutine."""


def _item_arguments(item: Any) -> Sequence[Any]:
    return item if isinstance(item, tuple) else (item,)
