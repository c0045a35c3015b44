"""Checks a value against a typing form, and reads text by one.

Values are taken as they are or refused, never bent: True is no number, 1.0 is no whole number.
"""

from __future__ import annotations

import math
import re
import types
from collections.abc import Callable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from datetime import timedelta
from typing import Any, Union, get_args, get_origin

import msgspec

_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0, "d": 86400.0}
_DURATION = re.compile(r"(\d+(?:\.\d+)?)\s*(ms|s|min|m|h|d)")
_WORDS = {
    **dict.fromkeys(("1", "true", "yes", "on"), True),
    **dict.fromkeys(("0", "false", "no", "off"), False),
}
#: The unit of text that must be a URL.
URL = "URL"
_NONE_WORDS = frozenset({"none", "null"})


class MismatchError(ValueError):
    """A value doesn't fit its form; internal to the settings."""


def convert(value: Any, form: Any, unit: str | None = None) -> Any:
    """Return `value` as `form` reads it: seconds as float, sequences as tuple, mappings copied.

    Raises: MismatchError: it doesn't fit.
    """
    if form is Any:
        return value
    if isinstance(form, types.UnionType) or get_origin(form) is Union:
        return _first(get_args(form), lambda member: convert(value, member, unit))
    return _convert_one(value, get_origin(form) or form, get_args(form), unit)


def parse(text: str, form: Any, unit: str | None = None) -> Any:
    """Return the value that `text`, out of the environment, means under `form`.

    Lists are separated by commas or written as JSON, mappings are JSON, durations are seconds
    or carry a unit (``90``, ``5m``, ``500ms``), and ``none`` is None where None is allowed.

    Raises: MismatchError: it means nothing.
    """
    text = text.strip()
    members = get_args(form) if _is_union(form) else (form,)
    if types.NoneType in members and text.lower() in _NONE_WORDS:
        return None
    # Text is the last resort of a union: "10" is a number where numbers are allowed.
    ordered = sorted(members, key=lambda member: member is str)
    commas = str not in members
    return _first(ordered, lambda member: _parse_one(text, member, unit, commas=commas))


def describe(form: Any, unit: str | None = None) -> str:
    """Return what `form` takes, in words."""
    if _is_union(form):
        return " or ".join(describe(member, unit) for member in get_args(form))
    kind = get_origin(form) or form
    if kind is str and unit == URL:
        return URL
    if kind in {int, float} and unit:
        return f"number of {unit}" if kind is float else f"whole number of {unit}"
    if kind is Sequence:
        return "list of text" if get_args(form) == (str,) else "list"
    words = {
        bool: "true or false",
        int: "whole number",
        float: "number",
        str: "text",
        Mapping: "mapping",
        Callable: "callable",
        types.NoneType: "None",
        Any: "anything",
    }
    return words[kind]


def check_form(form: Any) -> None:
    """Raise MismatchError where `form` isn't one that settings can have."""
    try:
        describe(form)
    except (KeyError, TypeError):
        raise MismatchError(f"{form!r} is no type that a setting can have") from None


def _is_union(form: Any) -> bool:
    return isinstance(form, types.UnionType) or get_origin(form) is Union


def _first(members: Sequence[Any], attempt: Callable[[Any], Any]) -> Any:
    """Return what the first member makes of it; else raise all that they said."""
    said = []
    for member in members:
        try:
            return attempt(member)
        except MismatchError as exc:
            said.append(str(exc))
    raise MismatchError("; ".join(filter(None, said)))


def _convert_one(value: Any, kind: Any, args: tuple[Any, ...], unit: str | None) -> Any:
    if kind in {int, float}:
        return _number(value, kind, unit)
    if kind is Sequence:
        return _sequence(value, args)
    if kind is Mapping:
        return _mapping(value, args)
    if not (callable(value) if kind is Callable else isinstance(value, kind)):
        raise MismatchError
    if kind is str and unit == URL and not re.match(r"[a-zA-Z][a-zA-Z0-9+.\-]*://", value):
        raise MismatchError("write it like 'redis://host:6379/0'")
    return value


def _number(value: Any, kind: type[int | float], unit: str | None) -> int | float:
    if kind is float and unit == "seconds":
        if isinstance(value, timedelta):
            return value.total_seconds()
        if isinstance(value, str) and (found := _DURATION.fullmatch(value.strip().lower())):
            return float(found[1]) * _SECONDS[found[2]]
    if isinstance(value, bool) or not isinstance(value, int if kind is int else (int, float)):
        raise MismatchError
    try:
        number = kind(value)
    except OverflowError:
        raise MismatchError from None
    if kind is float and not math.isfinite(number):
        raise MismatchError
    return number


def _sequence(value: Any, args: tuple[Any, ...]) -> tuple[Any, ...]:
    if isinstance(value, AbstractSet):
        # A set has no order of its own: without this it would differ from process to process.
        value = sorted(value, key=str)
    if not isinstance(value, (list, tuple)):
        raise MismatchError
    return tuple(convert(item, args[0]) for item in value)


def _mapping(value: Any, args: tuple[Any, ...]) -> dict[Any, Any]:
    if not isinstance(value, Mapping):
        raise MismatchError
    return {convert(key, args[0]): convert(item, args[1]) for key, item in value.items()}


def _parse_one(text: str, form: Any, unit: str | None, *, commas: bool) -> Any:
    kind = get_origin(form) or form
    if kind is bool:
        if text.lower() in _WORDS:
            return _WORDS[text.lower()]
    elif kind in {int, float}:
        return _parse_number(text, kind, unit)
    elif kind is Sequence and commas and not text.startswith("["):
        return convert([part.strip() for part in text.split(",") if part.strip()], form)
    elif kind in {Sequence, Mapping}:
        return convert(_from_json(text), form)
    elif kind is str:
        return text
    elif form is Any:
        return _from_json(text) if text.startswith(("{", "[", '"')) else text
    raise MismatchError


def _parse_number(text: str, kind: type[int | float], unit: str | None) -> int | float:
    try:
        value = kind(text)
    except ValueError:
        return _number(text, kind, unit)
    return _number(value, kind, unit)


def _from_json(text: str) -> Any:
    try:
        return msgspec.json.decode(text)
    except msgspec.DecodeError:
        raise MismatchError("isn't valid JSON") from None
