"""A signature made into the calls that begin it; what follows them travels inside them.

A call of a task is itself. Of a chain it is the first step, with the rest embedded; of a group,
all members; of a chord, all members of its header, with the body embedded in each. What comes
after a group in a chain is the body of a chord.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from umbel.canvas.forms import (
    as_member,
    body_of,
    chord_of,
    defaulted,
    flat,
    followed,
    header_of,
    kind_of,
    steps_of,
)
from umbel.canvas.freezing import NewId, ResultTuple, freeze
from umbel.signatures import Signature


class ChordSize(msgspec.Struct, frozen=True):
    """How many parts a chord has that begins."""

    group_id: str
    size: int


class Expansion:
    """What signatures begin with."""

    def __init__(self, new_id: NewId) -> None:
        self._new_id = new_id
        #: To be sent, each with its id.
        self.calls: list[Signature] = []
        #: To be opened before that.
        self.chords: list[ChordSize] = []
        #: Of what was added.
        self.results: list[ResultTuple] = []

    def add(
        self, signature: Signature, args: Sequence[Any], place: str, chain: Sequence[Any] = ()
    ) -> None:
        """Add what `signature` begins with.

        Args:
            signature: What to begin.
            args: Go before the arguments of its first step, or of each member.
            place: Where it stands, for ids; no other that is added stands there.
            chain: What comes after it, the next step last.
        Raises: DecodeError: it can't be read.
        """
        if chain:
            signature = followed(signature, chain)
        frozen, result = freeze(signature, place, self._new_id)
        self.results.append(result)
        self._begin(frozen, args, place)

    def _begin(self, signature: Signature, args: Sequence[Any], place: str) -> None:
        match kind_of(signature):
            case "chain":
                first, *rest = steps_of(signature)
                after = [*(signature.options.get("chain") or ()), *reversed(rest)]
                self._begin(followed(first, after) if after else first, args, f"{place}.0")
            case "group" if signature.options.get("chain"):
                # What comes after a group gets the list of its results.
                *rest, step = signature.options["chain"]
                body = followed(Signature.from_dict(step), rest)
                options = {"task_id": signature.options["task_id"]}
                chord, _ = freeze(chord_of(signature, body, options), place, self._new_id)
                self._begin_chord(chord, args, place)
            case "group":
                for index, each in enumerate(flat(signature)):
                    self._begin(each, args, f"{place}.{index}")
            case "chord":
                self._begin_chord(signature, args, place)
            case _:
                self.calls.append(signature.clone(args))

    def _begin_chord(self, signature: Signature, args: Sequence[Any], place: str) -> None:
        header, body = header_of(signature), body_of(signature)
        members = list(flat(header))
        if not members:
            self._begin(body, ([],), f"{place}.body")
            return
        group_id = header.options["task_id"]
        if kind_of(body) is None:
            body = defaulted(body, {"group_id": group_id})
        membership = {"group_id": group_id, "chord": body.to_dict()}
        self.chords.append(ChordSize(group_id, len(members)))
        for index, each in enumerate(members):
            member = as_member(each, {**membership, "group_index": index})
            part, _ = freeze(member, f"{place}.{index}", self._new_id)
            self._begin(part, args, f"{place}.{index}")
