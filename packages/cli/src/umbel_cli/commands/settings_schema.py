"""The settings as a JSON Schema, by which editors check and complete ``umbel.toml``."""

from __future__ import annotations

import json
import types
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Union, get_args, get_origin

from umbel.settings import Setting

_DRAFT = "https://json-schema.org/draft/2020-12/schema"
_TYPES: Mapping[Any, str] = {
    bool: "boolean",
    int: "integer",
    float: "number",
    str: "string",
    types.NoneType: "null",
}


def schema_of(settings: Iterable[Setting]) -> dict[str, Any]:
    """Return the JSON Schema of a table with these settings, and no others."""
    return {
        "$schema": _DRAFT,
        "title": "Settings of umbel",
        "type": "object",
        "properties": {each.name: _property(each) for each in settings},
        "additionalProperties": False,
    }


def _property(setting: Setting) -> dict[str, Any]:
    forms = _forms(setting.type, setting.unit)
    schema: dict[str, Any] = {"description": setting.help}
    schema |= forms[0] if len(forms) == 1 else {"anyOf": forms}
    if setting.choices:
        schema["enum"] = list(setting.choices)
    if setting.minimum is not None:
        schema["minimum"] = setting.minimum
    if setting.maximum is not None:
        schema["maximum"] = setting.maximum
    if setting.default is not None and not setting.secret and _is_json(setting.default):
        schema["default"] = setting.default
    return schema


def _forms(form: Any, unit: str | None) -> list[dict[str, Any]]:
    """Return a schema for each way to write a value; what no file can hold is left out."""
    if isinstance(form, types.UnionType) or get_origin(form) is Union:
        return [each for member in get_args(form) for each in _forms(member, unit)]
    kind = get_origin(form) or form
    if kind is Callable:
        return [{"type": "string", "description": "dotted name of a callable"}]
    if kind is Sequence:
        (items,) = get_args(form)
        return [{"type": "array", "items": _forms(items, None)[0]}]
    if kind is Mapping:
        return [{"type": "object"}]
    if kind is float and unit == "seconds":
        return [
            {"type": "number"},
            {"type": "string", "pattern": r"^\d+(\.\d+)?\s*(ms|s|min|m|h|d)$"},
        ]
    return [{"type": _TYPES[kind]}] if kind in _TYPES else [{}]


def _is_json(value: Any) -> bool:
    try:
        json.dumps(value)
    except (TypeError, ValueError):
        return False
    return True
