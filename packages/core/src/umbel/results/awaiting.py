"""Waiting for results in a coroutine. Imported only by what awaits: asyncio costs start-up time."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from typing import TYPE_CHECKING, Any

from umbel.errors import BackendError
from umbel.off_loop import in_thread
from umbel.outcomes import StoredResult
from umbel.results.joining import Missing
from umbel.results.source import ResultSource
from umbel.results.waiting import Arrival, ResultWaiter, result_timeout, waiting_failed
from umbel.states import PROPAGATE_STATES, REJECTED

if TYPE_CHECKING:
    from umbel.results.async_result import AsyncResult

#: Seconds without a result after which the tasks before it are looked at, too.
_PARENTS_AFTER_S = 1.0


async def first_result(
    waiter: ResultWaiter, task_id: str, parent_ids: Sequence[str] = (), *, timeout_s: float | None
) -> StoredResult:
    """Wait for the result of `task_id`, or for the failure of one of `parent_ids`.

    Raises:
        ResultTimeoutError: neither came within `timeout_s`.
        BackendError: the waiting was ended: forgotten, closed, or the backend is broken.
    """
    loop = asyncio.get_running_loop()
    future: asyncio.Future[Arrival] = loop.create_future()
    ends_at = loop.time() + (timeout_s or 0.0)

    def arrived(arrival: Arrival) -> None:
        if not future.done():
            future.set_result(arrival)

    def parent_arrived(arrival: Arrival) -> None:
        if not isinstance(arrival, StoredResult) or _has_failed(arrival):
            arrived(arrival)

    tickets = [waiter.add(task_id, arrived, loop=loop)]
    try:
        if parent_ids:
            await asyncio.wait((future,), timeout=_patience_s(timeout_s))
            if not future.done():
                tickets += waiter.add_all(parent_ids, parent_arrived, loop=loop, aside=True)
        if timeout_s is not None:
            await asyncio.wait((future,), timeout=ends_at - loop.time())
            if not future.done():
                raise result_timeout(task_id, timeout_s, tickets[0].state, waiter.outage)
        arrival = await future
    finally:
        for ticket in tickets:
            waiter.discard(ticket)
    if isinstance(arrival, StoredResult):
        return arrival
    raise waiting_failed(task_id, arrival) from arrival


async def arrivals(
    missing: Missing, source: ResultSource, what: str, *, timeout_s: float | None
) -> AsyncGenerator[list[AsyncResult[Any]], None]:
    """Yield members as they end, as many at once as there are, until none is missing.

    Raises:
        ResultTimeoutError: some are missing after `timeout_s`.
        BackendError: the waiting was ended: forgotten, closed, or the backend is broken.
        Exception: the error of a task before them.
    """
    if not missing:
        return
    if timeout_s is not None and timeout_s <= 0:
        ids = [*missing.ids(), *missing.parent_ids()]
        if arrived := missing.take(await in_thread(source.load, ids)):
            yield arrived
        if missing:
            raise missing.timeout(what, 0.0, None)
        return
    waiter, loop = source.waiter(), asyncio.get_running_loop()
    inbox = _Inbox(what)
    began_at = loop.time()
    ends_at = None if timeout_s is None else began_at + timeout_s
    parents_at: float | None = began_at + _patience_s(timeout_s)
    tickets = waiter.add_all(missing.ids(), inbox.put, loop=loop)
    try:
        while missing:
            if parents_at is not None and loop.time() >= parents_at:
                parents_at = None
                parent_ids = missing.parent_ids()
                tickets += waiter.add_all(parent_ids, inbox.put, loop=loop, aside=True)
            stored = await inbox.take(ends_at if parents_at is None else parents_at)
            if arrived := missing.take(source.decode(stored)):
                yield arrived
            if not stored and ends_at is not None and loop.time() >= ends_at:
                raise missing.timeout(what, timeout_s or 0.0, waiter.outage)
    finally:
        for ticket in tickets:
            waiter.discard(ticket)


class _Inbox:
    """What arrived on the event loop and wasn't looked at yet."""

    def __init__(self, what: str) -> None:
        self._what = what
        self._found: dict[str, StoredResult] = {}
        self._failure: Exception | None = None
        self._bell = asyncio.Event()

    def put(self, arrival: Arrival) -> None:
        if isinstance(arrival, StoredResult):
            self._found[arrival.task_id] = arrival
        else:
            self._failure = arrival
        self._bell.set()

    async def take(self, until: float | None) -> dict[str, StoredResult]:
        """Wait for something until that time of the loop; return all of it. Raises: BackendError."""
        try:
            async with asyncio.timeout_at(until):
                await self._bell.wait()
        except TimeoutError:
            return {}
        found, self._found = self._found, {}
        if self._failure is None:
            self._bell.clear()
        elif not found:
            raise BackendError(
                f"waiting for the results of {self._what} failed: {self._failure}"
            ) from self._failure
        return found


def _patience_s(timeout_s: float | None) -> float:
    return _PARENTS_AFTER_S if timeout_s is None else min(_PARENTS_AFTER_S, timeout_s / 2)


def _has_failed(result: StoredResult) -> bool:
    return result.state in PROPAGATE_STATES or result.state == REJECTED
