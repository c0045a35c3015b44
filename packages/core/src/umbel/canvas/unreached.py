"""What of a signature won't run, since what comes before it has failed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from umbel.canvas.forms import (
    body_of,
    flat,
    header_of,
    is_part,
    kind_of,
    listed,
    steps_of,
)
from umbel.signatures import Signature


def unreached(signature: Signature) -> Iterator[Signature]:
    """Go through all calls that `signature` would have come to, in any order.

    A group whose results would have been one part of a chord stands for itself.

    Raises: DecodeError: it can't be read.
    """
    options = signature.options
    match kind_of(signature):
        case "chain":
            inner: Sequence[Signature] = steps_of(signature)
        case "group":
            inner = list(flat(signature))
            if options.get("chord") is not None and not is_part(signature):
                yield signature
        case "chord":
            body = body_of(signature)
            yield from unreached(body)
            inner = list(flat(header_of(signature)))
            options = {}  # they are the body's
        case _:
            inner = ()
            yield signature
    for each in inner:
        yield from unreached(each)
    for step in options.get("chain") or ():
        yield from unreached(Signature.from_dict(step))


def errbacks_of(signature: Signature) -> list[tuple[Signature, str | None]]:
    """Return whom to tell that `signature` can't begin, each with the id of what has failed.

    Raises: DecodeError: it can't be read.
    """
    match kind_of(signature):
        case "chain":
            steps = steps_of(signature)
            return errbacks_of(steps[0]) if steps else []
        case "group":
            return [pair for each in flat(signature) for pair in errbacks_of(each)]
        case "chord":
            return errbacks_of(body_of(signature))
    options: dict[str, Any] = signature.options
    task_id = options.get("task_id")
    return [(Signature.from_dict(each), task_id) for each in listed(options.get("link_error"))]
