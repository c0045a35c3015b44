"""The Python types beyond JSON's own that messages and results may hold.

Each travels as an object of exactly two keys, as in Celery:
``{"__type__": marker, "__value__": plain}``. The table belongs to one serializer, not to the
process, so what one app registers no other app sees.
"""

from __future__ import annotations

import binascii
from base64 import b64encode
from collections.abc import Callable, Mapping
from datetime import date, datetime, time
from decimal import Decimal, InvalidOperation
from enum import Enum
from typing import Any, TypeVar
from uuid import UUID

from umbel.errors import ConfigError, DecodeError

T = TypeVar("T")

TYPE_KEY = "__type__"
VALUE_KEY = "__value__"

#: What to do about a type that JSON lacks and Celery refuses as well.
_HINTS: Mapping[str, str] = {
    "set": "make it a list",
    "frozenset": "make it a list",
    "deque": "make it a list",
    "generator": "make it a list",
    "bytearray": "make it bytes",
    "memoryview": "make it bytes",
    "timedelta": "pass its total_seconds()",
    "complex": "pass its real and imag",
}


class JsonTypes:
    """Which types travel tagged, and how they are turned into plain JSON and back.

    A new table knows Celery's own: datetime, date, time, Decimal, UUID, bytes. Besides these,
    an object with a ``__json__()`` method stands as what that returns, and an Enum member
    as its value; neither comes back as what it was.
    """

    def __init__(self) -> None:
        self._encoders: dict[type, tuple[str, Callable[[Any], Any]]] = {}
        self._decoders: dict[str, Callable[[Any], Any]] = {}
        self.register(datetime, "datetime", datetime.isoformat, datetime.fromisoformat)
        self.register(date, "date", date.isoformat, _decode_date)
        self.register(time, "time", time.isoformat, time.fromisoformat)
        self.register(Decimal, "decimal", str, _decode_decimal)
        self.register(UUID, "uuid", lambda value: {"hex": value.hex}, _decode_uuid)
        self._decoders["bytes"] = _decode_text_bytes
        self._decoders["base64"] = _decode_base64

    def register(
        self,
        cls: type[T],
        marker: str,
        encode: Callable[[T], Any],
        decode: Callable[[Any], T],
    ) -> None:
        """Let values of `cls` and its subclasses travel under `marker`.

        Args:
            marker: Unique name on the wire; senders and workers must agree on it.
            encode: Turns a value into JSON types or other types known to this table.
            decode: Turns what `encode` made, read back, into a value. Gets untrusted input.
        Raises: ConfigError: `marker` is empty or stands for another class already.
        """
        if not marker or not isinstance(marker, str):
            raise ConfigError(f"the marker of {cls.__name__} must be a name, not {marker!r}")
        own = self._encoders.get(cls, ("", None))[0]
        if marker in ("bytes", "base64") or (marker in self._decoders and marker != own):
            raise ConfigError(f"marker {marker!r} is taken by another type; choose another one")
        self._encoders[cls] = (marker, encode)
        self._decoders[marker] = decode

    def encode(self, value: Any) -> Any:
        """Return what stands for `value` in JSON; it may hold further values to be encoded.

        Raises: TypeError: nothing does; the text says why. Or what a user's encoder raises.
        """
        method = getattr(value, "__json__", None)
        if method is not None and not isinstance(value, type):
            return method()
        for base in type(value).__mro__:
            found = self._encoders.get(base)
            if found is not None:
                return {TYPE_KEY: found[0], VALUE_KEY: found[1](value)}
        if isinstance(value, bytes):
            return encode_bytes(value)
        if isinstance(value, Enum):
            return value.value
        raise TypeError(_why_not(value))

    def decode(self, raw: dict[str, Any]) -> Any:
        """Return the value that `raw` stands for; `raw` itself where it isn't tagged.

        Raises: DecodeError: the marker is unknown, or its value isn't what it should be.
        """
        if len(raw) != 2 or TYPE_KEY not in raw or VALUE_KEY not in raw:
            return raw
        marker = raw[TYPE_KEY]
        decoder = self._decoders.get(marker) if isinstance(marker, str) else None
        if decoder is None:
            raise DecodeError(
                f"type {marker!r:.80} is not known here; register it as its sender does, "
                f"known are: {', '.join(sorted(self._decoders))}"
            )
        try:
            return decoder(raw[VALUE_KEY])
        except Exception as exc:  # decoders of users get untrusted input, too
            raise DecodeError(
                f"a value of type {marker!r} is malformed: {raw[VALUE_KEY]!r:.80}"
            ) from exc


def encode_bytes(value: bytes) -> dict[str, Any]:
    """Return Celery's form of bytes: as text where they are UTF-8, else in base64."""
    try:
        return {TYPE_KEY: "bytes", VALUE_KEY: value.decode("utf-8")}
    except UnicodeDecodeError:
        return {TYPE_KEY: "base64", VALUE_KEY: b64encode(value).decode("ascii")}


def _decode_date(raw: Any) -> date:
    return datetime.fromisoformat(raw).date()  # Celery takes a full timestamp as well


def _decode_decimal(raw: Any) -> Decimal:
    if isinstance(raw, bool) or not isinstance(raw, (str, int, float)):
        raise ValueError("a decimal must be text or a number")
    try:
        return Decimal(raw)
    except InvalidOperation:
        raise ValueError("not a decimal number") from None


def _decode_uuid(raw: Any) -> UUID:
    if not isinstance(raw, dict) or not raw.keys() <= {"hex", "version"}:
        raise ValueError("a uuid must be an object with a 'hex'")
    # Older kombu wrote the version beside the digits.
    return UUID(hex=raw["hex"], version=raw.get("version"))


def _decode_text_bytes(raw: Any) -> bytes:
    if not isinstance(raw, str):
        raise ValueError("bytes must be text")
    return raw.encode("utf-8")


def _decode_base64(raw: Any) -> bytes:
    if not isinstance(raw, str):
        raise ValueError("base64 must be text")
    return binascii.a2b_base64(raw, strict_mode=True)


def _why_not(value: Any) -> str:
    kind = type(value)
    hint = _HINTS.get(kind.__name__)
    if hint is None and isinstance(value, type):
        hint = "pass its name"
    elif hint is None and hasattr(kind, "__dataclass_fields__"):
        hint = "pass dataclasses.asdict() of it, or annotate the argument with the class"
    elif hint is None:
        hint = "pass plain data, give the class a __json__ method, or register the type"
    return f"is of type {kind.__module__}.{kind.__qualname__}, which JSON can't hold; {hint}"
