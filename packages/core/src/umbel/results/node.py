"""A task's result among others: its parents, the results of what it sent, and walks over them."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Iterator
from typing import TYPE_CHECKING, Any, ClassVar, cast

from umbel.off_loop import in_thread
from umbel.results.codec import ResultDocument
from umbel.results.handle import R_co, ResultHandle
from umbel.results.lineage import as_tuple, upwards
from umbel.results.source import ResultSource

if TYPE_CHECKING:
    from umbel.results.async_result import AsyncResult
    from umbel.results.graph import DependencyGraph, GraphFormatter
    from umbel.results.lineage import AnyResult


class ResultNode(ResultHandle[R_co]):
    """A task's result, and where it stands in a workflow.

    Args:
        id: The task's id.
        source: How to read results.
        parent: The result of the step before, in a chain.
        name: The task's name, where it is known without reading.
        ignored: Nothing will be stored: `get` returns None at once.
    """

    __slots__ = ("ignored", "parent")

    #: A backend keeps it, or will; else it is known from the start.
    _is_stored: ClassVar[bool] = True

    def __init__(
        self,
        id: str,
        source: ResultSource,
        *,
        parent: AnyResult | None = None,
        name: str | None = None,
        ignored: bool = False,
    ) -> None:
        super().__init__(id, source, name=name)
        self.parent, self.ignored = parent, ignored

    @property
    def _is_awaited(self) -> bool:
        """Whether it may be worth waiting for."""
        return self._document is None and not self.ignored

    @property
    def _node(self) -> AsyncResult[R_co]:
        return cast("AsyncResult[R_co]", self)

    # -- the tasks around it ------------------------------------------------------------------

    @property
    def children(self) -> list[AnyResult] | None:
        """Results of the tasks and groups that it sent; None: nothing is known of any."""
        return self._children(self.document())

    async def achildren(self) -> list[AnyResult] | None:
        """Return the results of the tasks and groups that it sent."""
        return self._children(await self.adocument())

    def _children(self, document: ResultDocument | None) -> list[AnyResult] | None:
        if document is None or document.children is None:
            return None
        # Few programs look at what a task sent.
        from umbel.results.tuples import result_from_tuple  # noqa: PLC0415 - costs start-up time

        make = self._maker()
        return [result_from_tuple(raw, self._source, make=make) for raw in document.children]

    def _maker(self) -> Callable[[str], AsyncResult[Any]] | None:
        """Return what makes the results of its children by their ids; None: they are read."""
        return None

    def as_tuple(self) -> tuple[tuple[str, Any], list[Any] | None]:
        """Return Celery's result tuple, the parents in it."""
        return as_tuple(self._node)

    def as_list(self) -> list[str]:
        """Return the ids of the task and of those before it, the nearest first."""
        return list(dict.fromkeys(each.id for each in upwards((self._node,))))

    def forget(self) -> None:
        """Drop what is stored for the task and for those before it, and end all waiting for it."""
        forget(upwards((self._node,)), self._source)

    async def aforget(self) -> None:
        """Drop what is stored for the task and for those before it; see `forget`."""
        await in_thread(self.forget)

    # -- walks over what it sent --------------------------------------------------------------

    def iterdeps(self, intermediate: bool = False) -> Iterator[tuple[AnyResult | None, AnyResult]]:
        """Yield this result and those of all that descends from it, each after what sent it.

        Args:
            intermediate: Pass over what isn't over yet: what it will send isn't known.
        Returns: Pairs of a parent (None: of this result) and a result.
        Raises: IncompleteStream: a task isn't over, when the next pair is asked for.
        """
        from umbel.results.walk import iterdeps  # noqa: PLC0415 - costs start-up time

        return iterdeps(self._node, intermediate=intermediate)

    def aiterdeps(
        self, intermediate: bool = False
    ) -> AsyncGenerator[tuple[AnyResult | None, AnyResult], None]:
        """Yield what `iterdeps` does, without blocking the event loop."""
        from umbel.results.walk import aiterdeps  # noqa: PLC0415 - costs start-up time

        return aiterdeps(self._node, intermediate=intermediate)

    def collect(self, intermediate: bool = False, **kwargs: Any) -> Iterator[tuple[AnyResult, Any]]:
        """Wait for this result and for all that descends from it, and yield each with its value.

        Args:
            intermediate: As for `iterdeps`.
            kwargs: Passed to each ``get``; `timeout` is for one of them.
        Raises: as `get`.
        """
        for _, result in self.iterdeps(intermediate=intermediate):
            yield result, result.get(**kwargs)

    async def acollect(
        self, intermediate: bool = False, **kwargs: Any
    ) -> AsyncGenerator[tuple[AnyResult, Any], None]:
        """Wait and yield as `collect` does, without blocking the event loop."""
        async for _, result in self.aiterdeps(intermediate=intermediate):
            yield result, await result.aget(**kwargs)

    def get_leaf(self, **kwargs: Any) -> Any:
        """Wait for all that descends from this result, and return the value of the last of it."""
        last = None
        for _, value in self.collect(**kwargs):
            last = value
        return last

    async def aget_leaf(self, **kwargs: Any) -> Any:
        """Wait as `get_leaf` does, without blocking the event loop."""
        last = None
        async for _, value in self.acollect(**kwargs):
            last = value
        return last

    def build_graph(
        self, intermediate: bool = False, formatter: GraphFormatter | None = None
    ) -> DependencyGraph:
        """Return the graph of this result and of all that descends from it, as far as is known.

        Args:
            intermediate: As for `iterdeps`.
            formatter: How to draw it; None: plainly.
        Raises: IncompleteStream: a task isn't over yet.
        """
        from umbel.results.graph import DependencyGraph  # noqa: PLC0415 - costs start-up time

        return DependencyGraph.of(self.iterdeps(intermediate=intermediate), formatter)

    async def abuild_graph(
        self, intermediate: bool = False, formatter: GraphFormatter | None = None
    ) -> DependencyGraph:
        """Return what `build_graph` does, without blocking the event loop."""
        return await in_thread(self.build_graph, intermediate, formatter)

    @property
    def graph(self) -> DependencyGraph:
        """The graph of this result and of all that descends from it."""
        return self.build_graph()


def forget(results: Iterator[AsyncResult[Any]], source: ResultSource) -> None:
    """Drop what is stored for `results`, and what they know of it."""
    ids: dict[str, None] = {}
    for each in results:
        if each._is_stored:  # noqa: SLF001 - of this class
            each._document = None  # noqa: SLF001
            ids[each.id] = None
    if ids:
        source.forget(list(ids))
