"""Makes checked values out of the table and the layers of what was given; pure.

All that is wrong is collected, so that one start shows every mistake.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from umbel.errors import near_matches
from umbel.redaction import MASK, is_secret_name, mask_text, mask_value
from umbel.settings.celery_names import instead
from umbel.settings.contradictions import contradictions
from umbel.settings.forms import URL, MismatchError, convert, describe, parse
from umbel.settings.layers import DEFAULT_SOURCE, Given, Layer, Problem
from umbel.settings.schema import Setting

_SHOWN = 80


class Resolved(msgspec.Struct, frozen=True):
    """The outcome: all values and where each is from, or what is wrong."""

    values: dict[str, Any]
    sources: dict[str, str]
    problems: tuple[Problem, ...]


def resolve(table: Mapping[str, Setting], layers: Sequence[Layer]) -> Resolved:
    """Return the value of every setting in `table`.

    Args:
        table: Settings by name.
        layers: What was given; the first layer that gives a setting wins. A wrong value is a
            problem also where another layer wins over it.
    """
    values: dict[str, Any] = {}
    sources: dict[str, str] = {}
    problems: list[Problem] = []
    for layer in layers:
        problems += layer.problems
        for name, given in layer.given.items():
            setting = table.get(name)
            if setting is None:
                problems.append(Problem(name, unknown(given.written, name, table), given.source))
                continue
            try:
                value = read(setting, given)
            except MismatchError as exc:
                problems.append(Problem(name, str(exc), given.source))
                continue
            if name not in sources:
                values[name], sources[name] = value, given.source
    wrong = {problem.name for problem in problems}
    _add_defaults(table, values, sources)
    problems += _contradictions(values, sources, wrong)
    return Resolved(
        {name: values[name] for name in table},
        {name: sources[name] for name in table},
        tuple(problems),
    )


def read(setting: Setting, given: Given) -> Any:
    """Return the value that `given` means for `setting`.

    Raises: MismatchError: what is wrong with it, masked.
    """
    value = _other_way(setting, given.value)
    try:
        if given.is_text and value is given.value:
            value = _other_way(setting, parse(value, setting.type, setting.unit))
        value = _other_way(setting, convert(value, setting.type, setting.unit))
    except MismatchError as exc:
        needs = describe(setting.type, setting.unit)
        detail = f" ({exc})" if str(exc) else ""
        got = f"{shown(setting, given.value)} ({type(given.value).__name__})"
        raise MismatchError(f"needs {needs}, not {got}{detail}") from None
    if complaint := _out_of_range(setting, value):
        raise MismatchError(complaint)
    return value


def unknown(written: str, name: str, table: Mapping[str, Setting]) -> str:
    """Say that there is no setting `name`, and which one may be meant.

    Args:
        written: The name as it stands in its source, with prefix and in its case.
    """
    if advice := instead(name):
        return f"is a setting of Celery that umbel doesn't have: {advice}"
    if close := near_matches(name.lower(), table, limit=1):
        prefix = written[: len(written) - len(name)]
        meant = prefix + close[0].upper() if prefix and written.isupper() else close[0]
        return f"is no setting; did you mean {meant}?"
    return "is no setting of umbel or of a plugin that is installed"


def shown(setting: Setting, value: Any) -> str:
    """Return `value` for an error's text: masked and short."""
    if is_hidden(setting):
        return MASK
    if setting.unit == URL and isinstance(value, str) and not re.search(r"^\w+$|://", value):
        return MASK  # a broken URL, with its password in some place
    text = mask_text(repr(mask_value(value)))
    return f"{text[:_SHOWN]}…" if len(text) > _SHOWN else text


def is_hidden(setting: Setting) -> bool:
    """Tell whether all of the setting's value is secret."""
    return setting.secret or is_secret_name(setting.name)


def _other_way(setting: Setting, value: Any) -> Any:
    """Return what `value` means where it is one of the setting's aliases, else itself."""
    for alias, meaning in setting.aliases:
        if type(alias) is type(value) and alias == value:
            return meaning
    return value


def _out_of_range(setting: Setting, value: Any) -> str | None:
    if value is None:
        return None
    if setting.choices and value not in setting.choices:
        allowed = ", ".join(repr(choice) for choice in setting.choices)
        return f"must be one of {allowed}, not {shown(setting, value)}"
    if setting.minimum is not None and value < setting.minimum:
        return f"must be at least {setting.minimum:g}, not {shown(setting, value)}"
    if setting.maximum is not None and value > setting.maximum:
        return f"must be at most {setting.maximum:g}, not {shown(setting, value)}"
    if setting.check and (complaint := setting.check(value)):
        return f"is {shown(setting, value)}, which {complaint}"
    return None


def _add_defaults(
    table: Mapping[str, Setting], values: dict[str, Any], sources: dict[str, str]
) -> None:
    for name, setting in table.items():
        if name not in values:
            values[name] = convert(setting.default, setting.type, setting.unit)
            sources[name] = DEFAULT_SOURCE
    for name, setting in table.items():
        if setting.follows and sources[name] == DEFAULT_SOURCE:
            values[name] = setting.follows(values)


def _contradictions(
    values: Mapping[str, Any], sources: Mapping[str, str], wrong: set[str]
) -> list[Problem]:
    return [
        Problem(name, f"{text} ({other} is from {sources[other]})", sources[name])
        for name, other, text in contradictions(values)
        if not {name, other} & wrong
    ]
