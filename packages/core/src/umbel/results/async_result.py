"""Results as callers see them: `AsyncResult`, what calling a task returns.

A result is a handle: it reads nothing before it is asked. Waiting never rests on a notification
alone, and never outlives its timeout.
"""
# ruff: noqa: SLF001 - results of a chain look into each other, all of one family

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Generator, Sequence
from functools import partial
from typing import Any, ClassVar, Self

import msgspec

from umbel.argument_checks import check_callbacks, seconds_or_none
from umbel.errors import UmbelError
from umbel.outcomes import StoredResult
from umbel.results.codec import ResultDocument
from umbel.results.guard import allow_join_result, assert_will_not_block, denied_join_result
from umbel.results.handle import R_co, ValueCallback
from umbel.results.lineage import tasks_before
from umbel.results.node import ResultNode
from umbel.results.polling import Polling
from umbel.results.source import NO_SOURCE, ResultSource
from umbel.results.waiting import Arrival, result_timeout, waiting_failed
from umbel.states import EXCEPTION_STATES, PENDING, PROPAGATE_STATES, is_final

__all__ = ["AsyncResult", "EagerResult", "allow_join_result", "denied_join_result"]

logger = logging.getLogger("umbel.results")


class AsyncResult(ResultNode[R_co]):
    """The result of one task, there already or still to come; `R_co` is what the task returns.

    Args:
        id: The task's id.
        source: How to read results; an app makes one for all of its results.
        parent: The result of the step before, in a chain.
        name: The task's name, where it is known without reading.
        ignored: Nothing will be stored: `get` returns None at once.
    """

    __slots__ = ()

    #: Celery's flag of results that are joined by what the backend tells.
    supports_native_join: ClassVar[bool] = True

    # -- waiting ------------------------------------------------------------------------------

    def get(
        self,
        timeout: float | None = None,
        propagate: bool = True,
        interval: float | None = None,
        no_ack: bool = True,
        follow_parents: bool = True,
        callback: ValueCallback | None = None,
        on_message: Callable[[dict[str, Any]], object] | None = None,
        on_interval: Callable[[], object] | None = None,
        disable_sync_subtasks: bool = True,
        EXCEPTION_STATES: Collection[str] = EXCEPTION_STATES,  # noqa: N803 - Celery's name
        PROPAGATE_STATES: Collection[str] = PROPAGATE_STATES,  # noqa: N803 - Celery's name
    ) -> R_co:
        """Wait until the task is over, and return its value.

        While the backend can't be reached, the waiting goes on until the timeout.

        Args:
            timeout: Seconds; None: no end.
            propagate: Raise the task's error; else it is returned.
            interval: Seconds; what is stored is read anew this often, besides what the backend
                tells by itself. None: 1.
            no_ack: Taken since callers of Celery pass it; means nothing here.
            follow_parents: Raise the error of a parent that failed: no result will come then.
                Workers store the failure of a step for all that follows it, so the parents
                themselves are looked at only once an interval.
            callback: Called with id and value at the end.
            on_message: Called with each new state that is seen, as a result document.
            on_interval: Called once an interval while there is no result; may raise.
            disable_sync_subtasks: Refuse to wait inside a task.
            EXCEPTION_STATES: States whose value is an error.
            PROPAGATE_STATES: States whose error is raised.
        Raises:
            ResultTimeoutError: no result within `timeout`.
            SyncSubtaskError: called inside a task.
            BackendError: the backend can't be used, and trying again won't help.
            Exception: what the task raised, or a RemoteTaskError in its place.
        """
        if self.ignored:
            return None  # type: ignore[return-value]  # as in Celery
        document = self._document
        if document is None:
            if disable_sync_subtasks:
                assert_will_not_block()
            parents = self._unfinished_parents() if propagate and follow_parents else []
            document = self._poll(timeout, interval, parents, on_message, on_interval)
        value: R_co = self._conclude(
            document, propagate, callback, EXCEPTION_STATES, PROPAGATE_STATES
        )
        return value

    wait = get

    async def aget(
        self,
        timeout: float | None = None,  # noqa: ASYNC109 - the error's text names id and state
        propagate: bool = True,
        *,
        follow_parents: bool = True,
        callback: ValueCallback | None = None,
    ) -> R_co:
        """Wait as `get` does, without blocking the event loop; also inside tasks."""
        if self.ignored:
            return None  # type: ignore[return-value]  # as in Celery
        document = self._document
        if document is None:
            parents = self._unfinished_parents() if propagate and follow_parents else []
            document = await self._arrival(timeout, parents)
        value: R_co = self._conclude(document, propagate, callback)
        return value

    def __await__(self) -> Generator[Any, None, R_co]:
        return self.aget().__await__()

    def then(
        self,
        callback: Callable[[Self], object],
        on_error: Callable[[BaseException], object] | None = None,
    ) -> Self:
        """Have `callback` called with this result when the task is over.

        It runs on the thread that waits for all results of this process, so it should be
        short; at once and here where the result was read already. What it raises is logged.

        Args:
            callback: Called in every final state; with `on_error`, only without an error.
            on_error: Called with the task's error, or with what ended the waiting.
        Raises: WrongTypeError: these are no functions.
        """
        check_callbacks(callback, on_error)
        if self._document is not None:
            self._call_back(self._document, callback, on_error)
        else:
            deliver = partial(self._arrived, callback=callback, on_error=on_error)
            self._source.waiter().add(self.id, deliver)
        return self

    def _poll(
        self,
        timeout: float | None,
        interval: float | None,
        parents: Sequence[AsyncResult[Any]],
        on_message: Callable[[dict[str, Any]], object] | None,
        on_interval: Callable[[], object] | None,
    ) -> ResultDocument:
        """Wait on this thread for the final document; raise a parent's error if one fails."""
        timeout = seconds_or_none("timeout", timeout)
        last: ResultDocument | None = None
        polling = Polling(
            self._source,
            lambda: (self.id,),
            aside=lambda: [parent.id for parent in parents if parent._document is None],
            timeout_s=timeout,
            interval_s=seconds_or_none("interval", interval),
            on_interval=on_interval,
            loads_first=on_message is not None,
        )
        for seen in polling:
            document = seen.get(self.id, last)
            if document is not None:
                if on_message is not None and document != last:
                    on_message(msgspec.structs.asdict(document))
                last = document
                if is_final(document.status):
                    self._document = document
                    return document
            if len(seen) > (document is not None):
                for parent in parents:
                    if (found := seen.get(parent.id)) is not None:
                        parent._raise_failure(found)
        state = PENDING if last is None else last.status
        raise result_timeout(self.id, timeout or 0.0, state, polling.outage)

    async def _arrival(
        self, timeout_s: float | None, parents: Sequence[AsyncResult[Any]]
    ) -> ResultDocument:
        """Wait on the event loop for the final document; raise a parent's error if one fails."""
        from umbel.results.awaiting import first_result  # noqa: PLC0415 - asyncio costs start-up time

        seconds_or_none("timeout", timeout_s)
        if timeout_s is not None and timeout_s <= 0:
            found = await self.adocument()
            if found is None or not is_final(found.status):
                raise result_timeout(self.id, 0.0, PENDING if found is None else found.status, None)
            return found
        stored = await first_result(
            self._source.waiter(),
            self.id,
            [parent.id for parent in parents],
            timeout_s=timeout_s,
        )
        document = self._source.decode({stored.task_id: stored})[stored.task_id]
        for parent in parents:
            if parent.id == stored.task_id:
                parent._raise_failure(document)
        self._document = document
        return document

    def _raise_failure(self, document: ResultDocument) -> None:
        """Keep `document`; raise its error if the task failed."""
        self._kept(document)
        if (failure := self._failure()) is not None:
            raise failure

    def _arrived(
        self,
        arrival: Arrival,
        *,
        callback: Callable[[Self], object],
        on_error: Callable[[BaseException], object] | None,
    ) -> None:
        try:
            if not isinstance(arrival, StoredResult):
                raise waiting_failed(self.id, arrival)
            document = self._source.decode({self.id: arrival})[self.id]
        except UmbelError as exc:
            if on_error is not None:
                on_error(exc)
            else:
                logger.error("no callback for task %r: %s", self.id, exc)
            return
        self._document = document
        self._call_back(document, callback, on_error)

    def _call_back(
        self,
        document: ResultDocument,
        callback: Callable[[Self], object],
        on_error: Callable[[BaseException], object] | None,
    ) -> None:
        try:
            if on_error is not None and document.status in PROPAGATE_STATES:
                on_error(self._exception(document))
            else:
                callback(self)
        except Exception:
            logger.exception("a callback on the result of task %r failed", self.id)

    def _unfinished_parents(self) -> list[AsyncResult[Any]]:
        """Return the tasks before it without a final document yet, the first step first.

        Raises: Exception: the error of one that is known to have failed.
        """
        parents = list(tasks_before((self,)))[::-1]
        for parent in parents:
            if parent._document is not None:
                parent._raise_failure(parent._document)
        return [parent for parent in parents if parent._is_awaited]


class EagerResult(AsyncResult[R_co]):
    """The result of a task that ran in this process, known from the start; stored nowhere.

    Args:
        id: The task's id.
        ret_value: What it returned or raised.
        state: How it ended.
        traceback: Text of the traceback, where it raised.
        name: The task's name.
        args: What it was called with.
        kwargs: What it was called with.
        retries: How many times it was retried.
        children: Result tuples of the tasks that it sent.
        date_done: When it was over, unix seconds.
        source: How to read the results of its children.
        make: Makes the result of one of them by its id; None: it is read by `source`.
    """

    __slots__ = ("_make",)

    supports_native_join: ClassVar[bool] = False
    _is_stored: ClassVar[bool] = False

    def __init__(
        self,
        id: str,
        ret_value: Any,
        state: str,
        traceback: str | None = None,
        *,
        name: str | None = None,
        args: Any = None,
        kwargs: Any = None,
        retries: int | None = None,
        children: list[Any] | None = None,
        date_done: float | None = None,
        source: ResultSource | None = None,
        make: Callable[[str], AsyncResult[Any]] | None = None,
    ) -> None:
        super().__init__(id, NO_SOURCE if source is None else source, name=name)
        self._make = make
        self._document = ResultDocument(
            task_id=id,
            status=state,
            result=ret_value,
            traceback=traceback,
            children=children,
            date_done=date_done,
            name=name,
            args=args,
            kwargs=kwargs,
            retries=retries,
        )

    def revoke(self, terminate: bool = False, signal: str = "SIGTERM") -> None:
        """Do nothing: the task has run."""

    def _maker(self) -> Callable[[str], AsyncResult[Any]] | None:
        return self._make

    def _exception(self, document: ResultDocument) -> BaseException:
        if isinstance(document.result, BaseException):
            return document.result
        return super()._exception(document)
