"""The reading side of a result: what is stored for a task now, without waiting for it.

Each call that reads has an async twin with an ``a`` before its name. Properties read too: a
coroutine uses `ResultHandle.adocument` in their place, one read for all of them.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from datetime import datetime
from typing import Any, Generic, NoReturn, TypeVar

from umbel.clock import to_datetime
from umbel.errors import StateError, WrongTypeError
from umbel.off_loop import in_thread
from umbel.results.codec import ResultDocument
from umbel.results.source import ResultSource
from umbel.states import (
    EXCEPTION_STATES,
    FAILURE,
    PENDING,
    PROPAGATE_STATES,
    REJECTED,
    SUCCESS,
    is_final,
)

R_co = TypeVar("R_co", covariant=True)

ValueCallback = Callable[[str, Any], object]


class ResultHandle(Generic[R_co]):
    """A task's id, and how to read what is stored for it. Keeps what it read once it is final."""

    __slots__ = ("__weakref__", "_document", "_name", "_source", "id")

    def __init__(self, id: str, source: ResultSource, *, name: str | None = None) -> None:
        self.id, self._source, self._name = _checked_id(id), source, name
        # Never the exception that is made of it: once raised, that holds the frames which
        # hold this handle.
        self._document: ResultDocument | None = None

    # -- what is stored -----------------------------------------------------------------------

    def document(self) -> ResultDocument | None:
        """Return all that is stored for the task, in one read; None: nothing.

        Raises: BackendUnavailableError: the backend can't be reached now.
        """
        if self._document is not None:
            return self._document
        return self._kept(self._source.load((self.id,)).get(self.id))

    async def adocument(self) -> ResultDocument | None:
        """Return what `document` does, without blocking the event loop."""
        if self._document is not None:
            return self._document
        return await in_thread(self.document)

    @property
    def state(self) -> str:
        """The task's state; PENDING where nothing is stored."""
        return _status(self.document())

    async def astate(self) -> str:
        """Return the task's state; PENDING where nothing is stored."""
        return _status(await self.adocument())

    @property
    def status(self) -> str:
        """Celery's other name for `state`."""
        return self.state

    @property
    def result(self) -> Any:
        """The value, the error, or the meta data of a state of the task's own; else None."""
        return self._value(self.document())

    async def aresult(self) -> Any:
        """Return the value, the error, or the meta data of a state of the task's own."""
        return self._value(await self.adocument())

    @property
    def info(self) -> Any:
        """Celery's other name for `result`, used for meta data."""
        return self.result

    def exists(self) -> bool:
        """Tell whether anything is stored: PENDING may also be an id that never was."""
        return self.document() is not None

    async def aexists(self) -> bool:
        """Tell whether anything is stored."""
        return await self.adocument() is not None

    def ready(self) -> bool:
        """Tell whether the task is over."""
        return is_final(self.state)

    async def aready(self) -> bool:
        """Tell whether the task is over."""
        return is_final(await self.astate())

    def successful(self) -> bool:
        """Tell whether the task returned."""
        return self.state == SUCCESS

    async def asuccessful(self) -> bool:
        """Tell whether the task returned."""
        return await self.astate() == SUCCESS

    def failed(self) -> bool:
        """Tell whether the task failed."""
        return self.state == FAILURE

    async def afailed(self) -> bool:
        """Tell whether the task failed."""
        return await self.astate() == FAILURE

    @property
    def traceback(self) -> str | None:
        """Where the task raised, as text from the worker."""
        document = self.document()
        return None if document is None else document.traceback

    @property
    def date_done(self) -> datetime | None:
        """When the task was over; aware, UTC."""
        document = self.document()
        if document is None or document.date_done is None:
            return None
        return to_datetime(document.date_done)

    @property
    def name(self) -> str | None:
        """The task's name; stored under ``result_extended``, as the next five are."""
        return self._name or self._stored("name")

    @property
    def args(self) -> Any:
        """What the task was called with."""
        return self._stored("args")

    @property
    def kwargs(self) -> Any:
        """What the task was called with."""
        return self._stored("kwargs")

    @property
    def worker(self) -> str | None:
        """The node that ran it."""
        found: str | None = self._stored("worker")
        return found

    @property
    def queue(self) -> str | None:
        """The queue that it came from."""
        found: str | None = self._stored("queue")
        return found

    @property
    def retries(self) -> int | None:
        """How many times it was retried."""
        found: int | None = self._stored("retries")
        return found

    def _stored(self, field: str) -> Any:
        return getattr(self.document(), field, None)

    def _kept(self, document: ResultDocument | None) -> ResultDocument | None:
        """Keep `document` if it is final; return it."""
        if document is not None and is_final(document.status):
            self._document = document
        return document

    # -- errors -------------------------------------------------------------------------------

    def throw(self, exc: BaseException | None = None) -> NoReturn:
        """Raise `exc`; without one, the task's error.

        Raises: StateError: the task has none.
        """
        if exc is not None:
            raise exc
        document = self.document()
        if document is None or not _is_error(document):
            raise StateError(f"task {self.id!r} is {_status(document)}: it has no error to raise")
        raise self._exception(document)

    def maybe_throw(self, propagate: bool = True, callback: ValueCallback | None = None) -> Any:
        """Raise the task's error if it failed; else return what `result` does. Doesn't wait.

        Args:
            propagate: Without it, the error is returned.
            callback: Called with id and value if nothing is raised.
        """
        document = self.document()
        return None if document is None else self._conclude(document, propagate, callback)

    def maybe_reraise(self, propagate: bool = True, callback: ValueCallback | None = None) -> Any:
        """Celery's other name for `maybe_throw`."""
        return self.maybe_throw(propagate, callback)

    def _conclude(
        self,
        document: ResultDocument,
        propagate: bool,
        callback: ValueCallback | None = None,
        exception_states: Collection[str] = EXCEPTION_STATES,
        propagate_states: Collection[str] = PROPAGATE_STATES,
    ) -> Any:
        """Raise the error, or return the value, that `document` tells of."""
        if propagate and _has_failed(document, propagate_states):
            raise self._exception(document)
        value = self._value(document, exception_states)
        if callback is not None:
            callback(self.id, value)
        return value

    def _value(
        self,
        document: ResultDocument | None,
        exception_states: Collection[str] = EXCEPTION_STATES,
    ) -> Any:
        if document is None:
            return None
        if _is_error(document, exception_states):
            return self._exception(document)
        return document.result

    def _failure(self) -> BaseException | None:
        """Return the error of a task that is known to have failed; None of another one."""
        document = self._document
        if document is None or not _has_failed(document):
            return None
        return self._exception(document)

    def _exception(self, document: ResultDocument) -> BaseException:
        """Return a new exception for the error that `document` tells of."""
        return self._source.exception(document)

    # -- the task -----------------------------------------------------------------------------

    def revoke(self, terminate: bool = False, signal: str = "SIGTERM") -> None:
        """Have workers skip the task.

        Args:
            terminate: Also end it if it runs.
            signal: How.
        """
        self._source.revoke((self.id,), terminate=terminate, signal=signal)

    async def arevoke(self, terminate: bool = False, signal: str = "SIGTERM") -> None:
        """Have workers skip the task; see `revoke`."""
        await in_thread(self.revoke, terminate=terminate, signal=signal)

    @property
    def task_id(self) -> str:
        """Celery's other name for `id`."""
        return self.id

    def __eq__(self, other: object) -> bool:
        if isinstance(other, ResultHandle):
            return self.id == other.id
        return self.id == other if isinstance(other, str) else NotImplemented

    def __hash__(self) -> int:
        return hash(self.id)

    def __str__(self) -> str:
        return self.id

    def __repr__(self) -> str:
        return f"<{type(self).__name__}: {self.id}>"


def _status(document: ResultDocument | None) -> str:
    return PENDING if document is None else document.status


def _is_error(
    document: ResultDocument, exception_states: Collection[str] = EXCEPTION_STATES
) -> bool:
    return document.status in exception_states or document.status == REJECTED


def _has_failed(
    document: ResultDocument, propagate_states: Collection[str] = PROPAGATE_STATES
) -> bool:
    return document.status in propagate_states or document.status == REJECTED


def _checked_id(id: object) -> str:
    if not isinstance(id, str) or not id:
        raise WrongTypeError(f"a result needs the id of a task, not {id!r:.80}")
    return id
