"""Settings of tasks: publishing, routing, acknowledgement, limits."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from umbel.messages import DEFAULT_QUEUE, MAX_PRIORITY
from umbel.rates import rate_problem
from umbel.settings.schema import Setting

_GROUP = "tasks"
_RETRY_POLICY = {"max_retries": 3, "interval_start": 0, "interval_step": 0.2, "interval_max": 1}


def _retry_policy(policy: Mapping[str, Any]) -> str | None:
    keys = (*_RETRY_POLICY, "retry_errors")
    for key, value in policy.items():
        if key not in keys:
            return f"may not have the key {key!r}: its keys are {', '.join(keys)}"
        if key == "retry_errors" or (key == "max_retries" and value is None):
            continue
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not value >= 0:
            return f"must have a number of 0 or more as {key!r}"
    return None


_PUBLISHING = (
    Setting(
        name="task_serializer",
        type=str,
        default="json",
        help="How arguments are encoded.",
        group=_GROUP,
    ),
    Setting(
        name="task_compression",
        type=str | None,
        default=None,
        help="How messages are compressed: `gzip`, `bzip2`, `lzma` or what a plugin offers.",
        default_text="none",
        group=_GROUP,
    ),
    Setting(
        name="task_protocol",
        type=int,
        default=2,
        help="Version of the message format.",
        choices=(2,),
        group=_GROUP,
    ),
    Setting(
        name="task_publish_retry",
        type=bool,
        default=True,
        help="Try again when a message can't be sent.",
        group=_GROUP,
    ),
    Setting(
        name="task_publish_retry_policy",
        type=Mapping[str, Any],
        default=_RETRY_POLICY,
        help="How often and after which pauses: the first is `interval_start` seconds, each next "
        "one longer by `interval_step`, up to `interval_max`.",
        check=_retry_policy,
        group=_GROUP,
    ),
    Setting(
        name="task_publish_deadline_s",
        type=float | None,
        default=10.0,
        help="How long sending may take in all, with its retries; 0 or None: no limit.",
        unit="seconds",
        minimum=0.001,
        aliases=((0.0, None),),
        group=_GROUP,
    ),
    Setting(
        name="task_message_max_bytes",
        type=int,
        default=16 * 1024 * 1024,
        help="A message with a larger body is neither sent nor decoded.",
        unit="bytes",
        minimum=1024,
        group=_GROUP,
    ),
    Setting(
        name="task_message_max_depth",
        type=int,
        default=200,
        help="Arguments and results nested deeper than this are neither sent nor decoded.",
        unit="levels",
        minimum=50,  # an error's arguments are up to 20 levels deep, and stand in a document
        maximum=500,
        group=_GROUP,
    ),
    Setting(
        name="task_once_window_s",
        type=float,
        default=600.0,
        help="How long a task's id stays taken after its message is done with, where it was sent "
        "with a `task_id` or `on_conflict`, or follows on another task.",
        unit="seconds",
        minimum=0.0,
        group=_GROUP,
    ),
    Setting(
        name="task_inherit_parent_priority",
        type=bool,
        default=False,
        help="What a task sends gets the task's own priority, unless told otherwise.",
        group=_GROUP,
    ),
)

_ROUTING = (
    Setting(
        name="task_default_queue",
        type=str,
        default=DEFAULT_QUEUE,
        help="The queue of tasks that no route sends elsewhere.",
        group=_GROUP,
    ),
    Setting(
        name="task_default_exchange",
        type=str | None,
        default=None,
        help="The exchange of queues that name none.",
        default_text="the queue's name",
        group=_GROUP,
    ),
    Setting(
        name="task_default_routing_key",
        type=str | None,
        default=None,
        help="The routing key of queues that name none.",
        default_text="the queue's name",
        group=_GROUP,
    ),
    Setting(
        name="task_default_delivery_mode",
        type=int,
        default=2,
        help="2 (`persistent`): the broker keeps messages on disk where it can; 1 (`transient`).",
        choices=(1, 2),
        aliases=(("transient", 1), ("persistent", 2)),
        group=_GROUP,
    ),
    Setting(
        name="task_default_priority",
        type=int | None,
        default=None,
        help="The priority of messages that are given none; a higher number goes first.",
        minimum=0,
        maximum=MAX_PRIORITY,
        default_text="0",
        group=_GROUP,
    ),
    Setting(
        name="task_queues",
        type=Sequence[Any] | Mapping[str, Any] | None,
        default=None,
        help="The queues: their names, or a mapping of names to options. A worker without `-Q` "
        "consumes them all.",
        default_text="`task_default_queue` alone",
        group=_GROUP,
    ),
    Setting(
        name="task_create_missing_queues",
        type=bool,
        default=True,
        help="A queue that isn't in `task_queues` may be used; else that is an error.",
        group=_GROUP,
    ),
    Setting(
        name="task_routes",
        type=Mapping[Any, Any] | Sequence[Any] | Callable[..., Any] | str | None,
        default=None,
        help="Where tasks go: a mapping of names, globs or patterns to options, a function or its "
        "dotted name, or a list of these.",
        default_text="none",
        group=_GROUP,
    ),
    Setting(
        name="task_annotations",
        type=Mapping[str, Any] | Sequence[Any] | Callable[..., Any] | str | None,
        default=None,
        help="Options to set on tasks: a mapping of names, globs or `*` to options, a function or "
        "its dotted name, or a list of these.",
        default_text="none",
        group=_GROUP,
    ),
)

_RUNNING = (
    Setting(
        name="task_acks_late",
        type=bool,
        default=True,
        help="Acknowledge a message after its result is stored rather than before it runs: a "
        "crash repeats the task and doesn't lose it.",
        celery_default_differs="false",
        group=_GROUP,
    ),
    Setting(
        name="task_acks_on_failure_or_timeout",
        type=bool,
        default=True,
        help="Acknowledge late also when the task failed or ran out of time; else it goes to the "
        "dead letters, whatever `task_dead_letter` says.",
        group=_GROUP,
    ),
    Setting(
        name="task_reject_on_worker_lost",
        type=bool,
        default=True,
        help="Deliver a task again when the process that ran it died.",
        celery_default_differs="false",
        group=_GROUP,
    ),
    Setting(
        name="task_max_deliveries",
        type=int,
        default=3,
        help="How many processes may die running a task before it is a dead letter.",
        unit="deliveries",
        minimum=1,
        group=_GROUP,
    ),
    Setting(
        name="task_dead_letter",
        type=str,
        default="poison",
        help="Which failures go to the dead letters: `poison` (their process died, "
        "`task_max_deliveries` times), `failed` (these, and all that failed for good) or `never`. "
        "What can't be read, run or delivered goes there in any case.",
        choices=("poison", "failed", "never"),
        group=_GROUP,
    ),
    Setting(
        name="task_time_limit",
        type=float | None,
        default=None,
        help="The process of a task that runs longer is killed.",
        unit="seconds",
        minimum=0.001,
        aliases=((0.0, None),),
        default_text="no limit",
        group=_GROUP,
    ),
    Setting(
        name="task_soft_time_limit",
        type=float | None,
        default=None,
        help="`SoftTimeLimitExceeded` is raised in a task that runs longer.",
        unit="seconds",
        minimum=0.001,
        aliases=((0.0, None),),
        default_text="no limit",
        group=_GROUP,
    ),
    Setting(
        name="task_default_rate_limit",
        type=str | float | None,
        default=None,
        help="How many tasks of one type a worker node starts in a time, such as `10/s`, `100/m` "
        "or `5/h`; what is over it waits in the broker. A task's own `rate_limit` goes before.",
        default_text="no limit",
        check=rate_problem,
        group=_GROUP,
    ),
    Setting(
        name="task_track_started",
        type=bool,
        default=True,
        help="Store the state `STARTED` of tasks that take longer than some milliseconds.",
        celery_default_differs="false",
        group=_GROUP,
    ),
    Setting(
        name="task_ignore_result",
        type=bool,
        default=False,
        help="Store no results, unless a task or a call asks for it.",
        group=_GROUP,
    ),
    Setting(
        name="task_store_errors_even_if_ignored",
        type=bool,
        default=False,
        help="Store failures even where results are ignored.",
        group=_GROUP,
    ),
)

_EAGER = (
    Setting(
        name="task_always_eager",
        type=bool,
        default=False,
        help="Run tasks at the call, in the caller's process, and send nothing: for tests.",
        group=_GROUP,
    ),
    Setting(
        name="task_eager_propagates",
        type=bool,
        default=False,
        help="Raise what an eager task raises at the call.",
        group=_GROUP,
    ),
    Setting(
        name="task_store_eager_result",
        type=bool,
        default=False,
        help="Store the results of eager tasks.",
        group=_GROUP,
    ),
)

SETTINGS = (*_PUBLISHING, *_ROUTING, *_RUNNING, *_EAGER)
