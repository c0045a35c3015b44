"""Values of options that travel as they are, looked at before they do.

A wrong one would be found out by the worker only, or by nobody.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import timedelta
from types import MappingProxyType
from typing import Any, Final

from umbel.errors import InvalidTaskError
from umbel.messages import OnConflict
from umbel.publishing.option_values import json_form, priority, seconds, time_in
from umbel.retries import RetryPolicy
from umbel.signature_forms import HOLDERS, listed
from umbel.signatures import Signature
from umbel.stamps import are_names


def check_values(task: str, options: Mapping[str, Any]) -> None:
    """Raise InvalidTaskError for an option of a send of `task` that has a wrong value.

    What follows from the call (``link`` and its like) is for `check_held`.
    """
    for option, value in options.items():
        check = _CHECKS.get(option)
        if check is not None and value is not None:
            check(task, option, value)


def check_held(task: str, options: Mapping[str, Any]) -> None:
    """Raise InvalidTaskError for what can't be called among that which follows from a call."""
    for option in HOLDERS & options.keys():
        for each in listed(options[option]):
            if not isinstance(each, Signature):
                json_form(task, option, each)


def no_id(task: str, given: Any) -> InvalidTaskError:
    """Return the error for a ``task_id`` that is none."""
    return InvalidTaskError(
        f"sending task {task!r}: task_id must be text, not {given!r:.80}; pass str() of it"
    )


def _wrong(task: str, option: str, wanted: str, given: Any) -> InvalidTaskError:
    return InvalidTaskError(f"sending task {task!r}: {option} must be {wanted}, not {given!r:.80}")


def _time(task: str, option: str, value: Any) -> None:
    time_in(task, option, value)


def _eta(task: str, option: str, value: Any) -> None:
    if isinstance(value, (int, float, timedelta)):
        raise InvalidTaskError(
            f"sending task {task!r}: eta must be a datetime, not {value!r}; "
            f"seconds from now are countdown="
        )
    time_in(task, option, value)


def _limit(task: str, option: str, value: Any) -> None:
    if seconds(task, option, value) < 0:
        raise _wrong(task, option, "seconds, 0 or more", value)


def _id(task: str, option: str, value: Any) -> None:  # noqa: ARG001 - as the others are called
    if not isinstance(value, str):
        raise no_id(task, value)


def _text(task: str, option: str, value: Any) -> None:
    if not isinstance(value, str):
        raise _wrong(task, option, "text", value)


def _place(task: str, option: str, value: Any) -> None:
    """Take a name, or what has one, as kombu's queues and exchanges do."""
    name = value if isinstance(value, str) else getattr(value, "name", None)
    is_empty = option == "queue" and not name
    if not isinstance(name, str) or is_empty or hasattr(value, "as_tuple"):
        raise _wrong(task, option, "a name", value)


def _whether(task: str, option: str, value: Any) -> None:
    if not isinstance(value, int):  # as a bool is
        raise _wrong(task, option, "True or False", value)


def _count(task: str, option: str, value: Any) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise _wrong(task, option, "a whole number, 0 or more", value)


def _priority(task: str, option: str, value: Any) -> None:  # noqa: ARG001 - as the others are called
    priority(task, value)


def _dict(task: str, option: str, value: Any) -> None:
    if not isinstance(value, Mapping) or not all(isinstance(key, str) for key in value):
        raise _wrong(task, option, "a dict with keys of text", value)


def _names(task: str, option: str, value: Any) -> None:
    if not are_names(value):
        raise _wrong(task, option, "a list of names", value)


def _delivery_mode(task: str, option: str, value: Any) -> None:
    if not isinstance(value, (int, str)) or value not in (1, 2, "transient", "persistent"):
        raise _wrong(task, option, "'transient' or 'persistent'", value)


def _policy(task: str, option: str, value: Any) -> None:
    _dict(task, option, value)
    RetryPolicy.from_mapping(value)


def _conflict(task: str, option: str, value: Any) -> None:
    words = [each.value for each in OnConflict]
    if value not in words:
        raise _wrong(task, option, f"one of {', '.join(map(repr, words))}", value)


def _broker(task: str, option: str, value: Any) -> None:
    if not hasattr(value, "capabilities"):
        raise _wrong(task, option, "a broker handle, as app.open_broker() returns", value)


_CHECKS: Final[Mapping[str, Callable[[str, str, Any], None]]] = MappingProxyType(
    {
        "task_id": _id,
        "countdown": _time,
        "eta": _eta,
        "expires": _time,
        "time_limit": _limit,
        "soft_time_limit": _limit,
        "queue": _place,
        "exchange": _place,
        "priority": _priority,
        "delivery_mode": _delivery_mode,
        "headers": _dict,
        "meta": _dict,
        "stamps": _dict,
        "stamped_headers": _names,
        "retry_policy": _policy,
        "on_conflict": _conflict,
        "producer": _broker,
        "connection": _broker,
    }
    | dict.fromkeys(("retries", "group_index", "replaced_task_nesting"), _count)
    | dict.fromkeys(("retry", "ignore_result", "mandatory", "add_to_parent"), _whether)
    | dict.fromkeys(
        (
            "routing_key",
            "route_name",
            "serializer",
            "compression",
            "shadow",
            "reply_to",
            "root_id",
            "parent_id",
            "group_id",
            "argsrepr",
            "kwargsrepr",
        ),
        _text,
    )
)
