"""A look through all of a workflow before it is sent: what comes later is checked as the first is."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from umbel.canvas.policies import ON_FAILURE
from umbel.canvas.primitives import chain, chord, group
from umbel.errors import InvalidTaskError
from umbel.options import SEND_OPTIONS, check_send_options
from umbel.publishing.option_checks import check_held, check_values
from umbel.signature_forms import HOLDERS, listed
from umbel.signatures import Signature

_KNOWN = SEND_OPTIONS | {ON_FAILURE}


def check_options(signature: Signature[Any]) -> None:
    """Raise InvalidTaskError for an option of `signature`, or of a part, that can't be sent so.

    No send has it, or not with that value.

    What stands in an option in its JSON form isn't looked at: another maker may know more.
    """
    todo: list[Any] = [signature]
    while todo:
        each = todo.pop()
        if type(each) is not Signature:
            todo += _parts(each)
        options = each.options
        if options:
            if not options.keys() <= _KNOWN:
                _check(each.task, options)
            check_values(each.task, options)
            check_held(each.task, options)
            held = (listed(options.get(name)) for name in HOLDERS)
            todo += [raw for raws in held for raw in raws if isinstance(raw, Signature)]


def _parts(signature: Signature[Any]) -> Iterator[Signature[Any]]:
    """Yield what `signature` is made of; not calls that have no options, as nearly all."""
    match signature:
        case chain() | group():
            yield from (
                each for each in signature.tasks if each.options or type(each) is not Signature
            )
        case chord():
            yield signature.header
            if signature.body is not None:
                yield signature.body


def _check(task: str, options: Mapping[str, Any]) -> None:
    if "on_failure" in options and "on_failure" not in (options.get("stamped_headers") or ()):
        raise InvalidTaskError(
            f"sending task {task!r}: on_failure is said of a chord, or of the group that becomes "
            f"its header, as in group(members, on_failure={options['on_failure']!r:.80})"
        )
    check_send_options(task, {key: each for key, each in options.items() if key != ON_FAILURE})
