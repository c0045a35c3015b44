"""What a backend keeps of a group that is saved: Celery's document, its result tuple in JSON."""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING, Any, Final

import msgspec

from umbel.errors import DecodeError
from umbel.results.handle import ResultHandle
from umbel.results.lineage import as_tuple, leaves, lineage

if TYPE_CHECKING:
    from umbel.results.group_result import GroupResult
    from umbel.results.lineage import AnyResult

#: Parents lie within each other, and readers of JSON bear some hundred levels.
_MOST_PARENTS: Final = 100


def encode_group(group: GroupResult[Any]) -> bytes:
    """Return the document of a group. Of each member's parents, the nearest hundred are kept."""
    every: list[AnyResult] = [group, *leaves(group.results)]
    is_deep = any(_parents(each, _MOST_PARENTS + 1) > _MOST_PARENTS for each in every)
    return msgspec.json.encode({"result": _shallow(group) if is_deep else as_tuple(group)})


def decode_group(document: bytes) -> Any:
    """Return the result tuple in a document. Raises: DecodeError."""
    try:
        raw = msgspec.json.decode(document)
    except (msgspec.DecodeError, RecursionError) as exc:
        raise DecodeError(f"what is stored of a group is no JSON: {exc}") from exc
    if not isinstance(raw, dict) or "result" not in raw:
        raise DecodeError(
            f"what is stored of a group must be an object with 'result', not {raw!r:.80}"
        )
    return raw["result"]


def _parents(result: AnyResult, most: int) -> int:
    return sum(1 for _ in islice(lineage(result), most))


def _shallow(result: AnyResult) -> Any:
    above: Any = None
    for parent in list(islice(lineage(result), _MOST_PARENTS))[::-1]:
        is_task = isinstance(parent, ResultHandle)
        members = None if is_task else [((each.id, None), None) for each in leaves((parent,))]
        above = ((parent.id, above), members)
    members = None if isinstance(result, ResultHandle) else [_shallow(m) for m in result.results]
    return (result.id, above), members
