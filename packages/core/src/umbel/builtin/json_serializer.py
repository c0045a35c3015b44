"""The JSON serializer: Celery's JSON, at the speed of msgspec where the value is plain.

msgspec writes datetimes untagged and NaN as null, so it only ever sees values that consist of
exact str, int, bool, None, finite float, list, tuple and dict; all others take the standard
library's encoder. What msgspec refuses to read (NaN, 1e400, lone surrogates) the standard
library reads, as it does in Celery.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection
from itertools import accumulate
from typing import Any, ClassVar, TypeVar

import msgspec

from umbel.errors import DecodeError, EncodeError
from umbel.interfaces.serializer import Serializer
from umbel.json_types import TYPE_KEY, VALUE_KEY, JsonTypes

T = TypeVar("T")

#: Levels of nesting that are written and read, unless the app says otherwise. Far from what the
#: stack can take.
MAX_DEPTH = 200

_SCALARS: frozenset[type] = frozenset({str, int, bool, type(None)})
_TEXT: frozenset[type] = frozenset({str})
_CONTAINERS: frozenset[type] = frozenset({list, tuple, dict})
_KEY_TYPES = (str, int, float, type(None))
_TAG = f'"{TYPE_KEY}"'
_TAG_BYTES = _TAG.encode()
_NO_MARKS = bytes(set(range(256)) - set(b'[]{}"'))
_SQUARED = bytes.maketrans(b"{}", b"[]")
_STEP = {ord("["): 1, ord("]"): -1}
_LEVELS_AT_ONCE = 16
#: From here on a pass over all types at once pays, even if it may be in vain.
_MANY = 16
_TOO_DEEP = "is nested deeper than {} levels, or holds itself"

_msgspec_encode = msgspec.json.Encoder().encode
_msgspec_decode = msgspec.json.Decoder().decode


class JsonSerializer(Serializer):
    """JSON with Celery's extended types.

    Not kept: a tuple comes back as a list, a dict's number, bool and None keys as text, an Enum
    as its value.

    Args:
        types: The table of extended types; None: Celery's own.
    """

    name: ClassVar[str] = "json"
    content_type: ClassVar[str] = "application/json"

    def __init__(self, types: JsonTypes | None = None):
        self.types = JsonTypes() if types is None else types
        self.max_depth = MAX_DEPTH

    def register_type(
        self, cls: type[T], marker: str, encode: Callable[[T], Any], decode: Callable[[Any], T]
    ) -> None:
        """Let values of `cls` travel under `marker`; see `umbel.json_types.JsonTypes.register`."""
        self.types.register(cls, marker, encode, decode)

    def dumps(self, value: Any) -> bytes:
        """Encode `value`.

        Raises: EncodeError: it can't be; the text names the path to the part that can't.
        """
        try:
            if type(value) not in _SCALARS and not _is_plain((value,), self.max_depth + 1):
                return self._dumps_any(value)
            data = _msgspec_encode(value)
        except (ValueError, RecursionError):  # a lone surrogate, a huge int; a stack nearly full
            return self._dumps_any(value)
        if _TAG_BYTES in data:
            self._check_tags(data)
        return data

    def loads(self, data: bytes) -> Any:
        """Decode `data`.

        Raises: DecodeError: malformed, or nested too deeply. Never another exception.
        """
        limit = self.max_depth
        if len(data) > limit and is_deeper(data, limit):
            raise DecodeError(f"the JSON is nested deeper than {limit} levels")
        try:
            if _TAG_BYTES not in data:
                try:
                    return _msgspec_decode(data)
                except (msgspec.MsgspecError, UnicodeDecodeError):
                    pass  # the standard library reads more, and words its errors with positions
            return json.loads(bytes(data).decode("utf-8"), object_hook=self.types.decode)
        except DecodeError:
            raise
        except (ValueError, RecursionError) as exc:  # UnicodeDecodeError is a ValueError
            raise DecodeError(f"not JSON: {exc}") from exc

    def _dumps_any(self, value: Any) -> bytes:
        """Encode `value` with the standard library: extended types, NaN, subclasses."""
        tags = 0

        def default(part: Any) -> Any:
            nonlocal tags
            plain = self.types.encode(part)
            if type(plain) is dict and TYPE_KEY in plain:
                tags += 1
            return plain

        try:
            text = json.dumps(value, default=default, separators=(",", ":"))
        except Exception as exc:  # __json__ methods and encoders of users may raise anything
            raise EncodeError(self._complaint(value, exc)) from exc
        data = text.encode("ascii")
        if len(data) > self.max_depth and is_deeper(data, self.max_depth):
            raise EncodeError(f"the value {_TOO_DEEP.format(self.max_depth)}")
        if text.count(_TAG) != tags:
            self._check_tags(data)
        return data

    def _check_tags(self, data: bytes) -> None:
        """Refuse a dict of the sender's own that a reader would take for a tagged value."""
        try:
            self.loads(data)
        except DecodeError as exc:
            raise EncodeError(
                f"a dict with just the keys {TYPE_KEY!r} and {VALUE_KEY!r} stands for an extended "
                f"type, and this one couldn't be read back ({exc}); rename a key"
            ) from exc

    def _complaint(self, value: Any, exc: Exception) -> str:
        root, parts = _name_parts(value)
        found = self._blame(value, root, parts, self.max_depth)
        return found or f"the value can't be encoded as JSON: {exc}"

    def _blame(
        self, value: Any, path: str, names: tuple[str, ...] | None, depth: int
    ) -> str | None:
        """Return which part of `value` can't be encoded and why; None: all can."""
        if depth < 0:
            return f"{path} {_TOO_DEEP.format(self.max_depth)}"
        if isinstance(value, dict):
            for key, item in value.items():
                if not isinstance(key, _KEY_TYPES):
                    return f"{path} has a key of type {type(key).__name__}; make it text"
                if found := self._blame(item, f"{path}[{key!r:.80}]", None, depth - 1):
                    return found
            return None
        if isinstance(value, (list, tuple)):
            for index, item in enumerate(value):
                inner = names[index] if names else f"{path}[{index}]"
                if found := self._blame(item, inner, None, depth - 1):
                    return found
            return None
        try:
            if isinstance(value, (str, int, float, type(None))):
                json.dumps(value)  # an int may be too long for its digits
                return None
            plain = self.types.encode(value)
        except TypeError as exc:
            text = str(exc)
            return f"{path} {text}" if text.startswith("is of") else f"{path} failed: {text}"
        except Exception as exc:  # noqa: BLE001 - __json__ methods may raise anything
            return f"{path} can't be encoded: {type(exc).__name__}: {exc}"
        return self._blame(plain, path, None, depth - 1)


def _is_plain(value: Any, depth: int) -> bool:
    """Tell whether msgspec may encode the container `value`: plain all through, not too deep."""
    if depth <= 0:
        return False
    parts: Collection[Any] = value
    if type(value) is dict:
        if not _TEXT.issuperset(map(type, value)):
            return False
        parts = value.values()
    if len(parts) > _MANY and _SCALARS.issuperset(map(type, parts)):
        return True
    for part in parts:
        kind = type(part)
        if kind in _SCALARS:
            continue
        if kind is float:
            if part - part != 0.0:  # NaN or infinite
                return False
        elif kind not in _CONTAINERS or ((part or depth == 1) and not _is_plain(part, depth - 1)):
            return False
    return True


def is_deeper(data: bytes, limit: int) -> bool:
    """Tell whether the JSON in `data` nests deeper than `limit`, without recursion.

    Looks at the brackets alone. Takes the innermost pairs away, level by level, which ordinary
    documents are through with in a few steps; what is left after that is counted one by one.
    """
    if data.count(b"[") + data.count(b"{") <= limit:
        return False
    if b"\\" in data:
        data = data.replace(b"\\\\", b"").replace(b'\\"', b"")
    marks = data.translate(_SQUARED, _NO_MARKS).replace(b'""', b"")
    if b'"' in marks:  # some strings hold brackets
        marks = b"".join(marks.split(b'"')[::2])
    levels = min(limit, _LEVELS_AT_ONCE)
    for _ in range(levels):
        marks = marks.replace(b"[]", b"")
        if not marks:
            return False
    return levels + max(accumulate(map(_STEP.__getitem__, marks)), default=0) > limit


def _name_parts(value: Any) -> tuple[str, tuple[str, ...] | None]:
    """Name the three parts of a task message's body in errors, since users know those."""
    if (
        type(value) in (list, tuple)
        and len(value) == 3
        and isinstance(value[1], dict)
        and isinstance(value[2], dict)
        and "callbacks" in value[2]
    ):
        return "body", ("args", "kwargs", "embed")
    return "value", None
