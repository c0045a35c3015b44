"""Ids for all that a signature is made of, before any of it is sent.

`freeze` gives an id to what has none. What it gives depends on the place in the signature alone,
so that a repeat gets the same ids, and that a signature may be frozen again.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from umbel.canvas.forms import (
    AS_A_WHOLE,
    GROUP,
    MEMBERSHIP,
    as_member,
    body_of,
    chain_of,
    chord_of,
    defaulted,
    flat,
    group_of,
    header_of,
    is_part,
    kind_of,
    steps_of,
)
from umbel.signatures import Signature

#: Returns what it is called with: makes a list of results one part of a chord.
ACCUMULATE: Final = Signature(task="celery.accumulate", kwargs={"index": 0})

#: Returns the id of what stands at a place, such as ``"chain.0.body"``.
NewId = Callable[[str], str]
#: Celery's form of a result: ``[[id, parent], children]``.
ResultTuple = list[Any]


def freeze(signature: Signature, place: str, new_id: NewId) -> tuple[Signature, ResultTuple]:
    """Return `signature` with ids, and the result of what it ends with.

    Raises: DecodeError: it can't be read.
    """
    match kind_of(signature):
        case "chain":
            return _chain(signature, place, new_id)
        case "group":
            if signature.options.get("chord") is None or is_part(signature):
                return _group(signature, place, new_id)
            # A part of a chord has one result: a list of those that the group has.
            options = {"task_id": signature.options.get("task_id")}
            body = as_member(ACCUMULATE, signature.options)
            return _chord(chord_of(signature, body, options), place, new_id)
        case "chord":
            return _chord(signature, place, new_id)
    task_id = signature.options.get("task_id") or new_id(place)
    return signature.set(task_id=task_id), [[task_id, None], None]


def _chain(signature: Signature, place: str, new_id: NewId) -> tuple[Signature, ResultTuple]:
    steps: list[Signature] = []
    for step in reversed(steps_of(signature)):
        if kind_of(step) == GROUP and steps:
            task_id = step.options.get("task_id")
            steps[0] = chord_of(step, steps[0], {"task_id": task_id})
        else:
            steps.insert(0, step)
    if not steps:
        return freeze(group_of(()), place, new_id)
    parent: ResultTuple | None = None
    for index, step in enumerate(steps):
        steps[index], result = freeze(step, f"{place}.{index}", new_id)
        first = result[0] if parent is None else _after(result, parent)[0]
        parent = [first, result[1]]
    assert parent is not None  # noqa: S101 - there is a step
    task_id = parent[0][0]
    kept = {key: signature.options[key] for key in ("chain",) if signature.options.get(key)}
    return chain_of(steps, {**kept, "task_id": task_id}), parent


def _after(result: ResultTuple, parent: ResultTuple) -> ResultTuple:
    """Return `result` with `parent` before what it begins with."""
    (task_id, own), children = result
    return [[task_id, parent if own is None else _after(own, parent)], children]


def _group(signature: Signature, place: str, new_id: NewId) -> tuple[Signature, ResultTuple]:
    options = signature.options
    group_id = options.get("task_id") or new_id(place)
    tasks, results = [], []
    for index, each in enumerate(flat(signature)):
        member = defaulted(each, {"group_id": group_id, "group_index": index})
        member, result = freeze(member, f"{place}.{index}", new_id)
        tasks.append(member)
        results.append(result)
    kept = {key: options[key] for key in (*MEMBERSHIP, "chain") if options.get(key) is not None}
    return group_of(tasks, {**kept, "task_id": group_id}), [[group_id, None], results]


def _chord(signature: Signature, place: str, new_id: NewId) -> tuple[Signature, ResultTuple]:
    options, header = signature.options, header_of(signature)
    group_id = options.get("task_id") or header.options.get("task_id") or new_id(place)
    body, result = freeze(body_of(signature), f"{place}.body", new_id)
    shared = {key: each for key, each in options.items() if key not in AS_A_WHOLE}
    header = defaulted(header.set(task_id=group_id), shared)
    tasks, results = [], []
    for index, each in enumerate(flat(header)):
        member = defaulted(each, {"group_index": index})
        member, of_member = freeze(member, f"{place}.{index}", new_id)
        tasks.append(member)
        results.append(of_member)
    header = group_of(tasks, {"task_id": group_id})
    frozen = chord_of(header, body, {"task_id": group_id})
    return frozen, _after(result, [[group_id, None], results])
