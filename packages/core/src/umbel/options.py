"""The options of a task and of a send: their names, types and defaults, each in one table.

A task's option comes from, in this order: ``task_annotations``, ``@app.task(…)``, an attribute of
the task's class, the setting beside it here, the default here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, TypedDict

from umbel.errors import InvalidTaskError, near_matches

if TYPE_CHECKING:
    from umbel.interfaces.broker import Broker
    from umbel.messages import OnConflict

Number = int | float
#: Which of a task's failures are dead letters.
DeadLetterPolicy = Literal["poison", "failed", "never"]
DEAD_LETTER_POLICIES = ("poison", "failed", "never")


class TaskOptions(TypedDict, total=False):
    """What ``@app.task(…)`` takes, besides `bind` and `base`. Durations are seconds."""

    name: str
    #: Old names that still lead here.
    aliases: Sequence[str]
    #: Take the name from another task that has it.
    replace: bool
    typing: bool
    serializer: str
    compression: str | None
    queue: str | None
    exchange: str | None
    routing_key: str | None
    priority: int | None
    delivery_mode: int | None
    expires: Number | datetime | timedelta | None
    shadow: str | None
    time_limit: Number | None
    soft_time_limit: Number | None
    rate_limit: str | Number | None
    acks_late: bool
    acks_on_failure_or_timeout: bool
    reject_on_worker_lost: bool
    dead_letter: DeadLetterPolicy | None
    ignore_result: bool
    store_errors_even_if_ignored: bool
    store_eager_result: bool
    track_started: bool
    result_expires: Number | timedelta | None
    trail: bool
    send_events: bool
    throws: type[BaseException] | Sequence[type[BaseException]]
    max_retries: int | None
    default_retry_delay: Number
    autoretry_for: Any
    dont_autoretry_for: Any
    retry_backoff: bool | Number
    retry_backoff_max: Number
    retry_jitter: bool
    retry_kwargs: Mapping[str, Any]
    resultrepr_maxsize: int
    before_start: Callable[..., Any]
    on_success: Callable[..., Any]
    on_retry: Callable[..., Any]
    on_failure: Callable[..., Any]
    after_return: Callable[..., Any]


class SendOptions(TypedDict, total=False):
    """What ``apply_async`` takes besides the arguments. Durations are seconds."""

    task_id: str | None
    #: What happens where the broker holds a task of that id, or was done with it a moment ago
    #: (``task_once_window_s``): AlreadySentError, nothing, or this call takes its place.
    on_conflict: Literal["raise", "return", "replace"] | OnConflict | None
    countdown: Number | timedelta | None
    eta: datetime | str | None
    expires: Number | datetime | timedelta | str | None
    queue: str | None
    exchange: str | None
    routing_key: str | None
    route_name: str | None
    priority: int | None
    delivery_mode: int | None
    mandatory: bool
    serializer: str | None
    compression: str | None
    headers: Mapping[str, Any] | None
    #: What is said of the task, and of all that descends from it: its ``request.meta``.
    meta: Mapping[str, Any] | None
    link: Any
    link_error: Any
    chain: Any
    chord: Any
    retry: bool | None
    retry_policy: Mapping[str, Any] | None
    retries: int
    time_limit: Number | None
    soft_time_limit: Number | None
    ignore_result: bool | None
    shadow: str | None
    reply_to: str | None
    add_to_parent: bool
    parent_id: str | None
    root_id: str | None
    group_id: str | None
    group_index: int | None
    #: Set by umbel: the end of this member of a group is counted.
    umbel_counted: bool | None
    #: Set by umbel: where the results are kept that are the first argument.
    umbel_results: str | None
    argsrepr: str | None
    kwargsrepr: str | None
    replaced_task_nesting: int
    stamped_headers: Sequence[str] | None
    stamps: Mapping[str, Any] | None
    #: A broker handle to send through, in place of the app's own.
    producer: Broker | None
    connection: Broker | None


class OptionSource(NamedTuple):
    """Where a task's option comes from when the task itself doesn't say."""

    setting: str | None
    default: Any
    #: Whether None in a task's class means "as the setting says".
    none_is_unset: bool = False


_FROM_CONF: dict[str, tuple[str, Any]] = {
    "serializer": ("task_serializer", "json"),
    "compression": ("task_compression", None),
    "priority": ("task_default_priority", None),
    "time_limit": ("task_time_limit", None),
    "soft_time_limit": ("task_soft_time_limit", None),
    "rate_limit": ("task_default_rate_limit", None),
    "acks_late": ("task_acks_late", True),
    "acks_on_failure_or_timeout": ("task_acks_on_failure_or_timeout", True),
    "reject_on_worker_lost": ("task_reject_on_worker_lost", True),
    "dead_letter": ("task_dead_letter", "poison"),
    "ignore_result": ("task_ignore_result", False),
    "store_errors_even_if_ignored": ("task_store_errors_even_if_ignored", False),
    "store_eager_result": ("task_store_eager_result", False),
    "track_started": ("task_track_started", False),
    "result_expires": ("result_expires", 86400.0),
}
_OF_THE_TASK: dict[str, Any] = {
    "queue": None,
    "exchange": None,
    "routing_key": None,
    "delivery_mode": None,
    "expires": None,
    "shadow": None,
    "typing": True,
    "trail": True,
    "send_events": True,
    "throws": (),
    "max_retries": 3,
    "default_retry_delay": 180,
    "autoretry_for": (),
    "dont_autoretry_for": (),
    "retry_backoff": False,
    "retry_backoff_max": 600,
    "retry_jitter": True,
    "retry_kwargs": MappingProxyType({}),
    "resultrepr_maxsize": 1024,
}

#: Options that are resolved when a task is bound, and where from.
SOURCES: Mapping[str, OptionSource] = MappingProxyType(
    {name: OptionSource(*source, none_is_unset=True) for name, source in _FROM_CONF.items()}
    | {name: OptionSource(None, default) for name, default in _OF_THE_TASK.items()}
)
#: Those of them that travel with each send, as the task declares them (not from settings: a
#: worker has limits of its own).
SENT: tuple[str, ...] = (
    "queue",
    "exchange",
    "routing_key",
    "priority",
    "delivery_mode",
    "expires",
    "shadow",
    "time_limit",
    "soft_time_limit",
    "serializer",
    "compression",
    "ignore_result",
)
HANDLERS: tuple[str, ...] = (
    "before_start",
    "on_success",
    "on_retry",
    "on_failure",
    "after_return",
)

_TASK_OPTIONS = frozenset(TaskOptions.__annotations__)
SEND_OPTIONS = frozenset(SendOptions.__annotations__)


def check_task_options(what: str, options: Mapping[str, Any], also: frozenset[str]) -> None:
    """Raise InvalidTaskError for an option that is neither a task's nor in `also`.

    Args:
        what: Names the task in the error.
        options: As the user gave them.
        also: Attributes that the task's own base class has.
    """
    for name in options:
        if name not in _TASK_OPTIONS and name not in also:
            raise InvalidTaskError(
                f"task {what} has no option {name!r}{_hint(name, _TASK_OPTIONS | also)}"
            )


def check_send_options(task: str, options: Mapping[str, Any]) -> None:
    """Raise InvalidTaskError for an option that a send of `task` doesn't have.

    Stamps, named in ``stamped_headers``, are options of their own, as in Celery.
    """
    if options.keys() <= SEND_OPTIONS:
        return
    stamps = frozenset(options.get("stamped_headers") or ())
    for name in options:
        if name not in SEND_OPTIONS and name not in stamps:
            raise InvalidTaskError(
                f"sending task {task!r}: no option {name!r}{_hint(name, SEND_OPTIONS)}"
            )


def _hint(name: str, known: frozenset[str]) -> str:
    close = near_matches(name, known, limit=1)
    return f"; did you mean {close[0]!r}?" if close else f" (there are: {', '.join(sorted(known))})"
