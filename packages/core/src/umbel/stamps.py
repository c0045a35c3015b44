"""Stamps: what is said of a signature beside its arguments, such as who asked for it.

They are options of their own names, which the option ``stamped_headers`` lists.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any, Final

import msgspec

from umbel.errors import InvalidTaskError, WrongTypeError

#: Option that lists the names of the stamps.
NAMES: Final = "stamped_headers"
#: Options that tie a call to others. A stamp of such a name would tear a workflow apart.
_TIES: Final = frozenset(
    {"task_id", "group_id", "group_index", "chord", "chain", "link", "link_error", "stamps"}
)


def merged_options(own: Mapping[str, Any], new: Mapping[str, Any]) -> dict[str, Any]:
    """Return options with new ones over them.

    A group that something is a member of stays, and so do its stamps, as in Celery.
    """
    merged = {**own, **new}
    if own.get("group_id") is not None and "group_id" in new:
        merged["group_id"] = own["group_id"]
    if own.get(NAMES):
        merged.update((name, own[name]) for name in own[NAMES] if name in own)
        merged[NAMES] = _unique(own[NAMES], new.get(NAMES) or ())
    return merged


def named(headers: Mapping[str, Any] | None) -> dict[str, Any]:
    """Return what a visitor or caller gave; all of it are stamps unless it says which.

    Raises:
        WrongTypeError: these are no stamps.
        InvalidTaskError: one has the name of an option that ties calls together.
    """
    if headers is not None and not isinstance(headers, Mapping):
        raise WrongTypeError(f"stamps must be a dict of names and values, not {headers!r:.80}")
    given = dict(headers or ())
    names = given.get(NAMES)
    if names is not None and not are_names(names):
        raise WrongTypeError(f"{NAMES} must be a list of names of stamps, not {names!r:.80}")
    given[NAMES] = _unique(given if names is None else names, ())
    if not _TIES.isdisjoint(given):
        wrong = min(_TIES & given.keys())
        raise InvalidTaskError(f"a stamp can't be named {wrong!r}, as that is how calls are tied")
    return given


def are_names(given: Any) -> bool:
    """Tell whether `given` can list the names of stamps; a text would be torn apart."""
    if isinstance(given, (str, bytes)) or not isinstance(given, Collection):
        return False
    return all(isinstance(each, str) for each in given)


def check_visitor(visitor: Any) -> None:
    """Raise WrongTypeError for what can't say how signatures are stamped. None can be."""
    if visitor is not None and (isinstance(visitor, type) or not hasattr(visitor, "on_signature")):
        hint = f"; make one: {visitor.__name__}()" if isinstance(visitor, type) else ""
        raise WrongTypeError(
            f"stamp() takes a StampingVisitor, and stamps by name as in stamp(customer=7), "
            f"not {visitor!r:.80}{hint}"
        )


def combined(
    first: Mapping[str, Any], second: Mapping[str, Any], *, append: bool
) -> dict[str, Any]:
    """Return both; where they have the same stamp the second one's, or with `append` a list."""
    names = _unique(first.get(NAMES) or (), second.get(NAMES) or ())
    both = {**first, **second, NAMES: names}
    if append:
        for name in names:
            if name in first and name in second:
                both[name] = [*_values(first[name]), *_values(second[name])]
    return both


def stamps_of(options: Mapping[str, Any]) -> dict[str, Any]:
    """Return the stamps among options, and the list of their names."""
    names = _unique(options.get(NAMES) or (), ())
    return {**{name: options[name] for name in names if name in options}, NAMES: names}


def stamped(
    options: Mapping[str, Any], headers: Mapping[str, Any], *, append: bool
) -> dict[str, Any]:
    """Return options with more stamps.

    Args:
        options: What a signature has.
        headers: As `named` or `combined` return them: stamps, and other options that a visitor gave.
        append: Make a list of what it had and what is new.
    """
    both = combined(stamps_of(options), headers, append=append)
    if not both[NAMES]:
        del both[NAMES]
    return {**options, **both}


def revoked_as(stamps: Mapping[str, Any]) -> list[str]:
    """Return what stands among the ids of revoked tasks for those with one of these stamps."""
    encode = msgspec.json.Encoder(enc_hook=str).encode
    return [
        f"stamp:{encode([name, value]).decode()}"
        for name, values in stamps.items()
        for value in _values(values)
    ]


def _values(given: Any) -> list[Any]:
    return list(given) if isinstance(given, (list, tuple)) else [given]


def _unique(first: Any, second: Any) -> list[str]:
    return list(dict.fromkeys([name for name in (*first, *second) if name != NAMES]))
