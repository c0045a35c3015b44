"""A repr for people that is short whatever the value: for logs, events and message headers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

#: Characters; Celery shortens its argsrepr to about as much.
MAX_CHARS = 1024
_MAX_DEPTH = 8
_PLAIN = frozenset({int, float, bool, type(None)})
_BRACKETS: Mapping[type, tuple[str, str]] = {
    list: ("[", "]"),
    tuple: ("(", ")"),
    set: ("{", "}"),
    frozenset: ("frozenset({", "})"),
}


def short_repr(value: Any, limit: int = MAX_CHARS) -> str:
    """Return `value`'s repr, at most `limit` characters; never raises.

    Large collections and texts are not walked further than what is shown.
    """
    out: list[str] = []
    _write(value, out, limit, 0)
    text = "".join(out)
    return text if len(text) <= limit else text[: limit - 3] + "..."


def arguments_repr(args: Sequence[Any]) -> str:
    """Return `short_repr` of the positional arguments, as a tuple; quick for plain ones."""
    room = MAX_CHARS - 2
    for item in args:
        kind = type(item)
        if kind is str:
            room -= len(item) + 4
        elif kind in _PLAIN:
            room -= 24
        else:
            room = -1
        if room < 0:
            return short_repr(tuple(args))
    try:
        text = repr(args) if type(args) is tuple else repr(tuple(args))
    except ValueError:  # an int of more digits than Python prints
        return short_repr(tuple(args))
    return text if len(text) <= MAX_CHARS else text[: MAX_CHARS - 3] + "..."


def _write(value: Any, out: list[str], room: int, depth: int) -> int:
    """Append pieces of the repr to `out`; return how much room is left."""
    kind = type(value)
    if kind is str or kind is bytes:
        text = repr(value if len(value) <= room else value[: max(room, 0)])
        if len(value) > room:
            text = text[:-1] + "..." + text[-1]
    elif kind in _BRACKETS:
        return _write_items(value, out, room, depth)
    elif kind is dict:
        return _write_dict(value, out, room, depth)
    else:
        try:
            text = repr(value)
        except Exception as exc:  # noqa: BLE001 - a broken __repr__ mustn't stop a send
            text = f"<{kind.__name__} whose repr raises {type(exc).__name__}>"
    out.append(text[: max(room, 0) + 8])
    return room - len(text)


def _write_items(items: Any, out: list[str], room: int, depth: int) -> int:
    kind = type(items)
    if not items and kind in (set, frozenset):
        out.append(f"{kind.__name__}()")
        return room - len(out[-1])
    opening, closing = _BRACKETS[kind]
    out.append(opening)
    room -= len(opening) + len(closing)
    for index, item in enumerate(items):
        if index:
            out.append(", ")
            room -= 2
        if room <= 0 or depth >= _MAX_DEPTH:
            out.append("...")
            break
        room = _write(item, out, room, depth + 1)
    else:
        if kind is tuple and len(items) == 1:
            out.append(",")
    out.append(closing)
    return room


def _write_dict(items: Mapping[Any, Any], out: list[str], room: int, depth: int) -> int:
    out.append("{")
    room -= 2
    for index, (key, item) in enumerate(items.items()):
        if index:
            out.append(", ")
            room -= 2
        if room <= 0 or depth >= _MAX_DEPTH:
            out.append("...")
            break
        room = _write(key, out, room, depth + 1)
        out.append(": ")
        room = _write(item, out, room - 2, depth + 1)
    out.append("}")
    return room
