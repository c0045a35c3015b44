"""The result of a group: its members' results, under the group's id."""
# ruff: noqa: SLF001 - results look into each other, all of one family

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from umbel.argument_checks import no_result, text
from umbel.errors import DecodeError, WrongTypeError
from umbel.off_loop import in_thread
from umbel.results.handle import R_co
from umbel.results.lineage import as_tuple, leaves, lineage, upwards
from umbel.results.progress import GroupProgress
from umbel.results.result_set import ResultSet
from umbel.results.saved_groups import decode_group, encode_group
from umbel.results.source import HasResults, ResultSource, source_of

if TYPE_CHECKING:
    from umbel.interfaces.backend import Backend
    from umbel.results.async_result import AsyncResult
    from umbel.results.lineage import AnyResult


class GroupResult(ResultSet[R_co]):
    """The results of a group, there already or still to come.

    Args:
        id: The group's id.
        results: Its members.
        parent: The result of the step before it, in a chain.
        source: How to read them; None: as the members are.
    """

    __slots__ = ("id", "parent")

    def __init__(
        self,
        id: str,
        results: Iterable[AsyncResult[R_co] | GroupResult[Any]] = (),
        parent: AnyResult | None = None,
        *,
        source: ResultSource | None = None,
    ) -> None:
        super().__init__(results, source=source)
        if parent is not None and not hasattr(parent, "as_tuple"):
            raise no_result(parent)
        self.id, self.parent = text("the id of a group", id), parent

    @property
    def _what(self) -> str:
        return f"group {self.id!r}"

    def _before(self) -> Sequence[AnyResult]:
        return (self, *self.results)

    def _upwards(self) -> Iterator[AsyncResult[Any]]:
        return upwards((self,))

    def _own_tasks(self) -> Iterator[AsyncResult[Any]]:
        above = {each.id for each in upwards(lineage(self))}
        return (each for each in upwards(self.results) if each.id not in above)

    def progress(self) -> GroupProgress:
        """Return how many tasks are over, in one call where the backend counts them."""
        if any(leaf._is_awaited for leaf in leaves(self.results)):
            known = self._source.progress(self.id)
            if known is not None:
                return GroupProgress(known.size, known.done, known.failed)
        return super().progress()

    def as_tuple(self) -> tuple[tuple[str, Any], list[Any] | None]:
        """Return Celery's result tuple, the parents in it."""
        return as_tuple(self)

    def __eq__(self, other: object) -> bool:
        if isinstance(other, GroupResult):
            return (self.id, self.results, self.parent) == (other.id, other.results, other.parent)
        return self.id == other if isinstance(other, str) else NotImplemented

    def __hash__(self) -> int:  # type: ignore[override]  # unlike a set, it has an id
        return hash(self.id)

    def __bool__(self) -> bool:
        return True  # also without members

    def __str__(self) -> str:
        return self.id

    def __repr__(self) -> str:
        return f"<{type(self).__name__}: {self.id} [{', '.join(each.id for each in self.results)}]>"

    # -- kept for later -----------------------------------------------------------------------

    def save(self) -> None:
        """Keep what the group is made of, for `restore`; as long as results are kept.

        Raises: BackendUnavailableError: the backend can't be reached now.
        """
        source = self._source
        source.backend().save_group(self.id, encode_group(self), ttl_s=source.group_ttl_s)

    async def asave(self) -> None:
        """Keep what the group is made of; see `save`."""
        await in_thread(self.save)

    def delete(self) -> None:
        """Drop what was saved of the group; its members' results stay."""
        self._source.backend().delete_group(self.id)

    async def adelete(self) -> None:
        """Drop what was saved of the group; its members' results stay."""
        await in_thread(self.delete)

    @classmethod
    def restore(
        cls, id: str, backend: Backend | None = None, app: ResultSource | HasResults | None = None
    ) -> GroupResult[Any] | None:
        """Return a group that was saved; None where nothing is kept of it, or no longer.

        Args:
            id: The group's id.
            backend: Where to look; None: where the app keeps results.
            app: Whose results they are; None: of the current app.
        Raises: BackendUnavailableError, DecodeError; WrongTypeError: one of these is none.
        """
        text("the id of a group", id)
        if backend is not None and not hasattr(backend, "load_group"):
            raise WrongTypeError(f"a result backend is wanted, as app.backend, not {backend!r:.80}")
        # Few programs restore groups.
        from umbel.results.tuples import result_from_tuple  # noqa: PLC0415 - costs start-up time

        source = source_of(app or cls._default_source)
        document = (source.backend() if backend is None else backend).load_group(id)
        if document is None:
            return None
        found = result_from_tuple(decode_group(document), source)
        if not isinstance(found, GroupResult):
            raise DecodeError(f"what is stored as group {id!r} is the result of a task")
        return found

    @classmethod
    async def arestore(
        cls, id: str, backend: Backend | None = None, app: ResultSource | HasResults | None = None
    ) -> GroupResult[Any] | None:
        """Return a group that was saved; see `restore`."""
        return await in_thread(cls.restore, id, backend, app)


def for_app(source: ResultSource) -> type[GroupResult[Any]]:
    """Return the class whose groups, where nothing else is said, are read by `source`."""
    return type("GroupResult", (GroupResult,), {"__slots__": (), "_default_source": source})
