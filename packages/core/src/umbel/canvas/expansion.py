"""A signature made into the calls that begin it; what follows them travels inside them.

A call of a task is itself. Of a chain it is the first step, with the rest embedded; of a group,
all members; of a chord, all members of its header, with the body embedded in each. What comes
after a group in a chain is the body of a chord. What is too much to embed is put aside, and a
reference is embedded in its place (`umbel.canvas.references`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from umbel.canvas.beginnings import beginnings
from umbel.canvas.forms import (
    body_of,
    chord_of,
    end_of,
    flat,
    has_one_end,
    steps_of,
    together,
)
from umbel.canvas.freezing import Freezer, NewId, ResultTuple
from umbel.canvas.options import COUNTED, as_member, defaulted, followed
from umbel.canvas.policies import ON_FAILURE, with_policy
from umbel.canvas.primitives import chain, chord, group
from umbel.canvas.references import Piece, blocks, reference_to, weight
from umbel.errors import InvalidTaskError
from umbel.signature_forms import listed
from umbel.signatures import Signature, as_dict


class ChordSize(msgspec.Struct, frozen=True):
    """How many parts a chord has that begins, or a group whose members are counted."""

    group_id: str
    size: int
    #: What it ends with, as it travels in each part; None: a group, whose end nobody waits for.
    body: Any = None


class Expansion:
    """What signatures begin with.

    Args:
        new_id: Where to get ids.
        max_inline: How many calls may be embedded in one; None: any number.
        celery: Keep to Celery where it differs (see `Freezer`).
    """

    def __init__(
        self, new_id: NewId, *, max_inline: int | None = None, celery: bool = False
    ) -> None:
        self._new_id, self._max_inline = new_id, max_inline
        self._freezer = Freezer(new_id, celery=celery)
        #: To be sent, each with its id.
        self.calls: list[Signature[Any]] = []
        #: To be opened before that.
        self.chords: list[ChordSize] = []
        #: To be kept before that.
        self.pieces: list[Piece] = []
        #: Of what was added, each of what it ends with.
        self.results: list[ResultTuple] = []
        #: … and of what it begins with.
        self.begun: list[ResultTuple] = []

    def add(
        self, signature: Signature[Any], args: Sequence[Any], place: str, chain: Sequence[Any] = ()
    ) -> None:
        """Add what `signature` begins with.

        Args:
            signature: What to begin.
            args: Go before the arguments of its first step, or of each member.
            place: Where it stands, for ids; no other that is added stands there.
            chain: What comes after it, the next step last.
        Raises: DecodeError: it can't be read. InvalidTaskError: two calls have one id.
        """
        if args:
            signature = signature.clone(args)
        if chain:
            signature = followed(signature, chain)
        given = self._freezer.given
        given.clear()
        frozen, result = self._freezer.freeze(signature, place)
        if len(set(given)) < len(given):
            # Only one of them would run, and who waits for the other would wait for ever.
            raise InvalidTaskError(_twice(given))
        self.results.append(result)
        self.begun += beginnings(frozen)
        self._begin(frozen, place)

    def _begin(self, signature: Signature[Any], place: str) -> None:
        after: list[Any] | None = signature.options.get("chain")
        match signature:
            case chain():
                self._begin_chain(steps_of(signature), list(after or ()), place)
            case group() if after:
                # What comes after a group gets the list of its results.
                *rest, step = after
                body = followed(Signature.from_dict(step), rest)
                self._begin_followed(signature, body, place)
            case group() if signature.options.get("link") and signature.tasks:
                body = together(_callbacks(signature))
                self._begin_followed(signature.set(link=None), body, place)
            case group():
                self._begin_group(signature, place)
            case chord():
                self._begin_chord(signature, place)
            case _:
                self.calls.append(signature)

    def _begin_chain(self, steps: list[Signature[Any]], after: list[Any], place: str) -> None:
        first, *rest = steps
        if not rest and not after:
            self._begin(first, f"{place}.0")
        elif isinstance(first, group) and not first.options.get("chain"):
            later: list[Any] = [*after, *reversed(rest)]
            following = [Signature.from_dict(each) for each in reversed(later)]
            body = following[0] if len(following) == 1 else chain(following)
            self._begin_followed(first, body, f"{place}.0")
        else:
            followers = self._embedded([*after, *reversed(rest)], place)
            self._begin(followed(first, followers), f"{place}.0")

    def _begin_followed(self, header: group, body: Signature[Any], place: str) -> None:
        """Begin a group that `body` comes after."""
        frozen, _ = self._freezer.freeze(chord_of(header, body, {}), place)
        assert isinstance(frozen, chord)  # noqa: S101 - it was made as one
        self._begin_chord(frozen, place)

    def _begin_group(self, signature: group, place: str) -> None:
        members = list(flat(signature))
        # A member that ends with a group has many ends.
        if all(map(has_one_end, members)) and any(end_of(each, COUNTED) for each in members):
            self.chords.append(ChordSize(signature.options["task_id"], len(members)))
        for index, each in enumerate(members):
            if type(each) is Signature:
                self.calls.append(each)
            else:
                self._begin(each, f"{place}.{index}")

    def _begin_chord(self, signature: chord, place: str) -> None:
        header, body = signature.header, body_of(signature)
        members = list(flat(header))
        if not members:
            self._begin(body.clone(([],)), f"{place}.body")
            return
        group_id = header.options["task_id"]
        if callbacks := _callbacks(header):
            policy = body.extra.get(ON_FAILURE)
            body, _ = self._freezer.freeze(together([body, *callbacks]), f"{place}.after")
            body = with_policy(body, policy)
        if not isinstance(body, (chain, group, chord)):
            body = defaulted(body, {"group_id": group_id})
        embedded = as_dict(self._aside(body, f"{place}.body"))
        membership = {"group_id": group_id, "chord": embedded}
        self.chords.append(ChordSize(group_id, len(members), embedded))
        for index, each in enumerate(members):
            if type(each) is Signature and each.options.get("chord") is None:
                options = {**each.options, **membership, "group_index": index}
                self.calls.append(each.replace(options=options))
                continue
            member = as_member(each, {**membership, "group_index": index})
            if not isinstance(member, (chain, group, chord)):
                self.calls.append(member)
                continue
            part, _ = self._freezer.freeze(member, f"{place}.{index}")
            self._begin(part, f"{place}.{index}")

    # -- what is too much to embed ----------------------------------------------------------------

    def _embedded(self, stack: list[Any], place: str) -> list[Any]:
        """Return the steps of a chain, the next one last, as they are embedded."""
        limit = self._max_inline
        if limit is None:
            return stack
        steps = [Signature.from_dict(each) for each in reversed(stack)]
        steps = [self._aside(each, f"{place}.step{at}") for at, each in enumerate(steps)]
        kept, pieces = blocks(steps, limit, lambda at: self._new_id(f"{place}.block{at}"))
        self.pieces += pieces
        return kept[::-1]

    def _aside(self, signature: Signature[Any], place: str) -> Signature[Any]:
        """Return a reference to `signature` where it is too much to embed."""
        if self._max_inline is None or weight(signature) <= self._max_inline:
            return signature
        key = self._new_id(f"{place}.aside")
        self.pieces.append(Piece(key, signature))
        return reference_to(key, signature)


def _twice(task_ids: Sequence[str]) -> str:
    repeated = next(each for each in task_ids if task_ids.count(each) > 1)
    return (
        f"two calls of a workflow have the task_id {repeated!r:.80}: a signature that has its id "
        f"can stand in it once; give the other call another id, or none"
    )


def _callbacks(signature: Signature[Any]) -> list[Signature[Any]]:
    return [Signature.from_dict(each) for each in listed(signature.options.get("link"))]
