"""What is too much to travel in a message is kept in a store, and a reference travels in its place.

A chain of any length so stays linear in bytes: of what follows, a message carries no more than a
block, whose last step is a reference to the next block.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final, NamedTuple

from umbel.canvas.forms import end_of
from umbel.canvas.options import MEMBERSHIP
from umbel.canvas.policies import ON_FAILURE
from umbel.canvas.primitives import chain, chord, group
from umbel.signatures import Signature

#: The task that a reference calls, where it is sent by somebody who doesn't know it for one.
STORED: Final = "umbel.stored"


class Piece(NamedTuple):
    """A signature to be kept."""

    key: str
    signature: Signature[Any]


@Signature.register_name(STORED)
class stored(Signature[Any]):  # noqa: N801 - as the other kinds
    """Stands for a signature that is kept in a store.

    Its options are what must be known of that one without reading it: the id of what it ends
    with, and the chord that this is a part of.
    """

    __slots__ = ()

    @property
    def key(self) -> str:
        """What it is kept under."""
        return str(self.kwargs.get("key"))


def reference_to(key: str, signature: Signature[Any]) -> stored:
    """Return what stands for `signature`, which has its ids, and is kept under `key`."""
    options = {name: each for name in MEMBERSHIP if (each := end_of(signature, name)) is not None}
    options["task_id"] = end_of(signature, "task_id")
    policy = signature.extra.get(ON_FAILURE)
    return stored(
        STORED,
        kwargs={"key": key},
        options=options,
        extra={} if policy is None else {ON_FAILURE: policy},
    )


def weight(signature: Signature[Any]) -> int:
    """Return how many calls `signature` is made of."""
    if isinstance(signature, (chain, group)):
        return sum(map(weight, signature.tasks))
    if isinstance(signature, chord):
        body = 0 if signature.body is None else weight(signature.body)
        return sum(map(weight, signature.header.tasks)) + body
    after = signature.options.get("chain")
    return 1 + (len(after) if after else 0)


def blocks(
    steps: Sequence[Signature[Any]], limit: int, key_of: Callable[[int], str]
) -> tuple[list[Signature[Any]], list[Piece]]:
    """Return the first steps of a chain, and what comes after them in pieces to be kept.

    Args:
        steps: In order, each with its id.
        limit: Calls that a block may be made of, besides a reference to the next one.
        key_of: Returns what a block is kept under, by its number.
    """
    cut: list[list[Signature[Any]]] = [[]]
    calls = 0
    for step in steps:
        heavy = weight(step)
        if cut[-1] and calls + heavy > limit and not _is_last_reference(step, steps):
            cut.append([])
            calls = 0
        cut[-1].append(step)
        calls += heavy
    pieces: list[Piece] = []
    following: stored | None = None
    for number in range(len(cut) - 1, 0, -1):
        block = chain([*cut[number], *([following] if following else [])])
        key = key_of(number)
        pieces.append(Piece(key, block))
        following = reference_to(key, block)
    return [*cut[0], *([following] if following else [])], pieces


def _is_last_reference(step: Signature[Any], steps: Sequence[Signature[Any]]) -> bool:
    """Tell whether `step` is where a block of earlier on goes on: a block of its own is no gain."""
    return isinstance(step, stored) and step is steps[-1]
