"""What a broker lists, page by page: dead letters, delayed messages. Walk through it, or name some.

A broker knows pages by their offset alone, and what others do moves the offsets. So each page
overlaps the one before: where nothing in it is known, some were taken out meanwhile, and the walk
steps back until it meets what it knows. Nothing that stays is passed over or met twice.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Generic, Protocol, TypeVar

from umbel.errors import BrokerError
from umbel.messages import Malformed, Message

#: How many are in memory at once.
PAGE = 100
#: Characters that the beginning of an id needs to stand for it: receipts may be short numbers.
SHORTEST_PREFIX = 4


class Listed(Protocol):
    """A message as it is listed."""

    @property
    def message(self) -> Message | Malformed:
        """What it is."""

    @property
    def receipt(self) -> str:
        """Names it in calls of the broker."""


L = TypeVar("L", bound=Listed)
L_co = TypeVar("L_co", bound=Listed, covariant=True)


class Fetch(Protocol[L_co]):
    """A broker's method that returns a page."""

    def __call__(self, queue: str | None, /, *, limit: int, offset: int) -> Sequence[L_co]:
        """Return a page of what is in `queue`, or in all."""


class Walk(Generic[L]):
    """One walk. Only the receipts of what it has met are remembered."""

    def __init__(self, fetch: Fetch[L], queue: str | None, *, page: int = PAGE) -> None:
        """Go through what `fetch` lists of `queue`, or of all."""
        self._fetch, self._queue, self._page = fetch, queue, page
        self._met: set[str] = set()
        self._offset = 0

    def __iter__(self) -> Iterator[list[L]]:
        """Go on with the next page of what wasn't met yet."""
        step = self._page - 1
        while True:
            found = self._fetch(self._queue, limit=self._page, offset=self._offset)
            new = [one for one in found if one.receipt not in self._met]
            if self._offset and len(new) == len(found):
                self._offset = max(0, self._offset - step)
                continue
            if not new and len(found) < self._page:
                return
            self._offset += max(0, len(found) - 1)
            if new:
                self._met.update(one.receipt for one in new)
                yield new

    def removed(self, receipts: Iterable[str]) -> None:
        """Note that these, all met, aren't listed any more: those behind them move up."""
        before = len(self._met)
        self._met.difference_update(receipts)
        self._offset = max(0, self._offset - (before - len(self._met)))


def task_of(one: Listed) -> str | None:
    """Return the name of its task; None where it can't be read."""
    return None if isinstance(one.message, Malformed) else one.message.task


def id_of(one: Listed) -> str | None:
    """Return the id of its task; None where it can't be read."""
    return None if isinstance(one.message, Malformed) else one.message.id


class Named(Generic[L]):
    """Finds what is listed by task id, by the beginning of one, or by receipt.

    Args:
        names: What to look for.
        kind: What it is to people: ``"dead letter"``.
        error: Raised where a name stands for none, or for several.
    """

    def __init__(
        self, names: Iterable[str], kind: str, error: Callable[[str], BrokerError]
    ) -> None:
        self._found: dict[str, list[L]] = {name: [] for name in names}
        self._kind, self._error = kind, error
        #: Names that are receipts stand for nothing else.
        self._receipts: set[str] = set()

    def offer(self, one: L) -> None:
        """Look at one of all that there are."""
        task_id = id_of(one) or ""
        for name, found in self._found.items():
            if name == one.receipt:
                found[:] = [one]
                self._receipts.add(name)
            elif name not in self._receipts and _stands_for(name, task_id):
                found.append(one)

    def chosen(self) -> list[L]:
        """Return what was found, in the order of the names, each once.

        Raises: the `error`: a name stands for none, or for several.
        """
        chosen: dict[str, L] = {}
        for name, found in self._found.items():
            exact = [one for one in found if id_of(one) == name] or found
            if not exact:
                raise self._error(
                    f"there is no {self._kind} {name!r}; name one by its task's id, the first "
                    f"{SHORTEST_PREFIX} or more characters of it, or its receipt"
                )
            if len(exact) > 1:
                shown = ", ".join(f"{one.receipt} ({id_of(one)})" for one in exact[:5])
                raise self._error(
                    f"{name!r} stands for {len(exact)} {self._kind}s; name one by its receipt: "
                    f"{shown}{' …' if len(exact) > 5 else ''}"
                )
            chosen[exact[0].receipt] = exact[0]
        return list(chosen.values())


def _stands_for(name: str, task_id: str) -> bool:
    return task_id == name or (len(name) >= SHORTEST_PREFIX and task_id.startswith(name))
