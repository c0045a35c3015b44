"""What a chain ends with, as a header of each of its messages tells it.

Where a body can't be read, what waits for the chain's end still learns of it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple

from umbel.canvas.forms import end_of, has_one_end
from umbel.canvas.options import COUNTED
from umbel.signatures import Signature

#: Header: an `End` as a list.
ENDS: Final = "umbel_ends"


class End(NamedTuple):
    """The last call of a chain."""

    task_id: str
    #: What it is a part of.
    group_id: str | None = None
    group_index: int | None = None
    #: Its group is no chord: its end is only counted.
    is_counted: bool = False


def end_header(steps: Sequence[Mapping[str, Any]]) -> list[Any] | None:
    """Return what the header says of the steps that remain, the next one last.

    None where they end with several calls, or with one that has no id.
    """
    last = steps[0]
    options = last["options"]
    if last["subtask_type"] in {"chain", "group", "chord"}:
        signature = Signature.from_dict(last)
        if not has_one_end(signature):
            return None
        names = ("task_id", "group_id", "group_index", "chord", COUNTED)
        options = {name: end_of(signature, name) for name in names}
    task_id = options.get("task_id")
    if not task_id:
        return None
    if options.get("chord") is None and not options.get(COUNTED):
        return [task_id]
    is_counted = options.get("chord") is None
    return [task_id, options.get("group_id"), options.get("group_index"), is_counted]


def read_end(value: Any) -> End | None:
    """Return what the header says; None where it says nothing that can be used."""
    if not isinstance(value, list) or not 1 <= len(value) <= len(End._fields):
        return None
    padded: list[Any] = [*value, None, None, None]
    task_id, group_id, index, is_counted, *_ = padded
    if not isinstance(task_id, str) or not isinstance(group_id, str | None):
        return None
    if isinstance(index, bool) or not isinstance(index, int | None):
        return None
    return End(task_id, group_id, index, bool(is_counted))
