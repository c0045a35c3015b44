"""What options mean in a composed signature: to it as a whole, or to each of its parts."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final, TypeVar

from umbel.canvas.policies import ON_FAILURE
from umbel.signature_forms import LINKS, listed
from umbel.signatures import Signature
from umbel.stamps import merged_options

#: Option of a member of a group that isn't a chord's header: its end is counted.
COUNTED: Final = "umbel_counted"
#: Option of a call: its first argument is kept, under this key, and None stands in its place.
RESULTS: Final = "umbel_results"
#: Options that make a call a part of a group or chord.
MEMBERSHIP: Final = ("group_id", "group_index", "chord", COUNTED)
#: Options that mean a composed signature as a whole, and not each of its members.
AS_A_WHOLE: Final = frozenset({"task_id", "chain", ON_FAILURE, *LINKS, *MEMBERSHIP})

S = TypeVar("S", bound=Signature[Any])


def as_member(signature: S, options: Mapping[str, Any]) -> S:
    """Return a copy that is a part of the group or chord that `options` name, if it is of none."""
    membership = {key: options[key] for key in MEMBERSHIP if options.get(key) is not None}
    if not membership:
        return signature
    if "chord" not in membership or signature.options.get("chord") is not None:
        return defaulted(signature, membership)
    return signature.set(**membership)


def defaulted(signature: S, options: Mapping[str, Any]) -> S:
    """Return a copy with those of `options` that it has none of."""
    own = signature.options
    new = {key: each for key, each in options.items() if each is not None and own.get(key) is None}
    return signature.set(**new) if new else signature


def overridden(signature: S, options: Mapping[str, Any]) -> S:
    """Return a copy with `options` over its own: what is said of the whole is the last word."""
    new = {key: each for key, each in options.items() if each is not None}
    return signature.replace(options=merged_options(signature.options, new)) if new else signature


def linked(signature: S, option: str, more: Any) -> S:
    """Return a copy with more callbacks (``link``) or errbacks (``link_error``)."""
    added = listed(more)
    if not added:
        return signature
    both = [*listed(signature.options.get(option)), *added]
    return signature.replace(options={**signature.options, option: both})


def followed(signature: S, chain: Iterable[Any]) -> S:
    """Return a copy that the steps of `chain` come after, the next one last.

    Steps in their JSON form stay so: all but the next one only travel on.
    """
    return signature.set(chain=[*chain, *(signature.options.get("chain") or ())])
