"""Many results as one: waited for, joined and revoked together."""
# ruff: noqa: SLF001 - results look into each other, all of one family

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Generator, Iterable, Iterator
from contextlib import aclosing, suppress
from typing import TYPE_CHECKING, Any, Self

import msgspec

from umbel.argument_checks import check_callbacks, seconds_or_none
from umbel.errors import BackendError
from umbel.off_loop import in_thread
from umbel.results.callbacks import Countdown
from umbel.results.codec import ResultDocument
from umbel.results.guard import assert_will_not_block
from umbel.results.handle import R_co, ResultHandle, ValueCallback
from umbel.results.joining import Missing, arrivals
from umbel.results.lineage import leaves
from umbel.results.members import ResultMembers
from umbel.states import is_final

if TYPE_CHECKING:
    from umbel.results.async_result import AsyncResult


class ResultSet(ResultMembers[R_co]):
    """Results of tasks and of groups, all of one app. `R_co` is what the tasks return.

    What reads it counts each task of the groups in it; the value of a group is a list of values.

    Args:
        results: The members; changed by `add` and the like, and not shared.
        source: How to read them; None: as the members are.
    """

    __slots__ = ()

    # -- waiting ------------------------------------------------------------------------------

    def join(
        self,
        timeout: float | None = None,
        propagate: bool = True,
        interval: float | None = None,
        callback: ValueCallback | None = None,
        no_ack: bool = True,
        on_message: Callable[[dict[str, Any]], object] | None = None,
        disable_sync_subtasks: bool = True,
        on_interval: Callable[[], object] | None = None,
    ) -> list[R_co]:
        """Wait until all tasks are over, and return their values in order of the members.

        However many there are, they are read many at once. While the backend can't be reached,
        the waiting goes on until the timeout.

        Args:
            timeout: Seconds, for all of them; None: no end.
            propagate: Raise the error of a task as soon as it is seen, without waiting for the
                others: of the task that ended first, as far as the backend tells. Else errors
                are returned in the place of values.
            interval: Seconds; what is stored is read anew this often, besides what the backend
                tells by itself. None: 1.
            callback: Called with id and value of each task as it ends; the list is empty then.
            no_ack: Taken since callers of Celery pass it; means nothing here.
            on_message: Called with each result document that is read, as a dict.
            disable_sync_subtasks: Refuse to wait inside a task.
            on_interval: Called once an interval while some are missing; may raise.
        Raises:
            ResultTimeoutError: some are missing after `timeout`; the text says how many.
            SyncSubtaskError: called inside a task.
            BackendError: the backend can't be used, and trying again won't help.
            Exception: what a task raised, or a RemoteTaskError in its place.
        """
        batches = self._arrivals(timeout, interval, on_message, on_interval, disable_sync_subtasks)
        for arrived in batches:
            _hand_over(arrived, propagate, callback)
        return [] if callback is not None else self._values()

    get = join
    join_native = join

    def iterate(
        self,
        timeout: float | None = None,
        interval: float | None = None,
        on_interval: Callable[[], object] | None = None,
        *,
        disable_sync_subtasks: bool = True,
    ) -> Iterator[tuple[str, ResultDocument]]:
        """Yield id and result document of each task as it ends; those of groups among them.

        An error isn't raised; the document tells of it. Args and errors are those of `join`.
        """
        batches = self._arrivals(timeout, interval, None, on_interval, disable_sync_subtasks)
        for leaf, document in _documents(batches):
            yield leaf.id, document

    def iter_native(
        self,
        timeout: float | None = None,
        interval: float | None = None,
        no_ack: bool = True,
        on_message: Callable[[dict[str, Any]], object] | None = None,
        on_interval: Callable[[], object] | None = None,
        *,
        disable_sync_subtasks: bool = True,
    ) -> Iterator[tuple[str, dict[str, Any]]]:
        """Yield what `iterate` does, the document as Celery's dict: its result may be an error."""
        batches = self._arrivals(timeout, interval, on_message, on_interval, disable_sync_subtasks)
        for leaf, document in _documents(batches):
            yield leaf.id, _meta(leaf, document)

    async def ajoin(
        self,
        timeout: float | None = None,  # noqa: ASYNC109 - the error's text says how many are missing
        propagate: bool = True,
        *,
        callback: ValueCallback | None = None,
    ) -> list[R_co]:
        """Wait as `join` does, without blocking the event loop; also inside tasks."""
        async with aclosing(self._aarrivals(timeout)) as batches:
            async for arrived in batches:
                _hand_over(arrived, propagate, callback)
        return [] if callback is not None else self._values()

    aget = ajoin

    def __await__(self) -> Generator[Any, None, list[R_co]]:
        return self.ajoin().__await__()

    async def aiterate(
        self,
        timeout: float | None = None,  # noqa: ASYNC109 - as in `ajoin`
    ) -> AsyncGenerator[tuple[str, ResultDocument], None]:
        """Yield what `iterate` does, without blocking the event loop; also inside tasks."""
        async with aclosing(self._aarrivals(timeout)) as batches:
            async for arrived in batches:
                for leaf, document in _documents([arrived]):
                    yield leaf.id, document

    def then(
        self,
        callback: Callable[[Self], object],
        on_error: Callable[[BaseException], object] | None = None,
    ) -> Self:
        """Have `callback` called with this result when all tasks are over.

        It runs on the thread that waits for all results of this process, so it should be
        short; at once and here where all were read already. What it raises is logged.

        Args:
            callback: Called however they ended; with `on_error`, only if none failed.
            on_error: Called once, as soon as one has failed, with its error, or with what ended
                the waiting.
        Raises: WrongTypeError: these are no functions.
        """
        check_callbacks(callback, on_error)
        known = [leaf for leaf in leaves(self.results) if leaf._document is not None]
        countdown = Countdown(self, self._missing(), self._what, callback, on_error)
        countdown.start(self._source, known)
        return self

    def revoke(self, terminate: bool = False, signal: str = "SIGTERM") -> None:
        """Have workers skip all its tasks that aren't over, and the steps before them.

        So it is with what descends from them, from those that are over, too. Those that came
        before the whole are left alone. One call for all of them.

        Args:
            terminate: Also end those that run.
            signal: How.
        """
        tasks = [each for each in self._own_tasks() if each._is_stored]
        known = [each._document for each in tasks if each._document is not None]
        ids = dict.fromkeys(each.id for each in tasks if each._document is None)
        # What can't be read may be over: to be revoked then has no effect.
        with suppress(BackendError):
            found = self._source.load(list(ids))
            ids = dict.fromkeys(
                each
                for each in ids
                if each not in found or not is_final(found[each].status) or found[each].children
            )
        if tasks:
            parents = [each.task_id for each in known if each.children]
            ids = dict.fromkeys([*self._group_ids(), *ids, *parents])
            self._source.revoke(list(ids), terminate=terminate, signal=signal)

    def _group_ids(self) -> Iterator[str]:
        """Yield the ids of all groups in it."""
        todo: list[Any] = [self]
        while todo:
            each = todo.pop()
            if isinstance(each, ResultMembers):
                todo += each.results
                if (group_id := getattr(each, "id", None)) is not None:
                    yield group_id

    async def arevoke(self, terminate: bool = False, signal: str = "SIGTERM") -> None:
        """Have workers skip all its tasks; see `revoke`."""
        await in_thread(self.revoke, terminate, signal)

    # -- below --------------------------------------------------------------------------------

    def _missing(self) -> Missing:
        return Missing(leaves(self.results), self._before())

    def _own_tasks(self) -> Iterator[AsyncResult[Any]]:
        """Yield its tasks and the steps before each, but not what came before the whole."""
        return self._upwards()

    def _arrivals(
        self,
        timeout: float | None,
        interval: float | None,
        on_message: Callable[[dict[str, Any]], object] | None,
        on_interval: Callable[[], object] | None,
        is_refused_in_tasks: bool,
    ) -> Iterator[list[AsyncResult[Any]]]:
        """Yield the tasks that are over already, then others as they end."""
        missing = self._missing()
        if missing and is_refused_in_tasks:
            assert_will_not_block()
        yield [leaf for leaf in leaves(self.results) if not leaf._is_awaited]
        yield from arrivals(
            missing,
            self._source,
            self._what,
            timeout_s=seconds_or_none("timeout", timeout),
            interval_s=seconds_or_none("interval", interval),
            on_interval=on_interval,
            on_message=on_message,
        )

    async def _aarrivals(
        self, timeout_s: float | None
    ) -> AsyncGenerator[list[AsyncResult[Any]], None]:
        from umbel.results import awaiting  # noqa: PLC0415 - asyncio costs start-up time

        seconds_or_none("timeout", timeout_s)
        missing = self._missing()
        yield [leaf for leaf in leaves(self.results) if not leaf._is_awaited]
        if missing:
            found = awaiting.arrivals(missing, self._source, self._what, timeout_s=timeout_s)
            async with aclosing(found) as batches:
                async for arrived in batches:
                    yield arrived

    def _values(self) -> list[Any]:
        """Return the values of members that are all over; errors in their place."""
        return [
            each._value(each._document) if isinstance(each, ResultHandle) else each._values()
            for each in self.results
        ]


def _hand_over(
    arrived: Iterable[AsyncResult[Any]], propagate: bool, callback: ValueCallback | None
) -> None:
    """Raise the first error among what arrived, and call back."""
    for leaf in arrived:
        if propagate and (failure := leaf._failure()) is not None:
            raise failure
        if callback is not None:
            callback(leaf.id, leaf._value(leaf._document))


def _documents(
    batches: Iterable[list[AsyncResult[Any]]],
) -> Iterator[tuple[AsyncResult[Any], ResultDocument]]:
    for arrived in batches:
        for leaf in arrived:
            if leaf._document is not None:  # nothing is stored of one that is ignored
                yield leaf, leaf._document


def _meta(leaf: AsyncResult[Any], document: ResultDocument) -> dict[str, Any]:
    """Return Celery's form of a document."""
    children = leaf._children(document)
    return {
        **msgspec.structs.asdict(document),
        "result": leaf._value(document),
        "children": children,
    }
