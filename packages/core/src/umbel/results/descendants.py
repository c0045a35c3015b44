"""What descends from tasks and groups, as far as it is stored: what they sent, what that sent, …"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from umbel.errors import SerializationError
from umbel.results.codec import ResultDocument
from umbel.results.source import ResultSource
from umbel.results.tuples import parts_of
from umbel.results.waiting import chunks
from umbel.states import is_final


def descendants(source: ResultSource, ids: Iterable[str]) -> Iterator[list[str]]:
    """Yield the ids of what descends from `ids` and isn't over, many at once.

    Groups are among them, over or not. What a task has sent is stored when it is over, so that of
    one that runs nothing is known yet.

    Raises: BackendError: results can't be read.
    """
    seen = set(ids)
    frontier, are_given = list(seen), True
    while frontier:
        below: list[str] = []
        for batch in chunks(frontier):
            found = _load(source, batch)
            stopped: list[str] = []
            if not are_given:
                stopped += (
                    each for each in batch if each not in found or not is_final(found[each].status)
                )
            for document in found.values():
                for child in document.children or ():
                    _collect(child, seen, below, stopped)
            if stopped:
                yield stopped
        frontier, are_given = below, False


def _collect(raw: Any, seen: set[str], tasks: list[str], groups: list[str]) -> None:
    """Add what a result tuple holds, parents and members among it, and wasn't seen yet."""
    todo = [raw]
    while todo:
        try:
            task_id, parent, members = parts_of(todo.pop())
        except SerializationError:
            continue  # written by somebody else: nothing that is known to run
        todo += [*([] if parent is None else [parent]), *(members or ())]
        if task_id not in seen:
            seen.add(task_id)
            (tasks if members is None else groups).append(task_id)


def _load(source: ResultSource, ids: list[str]) -> dict[str, ResultDocument]:
    """Return what is stored; without those that can't be read."""
    try:
        return source.load(ids)
    except SerializationError:
        if len(ids) == 1:
            return {}
    found: dict[str, ResultDocument] = {}
    for each in ids:
        found.update(_load(source, [each]))
    return found
