"""A task prepared for running: its options read once, and what it doesn't use left out.

A run consults a `Runner` and never the settings: a task without handlers, converters or limits
pays for none.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from umbel.tasks.task import Task

if TYPE_CHECKING:
    from umbel.worker.host import Host

Handler = Callable[..., Any]


class Runner:
    """One task of one worker process, ready to be called."""

    def __init__(self, task: Task[..., Any], host: Host):
        conf = host.conf
        kind = type(task)
        self.task = task
        self.name: str = task.name
        # A class may wrap the call; where none does, the function is called directly.
        self.call: Handler = task.run if kind.__call__ is Task.__call__ else task
        self.is_coroutine: bool = task.is_coroutine
        self.convert_arguments = task.convert_arguments
        self.convert_result = task.convert_result

        #: Life-cycle handlers; None where the class has only the empty one.
        self.before_start = _overridden(task, "before_start")
        self.on_success = _overridden(task, "on_success")
        self.on_retry = _overridden(task, "on_retry")
        self.on_failure = _overridden(task, "on_failure")
        self.after_return = _overridden(task, "after_return")
        self.throws: tuple[type[BaseException], ...] = tuple(task.throws or ())
        self.events = host.events

        self.early_ack: bool = not task.acks_late
        self.acks_on_failure: bool = task.acks_on_failure_or_timeout
        #: When a failure is a dead letter; None: as the setting says.
        self.dead_letter: str | None = task.dead_letter
        self.rejects_on_lost: bool = task.reject_on_worker_lost
        self.soft_limit_s: float | None = task.soft_time_limit
        self.hard_limit_s: float | None = task.time_limit

        self.ignore_result: bool = task.ignore_result
        self.store_errors: bool = task.store_errors_even_if_ignored
        self.track_started: bool = task.track_started
        self.result_ttl_s: float | None = task.result_expires
        self.result_serializer = host.serializer(conf.result_serializer)
        self.result_max_bytes: int = conf.result_max_bytes
        #: Of signatures that a run leaves behind.
        self.task_serializer = host.serializer(conf.task_serializer)
        #: Of a retry's new arguments.
        self.message_max_bytes: int = conf.task_message_max_bytes
        #: Serializers by name or content type, for a retry's new arguments.
        self.serializers = host.serializer


def _overridden(task: Task[..., Any], name: str) -> Handler | None:
    """Return the handler where the task's class or the task itself has one of its own."""
    if name not in vars(task) and getattr(type(task), name) is getattr(Task, name):
        return None
    handler: Handler = getattr(task, name)
    return handler
