"""Waiting for many results at once on the caller's own thread: the loop inside ``join``."""

# ruff: noqa: SLF001 - results look into each other, all of one family

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

import msgspec

from umbel.errors import BackendUnavailableError, ResultTimeoutError
from umbel.results.codec import ResultDocument
from umbel.results.lineage import tasks_before
from umbel.results.polling import Polling
from umbel.results.source import ResultSource
from umbel.states import is_final

if TYPE_CHECKING:
    from umbel.results.async_result import AsyncResult
    from umbel.results.lineage import AnyResult

_NAMED = 3


class Missing:
    """Those members of a set, and tasks before them, of which it isn't known how they ended.

    Args:
        members: What is waited for; those that are over, or ignored, are passed over.
        before: Results that may stand on tasks which must succeed first.
    """

    def __init__(
        self, members: Iterable[AsyncResult[Any]], before: Iterable[AnyResult] = ()
    ) -> None:
        self._members: dict[str, list[AsyncResult[Any]]] = {}
        #: Of how many some may be missing.
        self.size = 0
        for member in members:
            self.size += 1
            if member._is_awaited:
                self._members.setdefault(member.id, []).append(member)
        self._before = before
        self._parents: dict[str, AsyncResult[Any]] | None = None

    def __len__(self) -> int:
        return len(self._members)

    def ids(self) -> list[str]:
        """Return the ids of members, in order."""
        return list(self._members)

    def parent_ids(self) -> list[str]:
        """Return the ids of tasks before them; those that are over are left out."""
        if self._parents is None:
            found = tasks_before(self._before)
            self._parents = {each.id: each for each in found if each._is_awaited}
        return list(self._parents)

    def take(self, seen: Mapping[str, ResultDocument]) -> list[AsyncResult[Any]]:
        """Keep what was `seen`; return the members that are over by it, in order as seen.

        Raises: Exception: the error of a task before them.
        """
        arrived: list[AsyncResult[Any]] = []
        for task_id, document in seen.items():
            if not is_final(document.status):
                continue
            for member in self._members.pop(task_id, ()):
                member._kept(document)
                arrived.append(member)
            if self._parents and (parent := self._parents.pop(task_id, None)) is not None:
                parent._raise_failure(document)
        return arrived

    def timeout(
        self, what: str, timeout_s: float, outage: BackendUnavailableError | None
    ) -> ResultTimeoutError:
        """Return what to raise where they didn't come in time."""
        ids = self.ids()
        named = ", ".join(repr(task_id) for task_id in ids[:_NAMED])
        more = ", …" if len(ids) > _NAMED else ""
        text = (
            f"{len(ids)} of {self.size} results of {what} are missing after {timeout_s:g} s: "
            f"{named}{more}"
        )
        if outage is not None:
            text += f"; the result backend can't be reached: {outage}"
        error = ResultTimeoutError(text)
        error.__cause__ = outage
        return error


def arrivals(
    missing: Missing,
    source: ResultSource,
    what: str,
    *,
    timeout_s: float | None,
    interval_s: float | None,
    on_interval: Callable[[], object] | None,
    on_message: Callable[[dict[str, Any]], object] | None,
) -> Iterator[list[AsyncResult[Any]]]:
    """Yield members as they end, as many at once as there are, until none is missing.

    Raises:
        ResultTimeoutError: some are missing after `timeout_s`.
        BackendError: the backend can't be used, and trying again won't help.
        Exception: the error of a task before them.
    """
    if not missing:
        return
    polling = Polling(
        source,
        missing.ids,
        aside=missing.parent_ids,
        timeout_s=timeout_s,
        interval_s=interval_s,
        on_interval=on_interval,
        loads_first=False,
    )
    for seen in polling:
        if on_message is not None:
            for task_id in seen.keys() & set(missing.ids()):
                on_message(msgspec.structs.asdict(seen[task_id]))
        if arrived := missing.take(seen):
            yield arrived
        if not missing:
            return
    raise missing.timeout(what, timeout_s or 0.0, polling.outage)
