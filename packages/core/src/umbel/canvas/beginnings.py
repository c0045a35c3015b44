"""What a task is told of as its children: what it sent begins, and from there all else is found."""

from __future__ import annotations

from typing import Any

from umbel.canvas.forms import body_of, end_of, flat
from umbel.canvas.primitives import chain, chord, group
from umbel.signatures import Signature


def beginnings(signature: Signature[Any]) -> list[Any]:
    """Return the result tuples of what a frozen signature begins with.

    Of a chain it is the first step, which tells of the next; of a chord the group that is its
    header, and what its body begins with, since no member knows whether it will be the last.
    """
    match signature:
        case chain() if signature.tasks:
            first, *rest = signature.unchain_tasks()
            found = beginnings(first)
            # A group tells of nothing that comes after it.
            return found + beginnings(rest[0]) if rest and isinstance(first, group) else found
        case group():
            found = [_group(signature)]
            after = signature.options.get("chain")
            return found + beginnings(Signature.from_dict(after[-1])) if after else found
        case chord():
            return [_group(signature.header), *beginnings(body_of(signature))]
    return [[[end_of(signature, "task_id"), None], None]]


def _group(signature: group) -> Any:
    ends = [end_of(each, "task_id") for each in flat(signature)]
    return [[signature.options["task_id"], None], [[[end, None], None] for end in ends]]
