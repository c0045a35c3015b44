"""What tasks return: what they are and what they were called with, kept short."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Sequence
from typing import Any

#: Stands for the id of a task, in what is shown.
ID = "<id>"
#: What the tag of a task begins with that is added to a chord.
ADDED = "x"
#: An argument of its own.
OWN = "own"
_LONGEST = 60
_IDS = re.compile(r"^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$")


def shown(args: Sequence[Any]) -> str:
    """Return what a task was called with as text, in which no id differs from another."""
    return json.dumps([_plain(each) for each in args])


def value_of(tag: str, args: Sequence[Any]) -> str:
    """Return what the task `tag` returns when it is called with `args`."""
    text = f"{tag}{shown(args)}"
    if len(text) <= _LONGEST:
        return text
    return f"{tag}#{hashlib.sha256(text.encode()).hexdigest()[:12]}"


def _is_added(shown: Any) -> bool:
    return isinstance(shown, str) and shown.removeprefix("!ValueError['").startswith(ADDED)


def _plain(value: Any) -> Any:
    if isinstance(value, list):
        # The results of a task and of what it has added to their chord come in any order.
        plain = [_plain(each) for each in value]
        added = [each for each in plain if _is_added(each)]
        return [each for each in plain if not _is_added(each)] + sorted(added)
    if isinstance(value, dict) and "exc_type" in value:
        # Which failure a ChordError names is a matter of order.
        if value["exc_type"] == "ChordError":
            return "!ChordError"
        return f"!{value['exc_type']}{value['exc_message']}"
    if isinstance(value, str) and _IDS.match(value):
        return ID
    return value
