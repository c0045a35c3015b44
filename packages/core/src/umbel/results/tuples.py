"""Celery's result tuples made results again: ``[[id, parent], children]``."""

from __future__ import annotations

import reprlib
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

from umbel.errors import DecodeError
from umbel.results.async_result import AsyncResult
from umbel.results.group_result import GroupResult
from umbel.results.source import HasResults, ResultSource, source_of

if TYPE_CHECKING:
    from umbel.results.lineage import AnyResult


def result_from_tuple(
    raw: Any,
    source: ResultSource | HasResults | None = None,
    *,
    make: Callable[[str], AsyncResult[Any]] | None = None,
) -> AnyResult:
    """Return the result that a result tuple, or an id, stands for.

    Args:
        raw: What `as_tuple` returned, or its JSON. A result is returned as it is.
        source: The app, or how to read its results; None: the current app.
        make: Makes the result of one task by its id.
    Raises: DecodeError: `raw` is no result tuple.
    """
    if isinstance(raw, (AsyncResult, GroupResult)):
        return raw
    reading = source_of(source)
    made = make or (lambda task_id: AsyncResult(task_id, reading))
    # By identity, and without recursion: a chain of thousands is as deep.
    built: dict[int, AnyResult] = {}
    todo = [raw]
    while todo:
        each = todo[-1]
        if isinstance(each, (AsyncResult, GroupResult)):
            built[id(each)] = each
        if id(each) in built:
            todo.pop()
            continue
        task_id, parent, members = parts_of(each)
        below = [*([] if parent is None else [parent]), *(members or ())]
        for part in below:
            if id(part) not in built and (alone := _alone(part)) is not None:
                built[id(part)] = made(alone)
        missing = [part for part in below if id(part) not in built]
        if missing:
            todo += missing
            continue
        above = None if parent is None else built[id(parent)]
        if members is None:
            result = made(task_id)
            result.parent = above
            built[id(each)] = result
        else:
            results = [built[id(part)] for part in members]
            built[id(each)] = GroupResult(task_id, results, parent=above, source=reading)
        todo.pop()
    return built[id(raw)]


def _alone(raw: Any) -> str | None:
    """Return the id in a result tuple that has nothing else; nearly all members of groups do."""
    if type(raw) is not list or len(raw) != 2 or raw[1] is not None or type(raw[0]) is not list:
        return None
    task_id = raw[0][0] if len(raw[0]) == 2 and raw[0][1] is None else None
    return task_id if type(task_id) is str and task_id else None


class Parts(NamedTuple):
    """What a result tuple says."""

    task_id: str
    parent: Any
    members: list[Any] | tuple[Any, ...] | None


def parts_of(raw: Any) -> Parts:
    """Take a result tuple, or an id, apart. Raises: DecodeError."""
    match raw:
        case str(task_id) if task_id:
            return Parts(task_id, None, None)
        case [[str(task_id), parent], None | [*_] as members] if task_id:
            return Parts(task_id, parent or None, members)
        case [str(task_id), None | [*_] as members] if task_id:
            return Parts(task_id, None, members)
    raise DecodeError(f"a result must be a result tuple or an id, not {reprlib.repr(raw)}")
