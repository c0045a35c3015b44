"""What a running task adds to the chord that it is a part of."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from umbel.canvas.freezing import Freezer
from umbel.canvas.replacing import check_loose, ended_with
from umbel.errors import InvalidTaskError
from umbel.requests import Request, ids_after
from umbel.signatures import Signature


class Addition:
    """A new part of a chord. Stands among the children of the task that adds it.

    Args:
        signature: What is to run, with all its ids.
        task_id: Of what it ends with.
        is_sent: False: the task sends it by itself.
    """

    __slots__ = ("is_sent", "signature", "task_id")

    def __init__(self, signature: Signature[Any], task_id: str, *, is_sent: bool) -> None:
        self.signature, self.task_id, self.is_sent = signature, task_id, is_sent

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON."""
        return {
            "task_id": self.task_id,
            "signature": self.signature.to_dict(),
            "sent": self.is_sent,
        }

    @classmethod
    def from_dict(cls, raw: dict[str, Any]) -> Addition:
        """Return what `to_dict` was made of."""
        signature = Signature.from_dict(raw["signature"])
        return cls(signature, raw["task_id"], is_sent=raw["sent"])


def addition(
    signature: Signature[Any], request: Request, number: int, *, is_sent: bool
) -> Addition:
    """Return `signature` as a part of the chord that the task of `request` is a part of.

    Args:
        signature: Of any kind; a group is one part, the list of its results.
        request: Of the task that adds it.
        number: How many it has added before.
        is_sent: Whether it is sent when the task has succeeded.
    Raises: InvalidTaskError: the task is a part of no chord, or `signature` of one already.
    """
    if request.chord is None or request.group is None or request.id is None:
        raise InvalidTaskError(
            f"task {request.task!r} is a part of no chord, so nothing can be added to that; call "
            f"add_to_chord() in a member of a chord's header, at the end of its chain if it is one"
        )
    check_loose(signature, "be added to a chord")
    membership = {
        "group_id": request.group,
        "group_index": request.group_index,
        "chord": request.chord,
    }
    membership = {name: value for name, value in membership.items() if value is not None}
    place = f"added:{number}"
    task_id = ids_after(request)(place)

    def end(last: Signature[Any]) -> Signature[Any]:
        nonlocal task_id
        task_id = last.id or task_id
        return last.set(task_id=task_id, **membership)

    ended = ended_with(signature, end)
    frozen, _ = Freezer(ids_after(request)).freeze(ended, f"{place}.part")
    return Addition(frozen, task_id, is_sent=is_sent)


def additions_in(children: Sequence[Any]) -> list[Addition]:
    """Return what a task has added to its chord, of all that it left."""
    return [each for each in children if isinstance(each, Addition)]


def without_additions(children: list[Any]) -> list[Any]:
    """Return what is left of `children` but for additions."""
    if not any(isinstance(each, Addition) for each in children):
        return children
    return [each for each in children if not isinstance(each, Addition)]
