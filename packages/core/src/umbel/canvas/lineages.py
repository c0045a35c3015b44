"""Result tuples with no more parents than a reader of JSON bears, since they lie in each other."""

from __future__ import annotations

from typing import Any, Final

#: Parents that are told of: each is two levels of JSON.
_MOST: Final = 32


def shortened(result: Any) -> Any:
    """Return a result tuple of ours with the nearest parents only."""
    (task_id, parent), members = result
    if parent is None and members is None:
        return result
    if members is not None:
        members = [shortened(each) for each in members]
    kept: list[Any] = []
    while parent is not None and len(kept) < _MOST:
        kept.append(parent)
        parent = parent[0][1]
    above = None
    for (parent_id, _), below in reversed(kept):
        alone = None if below is None else [[[each[0][0], None], each[1]] for each in below]
        above = [[parent_id, above], alone]
    return [[task_id, above], members]
