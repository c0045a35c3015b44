"""Annotated types to plain values and back: which annotations need it, and how each is done.

msgspec does dataclasses, structs, attrs classes, enums, sets, tuples, UUID, Decimal and times;
pydantic, imported only where one of its models shows up, does annotations with models in them.
"""

from __future__ import annotations

import dataclasses
import enum
import sys
import typing
from collections.abc import Callable, Mapping
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from typing import Any, NamedTuple
from uuid import UUID

import msgspec

from umbel.requests import Request

Dump = Callable[[Any], Any]
Load = Callable[[Any], Any]

#: Values that serializers hold as they are (Celery's extended JSON types).
_NATIVE = (bytes, datetime, date, time, UUID, Decimal)
_CONVERTED = (*_NATIVE, timedelta, enum.Enum, set, frozenset, tuple, msgspec.Struct)


class Converter(NamedTuple):
    """How values of one annotation travel."""

    dump: Dump
    load: Load


def converter_for(annotation: Any, scope: Mapping[str, Any]) -> Converter | None:
    """Return how values annotated as `annotation` travel; None where they do as they are.

    Args:
        annotation: As it stands at the function, perhaps a string.
        scope: The function's globals. What can't be evaluated there needs no conversion.
    """
    kind = _evaluate(annotation, scope)
    if kind is None:
        return None
    needs = _Needs()
    needs.look(kind)
    if needs.pydantic:
        return _pydantic_converter(kind)
    return _msgspec_converter(kind) if needs.msgspec else None


def is_request(annotation: Any, scope: Mapping[str, Any]) -> bool:
    """Tell whether `annotation` is `umbel.requests.Request`, perhaps or None."""
    kind = _evaluate(annotation, scope)
    return kind is Request or set(typing.get_args(kind)) == {Request, type(None)}


def _evaluate(annotation: Any, scope: Mapping[str, Any]) -> Any:
    holder = type("_Holder", (), {"__annotations__": {"value": annotation}})
    try:
        return typing.get_type_hints(holder, globalns=dict(scope), include_extras=True)["value"]
    except Exception:  # noqa: BLE001 - an annotation can be anything, names of TYPE_CHECKING too
        return None


class _Needs:
    """Walks an annotation, and the fields of the classes in it, for what needs conversion."""

    def __init__(self) -> None:
        self.msgspec = False
        self.pydantic = False
        self._seen: set[Any] = set()

    def look(self, kind: Any) -> None:
        if isinstance(kind, typing.TypeVar):
            return
        for argument in typing.get_args(kind):
            self.look(argument)
        origin = typing.get_origin(kind) or kind
        if not isinstance(origin, type) or origin in self._seen:
            return
        self._seen.add(origin)
        if _is_pydantic(origin):
            self.pydantic = True
        elif dataclasses.is_dataclass(origin) or hasattr(origin, "__attrs_attrs__"):
            self.msgspec = True
            self._look_at_fields(origin)
        elif issubclass(origin, _CONVERTED):
            self.msgspec = True
            if issubclass(origin, (msgspec.Struct, tuple)):
                self._look_at_fields(origin)

    def _look_at_fields(self, kind: type) -> None:
        try:
            hints = typing.get_type_hints(kind, include_extras=True)
        except Exception:  # noqa: BLE001 - as in _evaluate
            return
        for hint in hints.values():
            self.look(hint)


def _is_pydantic(kind: type) -> bool:
    """Tell whether it is a pydantic model or dataclass, without importing pydantic."""
    pydantic = sys.modules.get("pydantic")
    if pydantic is None:
        return False
    return issubclass(kind, pydantic.BaseModel) or hasattr(kind, "__pydantic_validator__")


def _msgspec_converter(kind: Any) -> Converter | None:
    try:
        msgspec.json.Decoder(kind)
    except TypeError:
        return None  # a union or class that msgspec can't tell apart: values travel as they are

    def load(value: Any) -> Any:
        return msgspec.convert(value, kind, dec_hook=_as_it_is)

    return Converter(plain, load)


def _pydantic_converter(kind: Any) -> Converter:
    from pydantic import TypeAdapter  # noqa: PLC0415 - loaded already where a model is annotated

    return Converter(plain, TypeAdapter(kind).validate_python)


def _as_it_is(_kind: type, value: Any) -> Any:
    """Leave a value whose class msgspec doesn't know; the task sees what arrived."""
    return value


def plain(value: Any) -> Any:
    """Return `value` in plain types; as it is where a part of it is of no known kind."""
    try:
        return msgspec.to_builtins(value, builtin_types=_NATIVE, enc_hook=_plain_other)
    except (TypeError, NotImplementedError):
        return value  # the serializer knows it, or says what is wrong with it


def _plain_other(value: Any) -> Any:
    dump = getattr(value, "model_dump", None)
    if callable(dump):
        return dump(mode="json")
    raise NotImplementedError
