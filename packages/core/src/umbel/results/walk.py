"""Walks over the results of all that a task sent, and of what that sent: nearest first."""
# ruff: noqa: SLF001 - results are of one family

from __future__ import annotations

from collections import deque
from collections.abc import AsyncGenerator, Iterator
from itertools import islice
from typing import TYPE_CHECKING, Any, TypeAlias

from umbel.errors import IncompleteStream
from umbel.off_loop import in_thread
from umbel.results.handle import ResultHandle
from umbel.results.waiting import CHUNK

if TYPE_CHECKING:
    from umbel.results.async_result import AsyncResult
    from umbel.results.lineage import AnyResult

    Edge: TypeAlias = tuple[AnyResult | None, AnyResult]


class Walk:
    """What is known of the way; no result is entered twice.

    Args:
        root: Where it begins.
        intermediate: Pass over what isn't over yet.
    """

    def __init__(self, root: AnyResult, *, intermediate: bool) -> None:
        self._intermediate = intermediate
        self._todo: deque[Edge] = deque([(None, root)])
        self._entered: set[str] = set()
        #: What was read without being over, with many others in one call.
        self._pending: set[str] = set()

    def step(self) -> Edge | None:
        """Return the next one; None: that was all."""
        return self._todo.popleft() if self._todo else None

    def enter(self, result: AnyResult) -> None:
        """Go on to what `result` sent. Raises: IncompleteStream, BackendUnavailableError."""
        if result.id in self._entered or (isinstance(result, ResultHandle) and result.ignored):
            return
        is_over = self._is_over(result) if isinstance(result, ResultHandle) else result.ready()
        if not is_over:
            if not self._intermediate:
                raise IncompleteStream(
                    f"{result.id!r} isn't over, so what it will send isn't known; wait for it first, "
                    f"as collect() does, or pass intermediate=True"
                )
            return
        self._entered.add(result.id)
        self._todo.extend((result, child) for child in result.children or ())

    def _is_over(self, result: AsyncResult[Any]) -> bool:
        if result._document is None and result.id not in self._pending:
            self._read([result, *self._next_unread()])
        if result._document is None and not self._intermediate:
            return result.ready()
        return result._document is not None

    def _next_unread(self) -> Iterator[AsyncResult[Any]]:
        unread = (
            result
            for _, result in self._todo
            if isinstance(result, ResultHandle) and result._document is None
        )
        return islice(unread, CHUNK - 1)

    def _read(self, results: list[AsyncResult[Any]]) -> None:
        found = results[0]._source.load(list({result.id: None for result in results}))
        for result in results:
            if result._kept(found.get(result.id)) is None or result._document is None:
                self._pending.add(result.id)


def iterdeps(root: AnyResult, *, intermediate: bool) -> Iterator[Edge]:
    """Yield `root` and what descends from it. Raises: IncompleteStream."""
    walk = Walk(root, intermediate=intermediate)
    while (edge := walk.step()) is not None:
        yield edge
        walk.enter(edge[1])


async def aiterdeps(root: AnyResult, *, intermediate: bool) -> AsyncGenerator[Edge, None]:
    """Yield what `iterdeps` does, without blocking the event loop."""
    walk = Walk(root, intermediate=intermediate)
    while (edge := walk.step()) is not None:
        yield edge
        await in_thread(walk.enter, edge[1])
