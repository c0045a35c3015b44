"""Composed signatures in Celery's JSON form: what kind they are, and what they are made of.

A chain or group has its members in ``kwargs["tasks"]``, a chord in ``header`` and ``body``. What
a composed signature has as options belongs to its last step, to its members or to its body.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final

import msgspec

from umbel.errors import DecodeError
from umbel.signatures import Signature

CHAIN: Final = "chain"
GROUP: Final = "group"
CHORD: Final = "chord"
_KINDS: Final = frozenset({CHAIN, GROUP, CHORD})
#: Options that make a call a part of a group or chord.
MEMBERSHIP: Final = ("group_id", "group_index", "chord")
LINKS: Final = ("link", "link_error")
#: Options that mean a composed signature as a whole, and not each of its members.
AS_A_WHOLE: Final = frozenset({"task_id", "chain", *LINKS, *MEMBERSHIP})


def kind_of(signature: Signature) -> str | None:
    """Return CHAIN, GROUP or CHORD; None for a call of a task."""
    kind = signature.subtask_type
    return kind if kind in _KINDS else None


def read(raw: Any) -> Signature:
    """Read a signature, composed or not, and look through all that it is made of.

    Raises: DecodeError: something in it can't be read; the text says what.
    """
    signature = Signature.from_dict(raw)
    match kind_of(signature):
        case "chain" | "group":
            for each in members(signature):
                read(each)
        case "chord":
            read(header_of(signature))
            read(body_of(signature))
    options = signature.options
    for name in (*LINKS, "chain"):
        for each in listed(options.get(name)):
            read(each)
    if options.get("chord") is not None:
        read(options["chord"])
    return signature


def members(signature: Signature) -> list[Signature]:
    """Return the steps of a chain, or the members of a group. Raises: DecodeError."""
    tasks = signature.kwargs.get("tasks")
    if not isinstance(tasks, (list, tuple)):
        raise DecodeError(f"'tasks' of signature {signature.task!r} must be a list")
    return [Signature.from_dict(each) for each in tasks]


def header_of(chord: Signature) -> Signature:
    """Return the header of a chord, as a group. Raises: DecodeError."""
    raw = chord.kwargs.get("header")
    if isinstance(raw, (list, tuple)):
        return group_of(raw)
    header = Signature.from_dict(raw)
    return header if kind_of(header) == GROUP else group_of([header])


def body_of(chord: Signature) -> Signature:
    """Return the body of a chord, with what the chord has as options. Raises: DecodeError."""
    body, options = Signature.from_dict(chord.kwargs.get("body")), chord.options
    for name in LINKS:
        body = linked(body, name, options.get(name))
    if options.get("chain"):
        body = followed(body, options["chain"])
    return as_member(body, options)


def chain_of(steps: Iterable[Signature], options: Mapping[str, Any]) -> Signature:
    """Return a chain of `steps`."""
    return _of_tasks("celery.chain", CHAIN, steps, options)


def group_of(tasks: Iterable[Any], options: Mapping[str, Any] | None = None) -> Signature:
    """Return a group of `tasks`."""
    return _of_tasks("celery.group", GROUP, map(Signature.from_dict, tasks), options or {})


def chord_of(header: Signature, body: Signature, options: Mapping[str, Any]) -> Signature:
    """Return a chord of the group `header` and `body`."""
    kwargs = {"header": header.to_dict(), "body": body.to_dict(), "kwargs": {}}
    return Signature(task="celery.chord", kwargs=kwargs, options=dict(options), subtask_type=CHORD)


def _of_tasks(
    task: str, kind: str, found: Iterable[Signature], options: Mapping[str, Any]
) -> Signature:
    kwargs = {"tasks": [each.to_dict() for each in found]}
    return Signature(task=task, kwargs=kwargs, options=dict(options), subtask_type=kind)


def flat(group: Signature) -> Iterator[Signature]:
    """Go through the members of a group, with what it has as options.

    The members of a group in it are its own.
    """
    shared = {key: each for key, each in group.options.items() if key not in AS_A_WHOLE}
    for each in members(group):
        member = defaulted(each, shared)
        for name in LINKS:
            member = linked(member, name, group.options.get(name))
        if kind_of(member) == GROUP:
            yield from flat(member)
        else:
            yield member


def steps_of(chain: Signature) -> list[Signature]:
    """Return the steps of a chain, none of them a chain, with what it has as options."""
    found: list[Signature] = []
    for each in members(chain):
        found += steps_of(each) if kind_of(each) == CHAIN else [each]
    if not found:
        return []
    options = chain.options
    found = [linked(each, "link_error", options.get("link_error")) for each in found]
    shared = {key: each for key, each in options.items() if key not in AS_A_WHOLE}
    found[0] = defaulted(found[0], shared)
    found[-1] = as_member(linked(found[-1], "link", options.get("link")), options)
    if options.get("task_id") is not None and kind_of(found[-1]) != CHORD:
        found[-1] = defaulted(found[-1], {"task_id": options["task_id"]})
    return found


def as_member(signature: Signature, options: Mapping[str, Any]) -> Signature:
    """Return a copy that is a part of the group or chord that `options` name, if it is of none."""
    membership = {key: options.get(key) for key in MEMBERSHIP}
    if membership["chord"] is None or signature.options.get("chord") is not None:
        return defaulted(signature, membership)
    return signature.set(**{key: each for key, each in membership.items() if each is not None})


def is_part(signature: Signature) -> bool:
    """Tell whether what it ends with is a part of a chord."""
    match kind_of(signature):
        case "chain":
            found = steps_of(signature)
            return bool(found) and is_part(found[-1])
        case "group":
            found = list(flat(signature))
            return bool(found) and all(is_part(each) for each in found)
        case "chord":
            return is_part(body_of(signature))
    return signature.options.get("chord") is not None


def defaulted(signature: Signature, options: Mapping[str, Any]) -> Signature:
    """Return a copy with those of `options` that it has none of."""
    own = signature.options
    new = {key: each for key, each in options.items() if each is not None and own.get(key) is None}
    return signature.set(**new) if new else signature


def linked(signature: Signature, option: str, more: Any) -> Signature:
    """Return a copy with more callbacks (``link``) or errbacks (``link_error``)."""
    added = listed(more)
    if not added:
        return signature
    both = [*listed(signature.options.get(option)), *added]
    return msgspec.structs.replace(signature, options={**signature.options, option: both})


def followed(signature: Signature, chain: Iterable[Any]) -> Signature:
    """Return a copy that the steps of `chain` come after, the next one last."""
    own = signature.options.get("chain") or ()
    return signature.set(chain=[*(Signature.from_dict(each).to_dict() for each in chain), *own])


def listed(given: Any) -> list[Any]:
    """Return signatures of an option as a list; one may stand without."""
    if given is None:
        return []
    return list(given) if isinstance(given, (list, tuple)) else [given]
