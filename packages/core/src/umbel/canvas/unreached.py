"""What of a signature won't run, since what comes before it has failed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from umbel.canvas.forms import body_of, flat, is_part, steps_of
from umbel.canvas.freezing import ACCUMULATE
from umbel.canvas.primitives import chain, chord, group
from umbel.canvas.references import stored
from umbel.signature_forms import listed
from umbel.signatures import Signature

#: Returns what a reference stands for; the reference itself where that is gone.
Load = Callable[[Signature[Any]], Signature[Any]]


def unreached(signature: Signature[Any], load: Load) -> Iterator[Signature[Any]]:
    """Go through all calls that `signature` would have come to, in any order.

    A group whose results would have been one part of a chord stands for itself.

    Raises: DecodeError: it can't be read.
    """
    waiting = [signature]
    while waiting:
        each = waiting.pop()
        if isinstance(each, stored):
            each = load(each)
        options = each.options
        match each:
            case chain():
                waiting += steps_of(each)
            case group():
                if options.get("chord") is not None and not is_part(each):
                    yield each
                waiting += flat(each)
            case chord():
                waiting.append(body_of(each))
                waiting += flat(each.header)
                continue  # the options are the body's
            case _:
                yield each
        waiting += [Signature.from_dict(step) for step in options.get("chain") or ()]


def errbacks_of(signature: Signature[Any], load: Load) -> list[tuple[Signature[Any], str | None]]:
    """Return whom to tell that `signature` can't begin, each with the id of what has failed.

    Raises: DecodeError: it can't be read.
    """
    if isinstance(signature, stored):
        signature = load(signature)
    match signature:
        case chain():
            steps = steps_of(signature)
            return errbacks_of(steps[0], load) if steps else []
        case group():
            return [pair for each in flat(signature) for pair in errbacks_of(each, load)]
        case chord() if signature.body is not None and signature.body.task == ACCUMULATE.task:
            # A group that is one part of a chord.
            return errbacks_of(signature.header, load)
        case chord():
            return errbacks_of(body_of(signature), load)
    task_id = signature.options.get("task_id")
    links = listed(signature.options.get("link_error"))
    return [(Signature.from_dict(each), task_id) for each in links]
