"""The members of a set of results, and what is stored of them now, read a thousand in a call."""
# ruff: noqa: SLF001 - results look into each other, all of one family

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Generic, overload

from umbel.argument_checks import no_result
from umbel.errors import WrongTypeError
from umbel.off_loop import in_thread
from umbel.results.async_result import AsyncResult
from umbel.results.handle import R_co, ValueCallback
from umbel.results.lineage import leaves, upwards
from umbel.results.node import forget
from umbel.results.progress import GroupProgress
from umbel.results.source import NO_SOURCE, ResultSource, source_of
from umbel.results.waiting import chunks
from umbel.states import FAILURE, PENDING, SUCCESS, is_final

if TYPE_CHECKING:
    from umbel.results.group_result import GroupResult
    from umbel.results.lineage import AnyResult


def checked_results(given: Iterable[Any]) -> list[Any]:
    """Return a list of results.

    Raises: WrongTypeError: they aren't several, or something else is among them.
    """
    if isinstance(given, (str, bytes, Mapping)) or not isinstance(given, Iterable):
        raise WrongTypeError(
            f"a list of results is wanted, as task.delay() and group() return, not {given!r:.80}"
        )
    found = list(given)
    for kind in set(map(type, found)):  # of a thousand members, nearly always one
        if not hasattr(kind, "as_tuple"):
            wrong = next(each for each in found if type(each) is kind)
            raise no_result(wrong)
    return found


class ResultMembers(Generic[R_co]):
    """What a `ResultSet` is made of, and what is stored of it. Not for use by itself."""

    __slots__ = ("__weakref__", "_given_source", "results")

    #: How results are read where neither the caller nor a member says; None: as the current app's.
    _default_source: ClassVar[ResultSource | None] = None

    def __init__(
        self,
        results: Iterable[AsyncResult[R_co] | GroupResult[Any]] = (),
        *,
        source: ResultSource | None = None,
    ) -> None:
        self.results: list[AsyncResult[R_co] | GroupResult[Any]] = checked_results(results)
        self._given_source = source

    @property
    def _source(self) -> ResultSource:
        given = self._given_source or self._default_source
        if given is not None:
            return given
        found: ResultSource | None = None
        for leaf in leaves(self.results):
            if leaf._is_stored:
                return leaf._source
            found = found or leaf._source
        return found or (NO_SOURCE if self.results else source_of())

    @property
    def _what(self) -> str:
        """What an error calls it."""
        return "the set"

    def _before(self) -> Sequence[AnyResult]:
        """Return results whose parents must succeed before all members can."""
        return self.results

    @property
    def supports_native_join(self) -> bool:
        """Celery's flag of results that are joined by what the backend tells."""
        return bool(self.results) and self.results[0].supports_native_join

    # -- members ------------------------------------------------------------------------------

    def add(self, result: AsyncResult[Any] | GroupResult[Any]) -> None:
        """Add a member, unless it is one. Raises: WrongTypeError: it is no result."""
        checked_results((result,))
        if result not in self.results:
            self.results.append(result)

    def update(self, results: Iterable[AsyncResult[Any] | GroupResult[Any]]) -> None:
        """Add members; those that are there already are passed over.

        Raises: WrongTypeError: one of them is no result.
        """
        known = {each.id for each in self.results}
        for each in checked_results(results):
            if each.id not in known:
                known.add(each.id)
                self.results.append(each)

    def remove(self, result: AsyncResult[Any] | GroupResult[Any] | str) -> None:
        """Take a member out, by itself or by its id. Raises: KeyError: it is none."""
        try:
            self.results.remove(result)  # type: ignore[arg-type]  # a result is equal to its id
        except ValueError:
            raise KeyError(result) from None

    def discard(self, result: AsyncResult[Any] | GroupResult[Any] | str) -> None:
        """Take a member out, if it is one."""
        if result in self.results:
            self.remove(result)

    def clear(self) -> None:
        """Take all members out."""
        self.results.clear()

    @property
    def children(self) -> list[AsyncResult[R_co] | GroupResult[Any]]:
        """The members, under the name that results of tasks have for what they sent."""
        return self.results

    def as_list(self) -> list[str]:
        """Return the ids of all tasks in it and of those before them, each once."""
        return list(dict.fromkeys(each.id for each in self._upwards()))

    def _upwards(self) -> Iterator[AsyncResult[Any]]:
        return upwards(self.results)

    def __iter__(self) -> Iterator[AsyncResult[R_co] | GroupResult[Any]]:
        return iter(self.results)

    @overload
    def __getitem__(self, index: int) -> AsyncResult[R_co] | GroupResult[Any]: ...
    @overload
    def __getitem__(self, index: slice) -> list[AsyncResult[R_co] | GroupResult[Any]]: ...
    def __getitem__(self, index: int | slice) -> Any:
        return self.results[index]

    def __len__(self) -> int:
        return len(self.results)

    def __eq__(self, other: object) -> bool:
        return self.results == other.results if isinstance(other, ResultMembers) else NotImplemented

    __hash__ = None  # type: ignore[assignment]  # members come and go

    def __repr__(self) -> str:
        return f"<{type(self).__name__}: [{', '.join(each.id for each in self.results)}]>"

    # -- what is stored -----------------------------------------------------------------------

    def _states(self) -> Iterator[list[str]]:
        """Yield states of the tasks, many at once; those that aren't known yet are read.

        What was sent last comes first: it tells soonest that not all are over.
        """
        tasks = [leaf for leaf in leaves(self.results) if not leaf.ignored]
        yield [leaf._document.status for leaf in tasks if leaf._document is not None]
        missing = {leaf.id: leaf for leaf in tasks[::-1] if leaf._document is None}
        for ids in chunks(missing):
            found = self._source.load(ids)
            documents = [missing[task_id]._kept(found.get(task_id)) for task_id in ids]
            yield [PENDING if each is None else each.status for each in documents]

    def ready(self) -> bool:
        """Tell whether all tasks are over."""
        return all(is_final(state) for states in self._states() for state in states)

    def waiting(self) -> bool:
        """Tell whether some task isn't over."""
        return not self.ready()

    def successful(self) -> bool:
        """Tell whether all tasks returned."""
        return all(state == SUCCESS for states in self._states() for state in states)

    def failed(self) -> bool:
        """Tell whether some task failed."""
        return any(state == FAILURE for states in self._states() for state in states)

    def completed_count(self) -> int:
        """Return how many tasks returned; each is read unless the backend counts them."""
        return self.progress().completed

    def progress(self) -> GroupProgress:
        """Return how many tasks are over; each is read unless the backend counts them."""
        states = [state for some in self._states() for state in some]
        failed = sum(is_final(state) and state != SUCCESS for state in states)
        return GroupProgress(len(states), states.count(SUCCESS) + failed, failed)

    def maybe_throw(self, callback: ValueCallback | None = None, propagate: bool = True) -> None:
        """Raise the error of the first task that failed, if one did. Doesn't wait.

        Args:
            callback: Called with id and value of each task before that, None where none is known.
            propagate: Without it, nothing is raised, and the error is a value.
        """
        for _ in self._states():
            pass
        for leaf in leaves(self.results):
            if leaf._document is not None:
                leaf._conclude(leaf._document, propagate, callback)
            elif callback is not None:
                callback(leaf.id, None)

    def maybe_reraise(self, callback: ValueCallback | None = None, propagate: bool = True) -> None:
        """Celery's other name for `maybe_throw`."""
        self.maybe_throw(callback, propagate)

    def forget(self) -> None:
        """Drop what is stored for all tasks in it and before them, and end all waiting for them."""
        forget(self._upwards(), self._source)

    # -- twins --------------------------------------------------------------------------------

    async def aready(self) -> bool:
        """Tell whether all tasks are over."""
        return await in_thread(self.ready)

    async def asuccessful(self) -> bool:
        """Tell whether all tasks returned."""
        return await in_thread(self.successful)

    async def afailed(self) -> bool:
        """Tell whether some task failed."""
        return await in_thread(self.failed)

    async def acompleted_count(self) -> int:
        """Return how many tasks returned."""
        return await in_thread(self.completed_count)

    async def aprogress(self) -> GroupProgress:
        """Return how many tasks are over."""
        return await in_thread(self.progress)

    async def aforget(self) -> None:
        """Drop what is stored for all tasks in it and before them."""
        await in_thread(self.forget)

    async def awaiting(self) -> bool:
        """Tell whether some task isn't over."""
        return await in_thread(self.waiting)

    async def amaybe_throw(
        self, callback: ValueCallback | None = None, propagate: bool = True
    ) -> None:
        """Raise the error of the first task that failed, if one did; see `maybe_throw`."""
        await in_thread(self.maybe_throw, callback, propagate)
