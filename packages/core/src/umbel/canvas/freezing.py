"""Ids for all that a signature is made of, before any of it is sent.

`Freezer.freeze` gives an id to what has none. What it gives depends on the place in the signature
alone, so that a repeat gets the same ids, and that a signature may be frozen again.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from umbel.canvas.forms import (
    body_of,
    chord_of,
    end_of,
    flat,
    is_part,
)
from umbel.canvas.options import (
    AS_A_WHOLE,
    COUNTED,
    MEMBERSHIP,
    as_member,
    defaulted,
    linked,
    overridden,
)
from umbel.canvas.policies import ON_FAILURE
from umbel.canvas.primitives import chain, chord, group, is_nothing
from umbel.signatures import Signature

#: Returns what it is called with: makes a list of results one part of a chord.
ACCUMULATE: Final[Signature[Any]] = Signature("celery.accumulate", kwargs={"index": 0})

#: Returns the id of what stands at a place, such as ``"chain.0.body"``.
NewId = Callable[[str], str]
#: Celery's form of a result: ``[[id, parent], children]``.
ResultTuple = list[Any]


class Freezer:
    """Gives ids.

    Args:
        new_id: Where to get them.
        celery: Keep to Celery where it differs: a group of one in a chain is its member, and what
            a group is linked with is called by its first member.
    """

    def __init__(self, new_id: NewId, *, celery: bool = False) -> None:
        self._new_id, self._celery = new_id, celery
        #: Ids of calls that had one.
        self.given: list[str] = []

    def freeze(self, signature: Signature[Any], place: str) -> tuple[Signature[Any], ResultTuple]:
        """Return `signature` with ids, and the result of what it ends with.

        Raises: DecodeError: it can't be read.
        """
        if isinstance(signature, (chain, group, chord)):
            signature = signature.settled()
        match signature:
            case chain():
                frozen, result = self._chain(signature, place)
            case group() if signature.options.get("chord") is None or is_part(signature):
                frozen, result = self._group(signature, place)
            case group():
                # A part of a chord has one result: a list of those that the group has.
                body = as_member(ACCUMULATE, signature.options)
                frozen, result = self._chord(chord_of(signature, body, {}), place)
            case chord():
                frozen, result = self._chord(signature, place)
            case _:
                task_id = signature.options.get("task_id")
                if task_id is None:
                    task_id = self._new_id(place)
                    signature = signature.set(task_id=task_id)
                elif isinstance(task_id, str):
                    self.given.append(task_id)
                return signature, [[task_id, None], None]
        if signature.extra:
            frozen = frozen.with_extra(**signature.extra)
        return frozen.bound_to(signature._app), result

    def _chain(self, signature: chain, place: str) -> tuple[Signature[Any], ResultTuple]:
        steps: list[Signature[Any]] = []
        for step in signature.unchain_tasks():
            if is_nothing(step):
                continue
            if self._celery and isinstance(step, group) and len(list(flat(step))) == 1:
                steps += [as_member(each, step.options) for each in flat(step)]
            else:
                steps.append(step)
        if not steps:
            return self._group(group(), place)
        steps = _with_bodies(steps)
        parent: ResultTuple | None = None
        for index, step in enumerate(steps):
            steps[index], result = self.freeze(step, f"{place}.{index}")
            first = result[0] if parent is None else _after(result, parent)[0]
            parent = [first, result[1]]
        assert parent is not None  # noqa: S101 - there is a step
        task_id = parent[0][0]
        kept = {key: signature.options[key] for key in ("chain",) if signature.options.get(key)}
        return chain(steps, **kept, task_id=task_id), parent

    def _group(self, signature: group, place: str) -> tuple[Signature[Any], ResultTuple]:
        options = signature.options
        group_id = options.get("task_id") or self._new_id(place)
        own = {"group_id": group_id}
        if options.get("chord") is None:
            own[COUNTED] = True
        tasks, results = [], []
        for index, each in enumerate(flat(signature)):
            member, result = self._member(each, {**own, "group_index": index}, f"{place}.{index}")
            tasks.append(member)
            results.append(result)
        kept = {key: options[key] for key in _KEPT if options.get(key) is not None}
        if self._celery and tasks and kept.pop("link", None):
            tasks[0] = linked(tasks[0], "link", _immutable(options["link"]))
        return group(tasks, **kept, task_id=group_id), [[group_id, None], results]

    def _member(
        self, signature: Signature[Any], options: dict[str, Any], place: str
    ) -> tuple[Signature[Any], ResultTuple]:
        """Freeze a member of a group, which has `options` where it has none of its own."""
        if type(signature) is Signature and not signature.options:  # nearly always
            options["task_id"] = task_id = self._new_id(place)
            return signature.replace(options=options), [[task_id, None], None]
        return self.freeze(defaulted(signature, options), place)

    def _chord(self, signature: chord, place: str) -> tuple[Signature[Any], ResultTuple]:
        options, header, body = signature.options, signature.header, body_of(signature)
        group_id, task_id = header.options.get("task_id"), options.get("task_id")
        if task_id is not None and end_of(body, "task_id") is None:
            body = defaulted(body, {"task_id": task_id})
        elif group_id is None and task_id != end_of(body, "task_id"):
            group_id = task_id  # a chord that has its ids has its group's there
        group_id = group_id or self._new_id(place)
        shared = {key: each for key, each in options.items() if key not in AS_A_WHOLE}
        if shared:
            later = {key: each for key, each in shared.items() if key not in _OF_THE_SENDING}
            body = overridden(body, later)
            header = overridden(header, {**shared, "countdown": None})
        body, result = self.freeze(body, f"{place}.body")
        tasks, results = [], []
        for index, each in enumerate(flat(header)):
            member, of_member = self._member(each, {"group_index": index}, f"{place}.{index}")
            tasks.append(member)
            results.append(of_member)
        kept = {"task_id": group_id}
        if header.options.get("link"):
            if self._celery and tasks:
                tasks[0] = linked(tasks[0], "link", _immutable(header.options["link"]))
            else:
                kept["link"] = header.options["link"]
        header = group(tasks, **kept)
        # Celery's workers take the group's id from here: the header is a list to them.
        frozen = chord_of(header, body, {"task_id": group_id})
        return frozen, _after(result, [[group_id, None], results])


#: Options for sending that which is sent now, and not what follows it.
_OF_THE_SENDING: Final = frozenset({"producer", "connection", "add_to_parent"})
#: How many chords lie within each other, of groups that come one after the other in a chain.
_MOST_WITHIN: Final = 8
#: What a group keeps of its options once its members have the others.
_KEPT: Final = (*MEMBERSHIP, "chain", "link", ON_FAILURE)


def _with_bodies(steps: list[Signature[Any]]) -> list[Signature[Any]]:
    """Return steps, a group and what comes after it as a chord: Celery's workers know no other way.

    Groups one after the other lie within each other so. Of many, some get a body of their own,
    which passes their results on.
    """
    found: list[Signature[Any]] = []
    depth = 0
    for step in reversed(steps):
        if not found or not isinstance(step, group):
            found.append(step)
            depth = 0
        elif depth < _MOST_WITHIN:
            found.append(chord_of(step, found.pop(), {}))
            depth += 1
        else:
            found.append(chord_of(step, ACCUMULATE, {}))
            depth = 1
    return found[::-1]


def _immutable(links: Any) -> list[Signature[Any]]:
    found = links if isinstance(links, (list, tuple)) else [links]
    return [Signature.from_dict(each).set_immutable() for each in found]


def _after(result: ResultTuple, parent: ResultTuple) -> ResultTuple:
    """Return `result` with `parent` before what it begins with."""
    (task_id, own), children = result
    return [[task_id, parent if own is None else _after(own, parent)], children]
