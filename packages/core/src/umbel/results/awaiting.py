"""Waiting for a result in a coroutine. Imported only by what awaits: asyncio costs start-up time."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import TypeVar

from umbel.outcomes import StoredResult
from umbel.results.waiting import Arrival, ResultWaiter, result_timeout, waiting_failed
from umbel.states import PROPAGATE_STATES

T = TypeVar("T")


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

    def arrived(arrival: Arrival) -> None:
        if not future.done():
            future.set_result(arrival)

    def parent_arrived(arrival: Arrival) -> None:
        if not isinstance(arrival, StoredResult) or arrival.state in PROPAGATE_STATES:
            arrived(arrival)

    tickets = [waiter.add(task_id, arrived, loop=loop)]
    try:
        tickets += [waiter.add(parent, parent_arrived, loop=loop) for parent in parent_ids]
        if timeout_s is not None:
            await asyncio.wait((future,), timeout=timeout_s)
            if not future.done():
                raise result_timeout(task_id, timeout_s, tickets[0].state, waiter.outage)
        arrival = await future
    finally:
        for ticket in tickets:
            waiter.discard(ticket)
    if isinstance(arrival, StoredResult):
        return arrival
    raise waiting_failed(task_id, arrival) from arrival


async def off_loop(call: Callable[[], T]) -> T:
    """Run `call`, which does I/O, on a thread of the event loop's."""
    return await asyncio.to_thread(call)
