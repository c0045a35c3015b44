"""What a list holds: an envelope, with a mark in it where umbel has to remember something.

A mark is one more member at the head of the envelope's JSON object, which kombu passes over:
``{"umbel":"<deliveries>:<strikes>:<once>",`` and the rest. `once` is the key of a message that was
sent once, in hexadecimal; empty for all others. Where one more number follows, the message waits in
a list, and not in the delay set, until that time (unix milliseconds): nobody of umbel's had ever
received from its queue, so that only Celery's workers might find it.
"""

from __future__ import annotations

from typing import Final, NamedTuple

_HEAD: Final = b'{"umbel":"'
_END: Final = b'",'
#: Digits that a number of a mark has at most: what has more was forged.
_MOST_DIGITS: Final = 15


class Entry(NamedTuple):
    """An entry, read."""

    envelope: bytes
    #: How often it was handed out before.
    deliveries: int = 0
    #: How many processes died while running it.
    strikes: int = 0
    #: What it is known by, where it was sent once.
    once: str = ""
    #: It is in a list and not due before a time.
    is_early: bool = False


def read_entry(raw: bytes) -> Entry:
    """Return what `raw` says; what has no mark of ours is an envelope as it stands."""
    if not raw.startswith(_HEAD):
        return Entry(raw)
    end = raw.find(_END, len(_HEAD))
    mark = raw[len(_HEAD) : end].split(b":", 4) if end > 0 else []
    try:
        deliveries, strikes, once, *due = mark
        if not all(map(_is_number, (deliveries, strikes, *due))) or len(due) > 1:
            return Entry(raw)
        return Entry(
            b"{" + raw[end + len(_END) :],
            int(deliveries),
            int(strikes),
            bytes.fromhex(once.decode()).decode(errors="replace"),
            bool(due),
        )
    except ValueError:
        return Entry(raw)


def _is_number(text: bytes) -> bool:
    return text.isdigit() and len(text) <= _MOST_DIGITS


def marked(envelope: bytes, *, once: str) -> bytes:
    """Return the entry of an envelope that is sent once, known by the key `once`."""
    return _HEAD + b"0:0:" + mark_of(once).encode() + _END + envelope[1:]


def mark_of(once: str) -> str:
    """Return how a mark writes the key `once`."""
    return once.encode().hex()
