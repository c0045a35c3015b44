"""A signature that runs in the place of a task: it ends as the task would have ended.

What it ends with has the task's id, callbacks, and place in a group or chord; the steps that came
after the task come after it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from umbel.canvas.forms import (
    body_of,
    chord_of,
    is_part,
)
from umbel.canvas.freezing import ACCUMULATE
from umbel.canvas.options import COUNTED, MEMBERSHIP, followed, linked
from umbel.canvas.policies import ON_FAILURE
from umbel.canvas.primitives import chain, chord, group, is_nothing
from umbel.canvas.references import stored
from umbel.errors import InvalidTaskError
from umbel.messages import ATTEMPTS_BEFORE, SENT_AT
from umbel.requests import Request
from umbel.signature_forms import LINKS
from umbel.signatures import Signature

#: Options of a chord that are those of its body.
_OF_THE_BODY: Final = frozenset({*LINKS, *MEMBERSHIP, "chain", ON_FAILURE})


def check_loose(signature: Signature[Any], purpose: str) -> None:
    """Raise InvalidTaskError where `signature` calls nothing, or is a part of a chord already."""
    if is_part(signature):
        raise InvalidTaskError(
            f"{signature!r:.80} can't {purpose}, since it is a part of a chord already; pass a "
            f"signature that is in none: the task's own chord is passed on to it"
        )
    if is_nothing(signature):
        kind = "chain" if isinstance(signature, chain) else "group"
        raise InvalidTaskError(f"an empty {kind} can't {purpose}: it calls nothing")


def replacement(signature: Signature[Any], request: Request) -> Signature[Any]:
    """Return `signature` as what runs in the place of the task of `request`.

    Raises: InvalidTaskError: it calls nothing. DecodeError: it can't be read.
    """
    headers = _headers(request)
    nesting = request.replaced_task_nesting + 1
    membership = {
        "group_id": request.group,
        "group_index": request.group_index,
        "chord": request.chord,
        COUNTED: True if request.headers.get(COUNTED) else None,
        "reply_to": request.reply_to,
    }
    membership = {name: value for name, value in membership.items() if value is not None}

    def end(last: Signature[Any]) -> Signature[Any]:
        both = {**(last.options.get("headers") or {}), **headers}
        last = linked(last, "link", request.callbacks)
        return last.set(
            task_id=request.id, headers=both, replaced_task_nesting=nesting, **membership
        )

    if isinstance(signature, group):
        signature = as_chord(signature)
    for errback in request.errbacks or ():
        signature = signature.link_error(errback)
    ended = ended_with(signature, end)
    return followed(ended, request.chain) if request.chain else ended


def _headers(request: Request) -> dict[str, Any]:
    """Return what makes it another attempt at the task: none of those before is like it."""
    headers: dict[str, Any] = {ATTEMPTS_BEFORE: request.attempt + 1}
    if request.headers.get(SENT_AT) is not None:
        headers[SENT_AT] = request.headers[SENT_AT]
    return headers


def ended_with(
    signature: Signature[Any], end: Callable[[Signature[Any]], Signature[Any]]
) -> Signature[Any]:
    """Return `signature` with the call that it ends with changed by `end`.

    Raises: InvalidTaskError: it calls nothing. DecodeError: it can't be read.
    """
    options = signature.options
    if options.get("chain"):
        alone = signature.replace(options={**options, "chain": None})
        steps = [alone, *map(Signature.from_dict, reversed(options["chain"]))]
        return ended_with(chain(steps), end)
    changed: Signature[Any]
    match signature:
        case chain():
            steps = [each for each in signature.unchain_tasks() if not is_nothing(each)]
            if not steps:
                raise InvalidTaskError("a chain without steps ends with nothing")
            steps[-1] = ended_with(steps[-1], end)
            changed = chain(steps)
        case group():
            changed = ended_with(as_chord(signature), end)
        case chord():
            kept = {name: each for name, each in options.items() if name not in _OF_THE_BODY}
            body = ended_with(body_of(signature), end)
            changed = chord_of(signature.header, body, kept)
        case _:
            return end(signature)
    return changed.with_extra(**signature.extra) if signature.extra else changed


def resolved(reference: stored, signature: Signature[Any]) -> Signature[Any]:
    """Return `signature`, which `reference` stands for, ended as the reference was to end.

    What came after the reference comes after it.
    """
    own = reference.options
    headers, link, nesting = (
        own.get(name) for name in ("headers", "link", "replaced_task_nesting")
    )
    after = own.get("chain") or ()
    if not headers and not link:
        return followed(signature, after) if after else signature

    def end(last: Signature[Any]) -> Signature[Any]:
        both = {**(last.options.get("headers") or {}), **(headers or {})}
        last = linked(last, "link", link)
        return last.set(headers=both, replaced_task_nesting=nesting or 0)

    ended = ended_with(signature, end)
    return followed(ended, after) if after else ended


def as_chord(signature: group) -> chord:
    """Return a chord that has one result: the list of those that the group has."""
    options = dict(signature.options)
    body = linked(ACCUMULATE, "link", options.pop("link", None))
    after = options.pop("chain", None)
    header = group(signature.tasks, **options)
    made = chord_of(header, body, {"chain": after} if after else {})
    return made.with_extra(**signature.extra) if signature.extra else made
