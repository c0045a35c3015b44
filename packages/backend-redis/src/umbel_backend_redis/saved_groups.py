"""The shape of a chord's header, where Celery's client saved it: groups among the parts.

A client sends a group that ends a chain of the header as parts of their own, and keeps under the
header's bare key which of them belong together: as the result tuple of the header's group.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence

import msgspec

from umbel.outcomes import ChordPart
from umbel.states import SUCCESS

logger = logging.getLogger("umbel.redis")


class _Node(msgspec.Struct, frozen=True, array_like=True):
    """``[[id, parent], children]``; a task has no children."""

    head: tuple[str, msgspec.Raw]
    children: list[_Node] | None


class _Saved(msgspec.Struct, frozen=True):
    result: _Node


class _UnknownPart(Exception):
    """The shape names a task that is none of the parts."""


_DECODER = msgspec.json.Decoder(_Saved)


def fold(group_id: str, saved: bytes, parts: Sequence[ChordPart]) -> list[ChordPart]:
    """Return the parts as the client shaped them: each group among them is one part.

    Its result is the list of its parts' results, or it is the first of its parts that failed.
    Parts that the shape doesn't name, as they came later, stand behind. A shape that can't be
    read or doesn't fit is logged, and the parts stay as they are.
    """
    shaper = _Shaper(group_id, parts)
    try:
        root = _DECODER.decode(saved)
        shaped = [shaper.part(node) for node in root.result.children or ()]
    except (msgspec.DecodeError, RecursionError, _UnknownPart) as exc:
        logger.warning(
            "chord %s: the groups in its header are told to its body as single parts, as what "
            "Celery saved of them can't be used: %s",
            group_id,
            exc,
        )
        return list(parts)
    placed = [msgspec.structs.replace(each, index=index) for index, each in enumerate(shaped)]
    return placed + shaper.left()


class _Shaper:
    """Takes parts by their task's id; of a task at several places, one at each."""

    def __init__(self, group_id: str, parts: Sequence[ChordPart]) -> None:
        self._group_id = group_id
        self._by_task: dict[str, list[ChordPart]] = {}
        for part in parts:
            self._by_task.setdefault(part.task_id, []).append(part)

    def part(self, node: _Node) -> ChordPart:
        """Return what stands for `node`. Raises: _UnknownPart."""
        task_id = node.head[0]
        if node.children is None:
            found = self._by_task.get(task_id)
            if not found:
                raise _UnknownPart(f"no part is of the task {task_id!r}")
            return found.pop(0)
        inner = [self.part(each) for each in node.children]
        for each in inner:
            if each.state != SUCCESS:
                return each
        return ChordPart(
            group_id=self._group_id,
            index=None,
            task_id=task_id,
            state=str(SUCCESS),
            result=b"[%b]" % b", ".join(each.result or b"null" for each in inner),
        )

    def left(self) -> list[ChordPart]:
        """Return the parts that nobody took."""
        return [
            msgspec.structs.replace(part, index=None)
            for found in self._by_task.values()
            for part in found
        ]
