"""What waits for its time in an app's queues: find it, let it run now, drop it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from fnmatch import fnmatchcase
from itertools import islice
from typing import TYPE_CHECKING, Protocol, TypedDict, Unpack

from umbel.errors import DelayedError, near_matches
from umbel.listed import Named, Walk, id_of, task_of
from umbel.messages import Delayed
from umbel.off_loop import in_thread

if TYPE_CHECKING:
    from umbel.interfaces.broker import Broker

#: Messages that `afind` returns, unless told otherwise.
_LIMIT = 100


class DelayedFilter(TypedDict, total=False):
    """Which delayed messages; all that are given must fit."""

    queue: str | None
    #: The task's name, or a pattern such as ``"shop.*"``.
    task: str | None


_FIELDS = tuple(DelayedFilter.__annotations__)


class Keeper(Protocol):
    """What delayed messages need of an app."""

    @property
    def broker(self) -> Broker:
        """This process's handle of the broker."""


class DelayedMessages:
    """What waits for its time: a countdown or eta, or the next try. At ``app.delayed``.

    A message is named by its task's id, by the first characters of it, or by its receipt. All
    goes page by page: any number may wait, and others may send, promote and drop at the same time.
    """

    def __init__(self, app: Keeper) -> None:
        self._app = app

    def find(
        self, *, limit: int | None = None, **given: Unpack[DelayedFilter]
    ) -> Iterator[Delayed]:
        """Go through the messages that fit, next due first. See `DelayedFilter`.

        Args:
            limit: How many at most; None: all.
            **given: Which ones.
        Raises: CapabilityError: the broker can't list them.
        """
        return islice((one for page in self._pages(given)[1] for one in page), limit)

    def __iter__(self) -> Iterator[Delayed]:
        """Go through all of them, next due first."""
        return self.find()

    def count(self, **given: Unpack[DelayedFilter]) -> int:
        """Return how many messages fit."""
        return sum(1 for _ in self.find(**given))

    def get(self, name: str) -> Delayed:
        """Return one message. Raises: DelayedError: there is none of that name, or several."""
        return self._named([name])[0]

    def promote(
        self, names: str | Iterable[str] | None = None, *, where: DelayedFilter | None = None
    ) -> int:
        """Let messages run now, as soon as a worker is free; returns how many.

        Args:
            names: Which messages; None: all that fit `where`, each task once.
            where: A filter, where no names are given.
        Raises:
            DelayedError: a name stands for none, or for several messages; nothing was done.
            CapabilityError: the broker can't.
            BrokerUnavailableError: some may have been promoted.
        """
        return self._change(self._app.broker.promote, names, where or {})

    def drop(
        self, names: str | Iterable[str] | None = None, *, where: DelayedFilter | None = None
    ) -> int:
        """Drop messages for good; returns how many. Their tasks stay PENDING, or RETRY.

        Args: as `promote`.
        Raises: as `promote`.
        """
        return self._change(self._app.broker.drop_delayed, names, where or {})

    # -- from coroutines ------------------------------------------------------------------------

    async def afind(
        self, *, limit: int | None = _LIMIT, **given: Unpack[DelayedFilter]
    ) -> list[Delayed]:
        """Return what `find` finds, as a list, without blocking the event loop."""
        return await in_thread(lambda: list(self.find(limit=limit, **given)))

    async def acount(self, **given: Unpack[DelayedFilter]) -> int:
        """Count as `count` does, without blocking the event loop."""
        return await in_thread(lambda: self.count(**given))

    async def aget(self, name: str) -> Delayed:
        """Return what `get` returns, without blocking the event loop."""
        return await in_thread(self.get, name)

    async def apromote(
        self, names: str | Iterable[str] | None = None, *, where: DelayedFilter | None = None
    ) -> int:
        """Promote as `promote` does, without blocking the event loop."""
        return await in_thread(self.promote, names, where=where)

    async def adrop(
        self, names: str | Iterable[str] | None = None, *, where: DelayedFilter | None = None
    ) -> int:
        """Drop as `drop` does, without blocking the event loop."""
        return await in_thread(self.drop, names, where=where)

    # -- inside ---------------------------------------------------------------------------------

    def _change(
        self,
        change: Callable[[Sequence[str]], int],
        names: str | Iterable[str] | None,
        where: DelayedFilter,
    ) -> int:
        if names is not None:
            chosen = self._named([names] if isinstance(names, str) else list(names))
            return change([one.receipt for one in chosen])
        changed = 0
        # What fails and waits for its next try, or sends itself anew, isn't run without end.
        ids: set[str] = set()
        walk, pages = self._pages(where)
        for page in pages:
            some = [one for one in page if (id_of(one) or one.receipt) not in ids]
            ids.update(id_of(one) or one.receipt for one in some)
            receipts = [one.receipt for one in some]
            changed += change(receipts)
            walk.removed(receipts)
        return changed

    def _pages(self, given: DelayedFilter) -> tuple[Walk[Delayed], Iterator[list[Delayed]]]:
        for name in given:
            if name not in _FIELDS:
                close = near_matches(name, _FIELDS, limit=1)
                hint = f"did you mean {close[0]!r}?" if close else f"there are {', '.join(_FIELDS)}"
                raise DelayedError(f"delayed messages can't be chosen by {name!r}; {hint}")
        walk = Walk(self._app.broker.delayed, given.get("queue"))
        task = given.get("task")
        if task is None:
            return walk, iter(walk)
        return walk, (
            [one for one in page if fnmatchcase(task_of(one) or "", task)] for page in walk
        )

    def _named(self, names: Sequence[str]) -> list[Delayed]:
        named: Named[Delayed] = Named(names, "delayed message", DelayedError)
        for one in self:
            named.offer(one)
        return named.chosen()
