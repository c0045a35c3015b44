"""Values of options that a call is sent with, checked, and as a message has them."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta, tzinfo
from typing import Any

from umbel.clock import Clock
from umbel.errors import DecodeError, InvalidTaskError
from umbel.messages import MAX_PRIORITY
from umbel.signature_forms import is_form
from umbel.signatures import Signature

#: No time that counts from now lies further away: years have four digits. NaN isn't within.
_MOST_S = 6e10


def instant(task: str, option: str, value: Any, clock: Clock, zone: tzinfo = UTC) -> float:
    """Return `value` as unix seconds: a number or timedelta counts from now.

    A time without a zone is in `zone`.

    Raises: InvalidTaskError: it is neither that nor a datetime or its ISO 8601 text.
    """
    found = time_in(task, option, value)
    if isinstance(found, datetime):
        return (found if found.tzinfo is not None else found.replace(tzinfo=zone)).timestamp()
    return clock.time() + found


def time_in(task: str, option: str, value: Any) -> datetime | float:
    """Return the time that an option names, or seconds from now. Raises: InvalidTaskError."""
    if isinstance(value, datetime):
        return value
    if isinstance(value, str):
        try:
            return datetime.fromisoformat(value)
        except ValueError as exc:
            text = f"sending task {task!r}: {option} isn't an ISO 8601 time: {value!r:.80}"
            raise InvalidTaskError(text) from exc
    return seconds(task, option, value)


def seconds(task: str, option: str, value: Any) -> float:
    """Return a duration in seconds: a number or a timedelta. Raises: InvalidTaskError."""
    found = value.total_seconds() if isinstance(value, timedelta) else value
    if isinstance(found, bool) or not isinstance(found, (int, float)) or not abs(found) <= _MOST_S:
        raise InvalidTaskError(
            f"sending task {task!r}: {option} must be seconds, not {value!r:.80}"
        )
    return found


def priority(task: str, value: Any) -> int:
    """Return a priority. Raises: InvalidTaskError: it is none."""
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= MAX_PRIORITY:
        raise InvalidTaskError(
            f"sending task {task!r}: priority must be 0 to {MAX_PRIORITY}, not {value!r:.80}"
        )
    return value


def json_forms(task: str, option: str, given: Any) -> list[dict[str, Any]] | None:
    """Return signatures in Celery's JSON form; one may stand without a list.

    Raises: InvalidTaskError: they are none.
    """
    if given is None or given in ([], ()):
        return None
    items = given if isinstance(given, (list, tuple)) else [given]
    return [json_form(task, option, item) for item in items]


def json_form(task: str, option: str, item: Any) -> dict[str, Any]:
    """Return the JSON form of a signature, as a reader of the message needs it.

    Raises: InvalidTaskError: it is none, or can't be read.
    """
    if is_form(item):
        whole: dict[str, Any] = item
        return whole
    if not isinstance(item, (Signature, Mapping)):
        raise InvalidTaskError(
            f"sending task {task!r}: {option} must be signatures, such as other.s(), "
            f"not {item!r:.80}"
        )
    try:
        return Signature.from_dict(item).to_dict()
    except DecodeError as exc:
        raise InvalidTaskError(f"sending task {task!r}: {option} can't be read: {exc}") from exc
