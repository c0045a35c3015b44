"""Composed signatures as they are worked with: read, taken apart and put together.

What a composed signature has as options belongs to its last step, to its members or to its body.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from umbel.canvas.options import AS_A_WHOLE, as_member, followed, linked, overridden
from umbel.canvas.policies import ON_FAILURE, with_policy
from umbel.canvas.primitives import CHAIN, CHORD, GROUP, chain, chord, group, is_nothing
from umbel.errors import DecodeError
from umbel.signature_forms import LINKS, is_form, listed
from umbel.signatures import Signature

_KINDS: Final = {chain: CHAIN, group: GROUP, chord: CHORD}


def kind_of(signature: Signature[Any]) -> str | None:
    """Return CHAIN, GROUP or CHORD; None for a call of a task."""
    return _KINDS.get(type(signature))


def read(raw: Any) -> Signature[Any]:
    """Read a signature, composed or not, and look through all that it is made of.

    Raises: DecodeError: something in it can't be read; the text says what.
    """
    signature = Signature.from_dict(raw)
    match signature:
        case chain() | group():
            for each in signature.tasks:
                read(each)
        case chord():
            for each in signature.header.tasks:
                read(each)
            read(body_of(signature))
    options = signature.options
    if options:
        for name in (*LINKS, "chain"):
            for each in listed(options.get(name)):
                check(each)
        if options.get("chord") is not None:
            check(options["chord"])
    return signature


def check(raw: Any) -> None:
    """Look through a signature, composed or not, and all that it is made of.

    Raises: DecodeError: something in it can't be read; the text says what.
    """
    if not is_form(raw):
        read(raw)


def body_of(signature: Signature[Any]) -> Signature[Any]:
    """Return the body of a chord, with what the chord has as options.

    Raises: DecodeError: it has none.
    """
    body, options = signature.kwargs.get("body"), signature.options
    if body is None:
        raise DecodeError(f"signature {signature.task!r} has no body")
    for name in LINKS:
        body = linked(body, name, options.get(name))
    if options.get("chain"):
        body = followed(body, options["chain"])
    return with_policy(as_member(body, options), options.get(ON_FAILURE))


def chord_of(header: Signature[Any], body: Signature[Any], options: Mapping[str, Any]) -> chord:
    """Return a chord of the group `header` and `body`."""
    return chord(header, body).set(**options)


def together(calls: Sequence[Signature[Any]]) -> Signature[Any]:
    """Return what calls all of `calls` with what it is called with."""
    if len(calls) == 1:
        return calls[0]
    # The members of a group in a group would be its own.
    return group([chain([each]) if isinstance(each, group) else each for each in calls])


def flat(signature: Signature[Any]) -> Iterator[Signature[Any]]:
    """Go through the members of a group, with what it has as options.

    The members of a group in it are its own; a chain of nothing is none.
    """
    options = signature.options
    if isinstance(signature, group):
        signature = signature.settled()
    shared = {key: each for key, each in options.items() if key not in AS_A_WHOLE}
    errbacks = options.get("link_error")
    for each in signature.kwargs["tasks"]:
        member = overridden(each, shared) if shared else each
        if errbacks:
            member = linked(member, "link_error", errbacks)
        if isinstance(member, group):
            yield from flat(_called_by_first(member))
        elif not is_nothing(member):
            yield member


def _called_by_first(inner: group) -> group:
    """Return a copy that has no callbacks, which is a part of another group: its first member has."""
    links = inner.options.get("link")
    if not links or is_nothing(inner):
        return inner
    first, *rest = (each for each in inner.tasks if not is_nothing(each))
    callbacks = [Signature.from_dict(each).set_immutable() for each in listed(links)]
    tasks = (linked(first, "link", callbacks), *rest)
    return group(tasks).set(**{**inner.options, "link": None})


def steps_of(signature: Signature[Any]) -> list[Signature[Any]]:
    """Return the steps of a chain, none of them a chain, with what it has as options."""
    return list(signature.unchain_tasks()) if isinstance(signature, chain) else [signature]


def end_of(signature: Signature[Any], option: str) -> Any:
    """Return an option of what `signature` ends with."""
    found = None
    if isinstance(signature, chain) and signature.tasks:
        found = end_of(signature.tasks[-1], option)
    elif isinstance(signature, chord) and signature.body is not None:
        found = end_of(signature.body, option)
        if option == "task_id":  # its own is that of its group once it has ids
            return found
    return signature.options.get(option) if found is None else found


def has_one_end(signature: Signature[Any]) -> bool:
    """Tell whether it ends with the call of a task, and not with a group."""
    if isinstance(signature, chord) and signature.body is not None:
        return has_one_end(signature.body)
    if isinstance(signature, chain) and signature.tasks:
        return has_one_end(signature.tasks[-1])
    return not isinstance(signature, group)


def is_part(signature: Signature[Any]) -> bool:
    """Tell whether what it ends with is a part of a chord."""
    match signature:
        case chain():
            found = steps_of(signature)
            return bool(found) and is_part(found[-1])
        case group():
            found = list(flat(signature))
            return bool(found) and all(is_part(each) for each in found)
        case chord():
            return is_part(body_of(signature))
    return signature.options.get("chord") is not None
