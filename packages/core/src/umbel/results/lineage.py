"""What a result stands on: its parents, and the members of groups among them.

Nothing here recurses: a chain of thousands has as many parents, one within the other.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any, TypeAlias

from umbel.results.handle import ResultHandle

if TYPE_CHECKING:
    from umbel.results.async_result import AsyncResult
    from umbel.results.group_result import GroupResult

    #: One of a task, or of a group.
    AnyResult: TypeAlias = AsyncResult[Any] | GroupResult[Any]


def lineage(result: AnyResult) -> Iterator[AnyResult]:
    """Yield the parents of `result`, the nearest first."""
    parent = result.parent
    while parent is not None:
        yield parent
        parent = parent.parent


def upwards(results: Iterable[AnyResult]) -> Iterator[AsyncResult[Any]]:
    """Yield the results of tasks that `results` are, and stand on, each once; parents last."""
    seen: set[int] = set()
    todo = list(results)[::-1]
    while todo:
        result = todo.pop()
        if id(result) in seen:
            continue
        seen.add(id(result))
        if result.parent is not None:
            todo.append(result.parent)
        if isinstance(result, ResultHandle):
            yield result
        else:
            todo += result.results[::-1]


def leaves(results: Iterable[AnyResult]) -> Iterator[AsyncResult[Any]]:
    """Yield `results` in order; in the place of a group, its members."""
    todo = list(results)[::-1]
    while todo:
        result = todo.pop()
        if isinstance(result, ResultHandle):
            yield result
        else:
            todo += result.results[::-1]


def tasks_before(results: Iterable[AnyResult]) -> Iterator[AsyncResult[Any]]:
    """Yield the tasks that must succeed before `results` can, each once.

    Not the members of groups: whether one that failed fails what follows is for the chord to say.
    """
    seen: set[int] = set()
    for result in results:
        for parent in lineage(result):
            if id(parent) in seen:
                break
            seen.add(id(parent))
            if isinstance(parent, ResultHandle):
                yield parent


def as_tuple(result: AnyResult) -> tuple[tuple[str, Any], list[Any] | None]:
    """Return Celery's result tuple, with the parents in it."""
    built: dict[int, Any] = {}
    todo: list[AnyResult] = [result]
    while todo:
        node = todo[-1]
        members = None if isinstance(node, ResultHandle) else node.results
        below = [*([] if node.parent is None else [node.parent]), *(members or ())]
        missing = [each for each in below if id(each) not in built]
        if missing:
            todo += missing
            continue
        todo.pop()
        parent = None if node.parent is None else built[id(node.parent)]
        tuples = None if members is None else [built[id(each)] for each in members]
        built[id(node)] = ((node.id, parent), tuples)
    found: tuple[tuple[str, Any], list[Any] | None] = built[id(result)]
    return found
