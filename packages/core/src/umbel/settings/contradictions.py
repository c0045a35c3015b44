"""Checks of settings against each other. Each value for itself is right already."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

#: Content types of the serializers that umbel or its plugins bring, by name.
_CONTENT_TYPES = {
    "json": "application/json",
    "msgpack": "application/x-msgpack",
    "yaml": "application/x-yaml",
    "cbor": "application/cbor",
    "pickle": "application/x-python-serialize",
}


class Contradiction(NamedTuple):
    """Two settings that can't both be meant; the problem is told of `name`."""

    name: str
    other: str
    text: str


def contradictions(values: Mapping[str, Any]) -> Iterator[Contradiction]:
    """Yield all contradictions among `values`, which holds every setting of core."""
    for check in _CHECKS:
        if found := check(values):
            yield found


def _time_limits(values: Mapping[str, Any]) -> Contradiction | None:
    soft, hard = values["task_soft_time_limit"], values["task_time_limit"]
    if soft is None or hard is None or soft < hard:
        return None
    return Contradiction(
        "task_soft_time_limit",
        "task_time_limit",
        f"is {soft:g} seconds, which must be less than task_time_limit, {hard:g} seconds",
    )


def _task_content(values: Mapping[str, Any]) -> Contradiction | None:
    return _accepted(values, "task_serializer")


def _result_content(values: Mapping[str, Any]) -> Contradiction | None:
    return _accepted(values, "result_serializer")


def _accepted(values: Mapping[str, Any], name: str) -> Contradiction | None:
    serializer: str = values[name]
    accepted: Sequence[str] = values["accept_content"]
    if serializer in accepted or _CONTENT_TYPES.get(serializer) in accepted:
        return None
    if serializer not in _CONTENT_TYPES and any("/" in item for item in accepted):
        # Only its plugin knows the serializer's content type; it may be among these.
        return None
    listed = ", ".join(accepted) or "empty"
    return Contradiction(
        name,
        "accept_content",
        f"is {serializer!r}, which accept_content ({listed}) doesn't have: add it there",
    )


def _eager_results(values: Mapping[str, Any]) -> Contradiction | None:
    if not values["task_store_eager_result"] or values["result_backend"] is not None:
        return None
    return Contradiction(
        "task_store_eager_result",
        "result_backend",
        "is on, but there is no result_backend to store results in",
    )


def _retry_pauses(values: Mapping[str, Any]) -> Contradiction | None:
    deadline = values["task_publish_deadline_s"]
    pause = values["task_publish_retry_policy"].get("interval_start", 0)
    if not values["task_publish_retry"] or deadline is None or pause < deadline:
        return None
    return Contradiction(
        "task_publish_retry_policy",
        "task_publish_deadline_s",
        f"has an interval_start of {pause:g} seconds, after which task_publish_deadline_s, "
        f"{deadline:g} seconds, is over: no retry would ever be made",
    )


def _known_default_queue(values: Mapping[str, Any]) -> Contradiction | None:
    queues = values["task_queues"]
    if values["task_create_missing_queues"] or not queues:
        return None
    default = values["task_default_queue"]
    if default in {_queue_name(queue) for queue in queues}:
        return None
    return Contradiction(
        "task_default_queue",
        "task_queues",
        f"is {default!r}, which task_queues doesn't have, and task_create_missing_queues is off",
    )


def _queue_name(queue: Any) -> Any:
    """Return the name of an item of `task_queues`: text, a mapping, or a queue object."""
    name = queue.get("name") if isinstance(queue, Mapping) else getattr(queue, "name", queue)
    return name if isinstance(name, str) else None


_CHECKS: Sequence[Callable[[Mapping[str, Any]], Contradiction | None]] = (
    _time_limits,
    _task_content,
    _result_content,
    _eager_results,
    _retry_pauses,
    _known_default_queue,
)
