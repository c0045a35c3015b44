"""All hooks that umbel calls: the one page that a plugin author reads.

A plugin is a distribution with an entry point in the group ``umbel`` that names its hooks
module; that module marks functions with `hookimpl`. Keep it light: every process of every user
loads it, so import client libraries inside the factories, not at its top.

*Offers* are called once a process, when something of that kind is first needed, and return what
the plugin adds. *Events* are told as they happen, in the process where they happen; a listener's
error is logged and stops nobody. Listeners are resolved once: an event that nobody hears costs
nothing. A listener takes the arguments it wants, by name.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import pluggy

if TYPE_CHECKING:
    from umbel.interfaces.backend import BackendFactory
    from umbel.interfaces.broker import BrokerFactory
    from umbel.interfaces.coordinator import CoordinatorFactory
    from umbel.interfaces.pool import PoolSpec
    from umbel.interfaces.scheduler import SchedulerFactory
    from umbel.interfaces.serializer import Serializer
    from umbel.messages import Delivery, Message
    from umbel.outcomes import ErrorInfo, Outcome
    from umbel.requests import Request
    from umbel.settings import Setting

hookspec = pluggy.HookspecMarker("umbel")
hookimpl = pluggy.HookimplMarker("umbel")


# -- offers -----------------------------------------------------------------------------------


@hookspec
def umbel_brokers() -> Mapping[str, BrokerFactory]:  # type: ignore[empty-body]
    """Offer brokers: URL scheme → factory."""


@hookspec
def umbel_backends() -> Mapping[str, BackendFactory]:  # type: ignore[empty-body]
    """Offer result backends: URL scheme → factory."""


@hookspec
def umbel_coordinators() -> Mapping[str, CoordinatorFactory]:  # type: ignore[empty-body]
    """Offer coordinators: URL scheme → factory."""


@hookspec
def umbel_serializers() -> Sequence[Serializer]:  # type: ignore[empty-body]
    """Offer serializers; each has a name and a content type."""


@hookspec
def umbel_pools() -> Sequence[PoolSpec]:  # type: ignore[empty-body]
    """Offer pools for ``--pool``."""


@hookspec
def umbel_schedulers() -> Mapping[str, SchedulerFactory]:  # type: ignore[empty-body]
    """Offer schedulers for beat: URL scheme or name → factory."""


@hookspec
def umbel_settings() -> Sequence[Setting]:  # type: ignore[empty-body]
    """Offer settings. Names begin with the plugin's own word, such as ``sqs_``."""


# -- events: the app --------------------------------------------------------------------------


@hookspec
def umbel_app_configured(app: Any) -> None:
    """The app's settings are read and checked; once an app and process."""


@hookspec
def umbel_app_finalized(app: Any) -> None:
    """The app's tasks are all bound; once an app and process."""


@hookspec
def umbel_app_forked(app: Any) -> None:
    """This process was forked from one that has the app; told in the new process."""


@hookspec
def umbel_import_modules(app: Any) -> None:
    """The app is about to import its task modules."""


# -- events: publishing -----------------------------------------------------------------------


@hookspec
def umbel_message_publishing(task: str, message: Message) -> Message | None:
    """`message` is about to be sent; return another one to send in its place."""


@hookspec
def umbel_message_published(task: str, message: Message) -> None:
    """The broker has `message`."""


# -- events: a task in a worker process -------------------------------------------------------


@hookspec
def umbel_task_received(request: Request) -> None:
    """A message was taken and decoded."""


@hookspec
def umbel_task_started(task: Any, request: Request) -> None:
    """`task` (a Task) is about to run, in the thread or event loop that runs it."""


@hookspec
def umbel_task_succeeded(task: Any, request: Request, value: Any) -> None:
    """The task returned `value`, not stored yet."""


@hookspec
def umbel_task_failed(
    task: Any, request: Request, error: ErrorInfo, exception: BaseException | None
) -> None:
    """The task failed; `exception` is None where it failed without running (limit, lost)."""


@hookspec
def umbel_task_retried(task: Any, request: Request, error: ErrorInfo, reason: str) -> None:
    """The task will run again."""


@hookspec
def umbel_task_finished(task: Any, request: Request, outcome: Outcome, value: Any) -> None:
    """The run is over, whatever came of it; `value` is the return value or the exception."""


@hookspec
def umbel_task_revoked(request: Request, reason: str) -> None:
    """The task won't run: ``revoked``, ``expired`` or ``terminated``."""


@hookspec
def umbel_task_rejected(delivery: Delivery, reason: str) -> None:
    """A message was refused: malformed, or by the task itself."""


@hookspec
def umbel_task_unknown(delivery: Delivery, name: str) -> None:
    """A message names a task that isn't registered here."""


@hookspec
def umbel_task_internal_error(task: Any, request: Request, exception: BaseException) -> None:
    """umbel itself, or a life-cycle handler, failed around a task."""


# -- events: the worker -----------------------------------------------------------------------


@hookspec
def umbel_worker_starting(worker: Any) -> None:
    """A worker node is set up and about to start."""


@hookspec
def umbel_worker_ready(worker: Any) -> None:
    """The node consumes."""


@hookspec
def umbel_worker_heartbeat(worker: Any) -> None:
    """The node's lease was renewed; told in a thread of its own, every third of the lease."""


@hookspec
def umbel_worker_stopping(worker: Any, how: str) -> None:
    """The node was told to stop: ``warm``, ``soft`` or ``cold``."""


@hookspec
def umbel_worker_stopped(worker: Any) -> None:
    """The node has stopped."""


@hookspec
def umbel_process_starting(worker: Any) -> None:
    """The supervisor is about to start a child process."""


@hookspec
def umbel_process_started(index: int) -> None:
    """Told inside a child process, before its first task; `index` is its slot in the node."""


@hookspec
def umbel_process_stopped(index: int, exitcode: int | None) -> None:
    """Told inside the child as it ends in order (`exitcode` None), else in the supervisor."""
