"""Celery's signals told from umbel's events: what each event means in Celery's words."""

from __future__ import annotations

import os
import threading
import weakref
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

from umbel.errors import UnknownTaskError
from umbel.outcomes import Failure, Ignored, Rejected, Replaced, Retry, Revoked, Success
from umbel.signals import EVERY_APP, Signals
from umbel.states import State

if TYPE_CHECKING:
    from umbel.events import Events
    from umbel.publishing.drafts import Draft
    from umbel.publishing.publisher import PublishListeners

_STATES: dict[Any, State] = {
    Success: State.SUCCESS,
    Failure: State.FAILURE,
    Retry: State.RETRY,
    Rejected: State.REJECTED,
    Revoked: State.REVOKED,
    Ignored: State.IGNORED,
    Replaced: State.IGNORED,
}


class Words(NamedTuple):
    """What a signal says: its sender and keyword arguments."""

    sender: Any
    named: dict[str, Any]


def _publishing(draft: Draft) -> dict[str, Any]:
    return {
        "body": (draft.args, draft.kwargs, draft.embed),
        "exchange": draft.exchange,
        "routing_key": draft.routing_key,
        "headers": draft.headers,
        "properties": draft.properties,
    }


def _before_publish(draft: Draft, policy: Any) -> Words:
    draft.properties = dict(draft.properties)
    # Lists and dicts of the draft's own, so that what a receiver changes is sent.
    draft.args, draft.kwargs = list(draft.args), dict(draft.kwargs)
    draft.embed = dict(draft.embed)
    return Words(draft.name, {**_publishing(draft), "declare": [], "retry_policy": policy})


def _process_started(_index: int) -> Words:
    return Words(None, {})


def _task_received(request: Any) -> Words:
    return Words(request.hostname, {"request": request})


def _process_stopped(_index: int, exitcode: int | None) -> Words | None:
    # Told inside the child alone, as in Celery; the supervisor's telling is of a dead one.
    return Words(None, {"pid": os.getpid(), "exitcode": exitcode}) if exitcode is None else None


def _rejected(delivery: Any, reason: str) -> Words:
    return Words(None, {"message": delivery.message, "exc": reason})


def _unknown(delivery: Any, name: str) -> Words:
    found = getattr(delivery.message, "id", None)
    named = {"message": delivery.message, "exc": UnknownTaskError(name), "name": name, "id": found}
    return Words(None, named)


def _prerun(task: Any, request: Any) -> Words:
    return Words(
        task,
        {"task_id": request.id, "task": task, "args": request.args, "kwargs": request.kwargs},
    )


def _postrun(task: Any, request: Any, outcome: Any, value: Any) -> Words:
    words = _prerun(task, request)
    words.named.update(retval=value, state=_STATES[type(outcome)])
    return words


def _success(task: Any, _request: Any, value: Any) -> Words:
    return Words(task, {"result": value})


def _failure(task: Any, request: Any, error: Any, exception: Any) -> Words:
    named = {
        "task_id": request.id,
        "exception": exception,
        "args": request.args,
        "kwargs": request.kwargs,
        "traceback": getattr(exception, "__traceback__", None),
        "einfo": error,
    }
    return Words(task, named)


def _internal_error(task: Any, request: Any, exception: BaseException) -> Words:
    words = _failure(task, request, None, exception)
    words.named["request"] = request
    return words


def _revoked(request: Any, reason: str) -> Words:
    named = {
        "request": request,
        "terminated": reason == "terminated",
        "signum": None,
        "expired": reason == "expired",
    }
    return Words(request.task, named)


def _name(worker: Any) -> Any:
    return getattr(worker, "hostname", None)


def _conf(worker: Any) -> Any:
    return getattr(getattr(worker, "app", None), "conf", None)


#: Signal → the event that it is told from, and how. Publishing is told by drafts, not events.
_FROM_EVENTS: dict[str, tuple[str, Callable[..., Words | None]]] = {
    "task_received": ("task_received", _task_received),
    "task_prerun": ("task_started", _prerun),
    "task_postrun": ("task_finished", _postrun),
    "task_success": ("task_succeeded", _success),
    "task_retry": (
        "task_retried",
        lambda task, request, error, reason: Words(
            task, {"request": request, "reason": reason, "einfo": error}
        ),
    ),
    "task_failure": ("task_failed", _failure),
    "task_internal_error": ("task_internal_error", _internal_error),
    "task_revoked": ("task_revoked", _revoked),
    "task_rejected": ("task_rejected", _rejected),
    "task_unknown": ("task_unknown", _unknown),
    "celeryd_init": (
        "worker_starting",
        lambda worker: Words(
            _name(worker), {"instance": worker, "conf": _conf(worker), "options": {}}
        ),
    ),
    "celeryd_after_setup": (
        "worker_starting",
        lambda worker: Words(_name(worker), {"instance": worker, "conf": _conf(worker)}),
    ),
    "worker_init": ("worker_starting", lambda worker: Words(worker, {})),
    "worker_ready": ("worker_ready", lambda worker: Words(worker, {})),
    "heartbeat_sent": ("worker_heartbeat", lambda worker: Words(worker, {})),
    "worker_shutting_down": (
        "worker_stopping",
        lambda worker, how: Words(_name(worker), {"sig": None, "how": how, "exitcode": None}),
    ),
    "worker_shutdown": ("worker_stopped", lambda worker: Words(worker, {})),
    "worker_before_create_process": ("process_starting", lambda worker: Words(worker, {})),
    "worker_process_init": ("process_started", _process_started),
    "worker_process_shutdown": ("process_stopped", _process_stopped),
    "import_modules": ("import_modules", lambda app: Words(app, {})),
    "on_after_configure": ("app_configured", lambda app: Words(app, {"source": app.conf})),
    "on_after_finalize": ("app_finalized", lambda app: Words(app, {})),
    "on_after_fork": ("app_forked", lambda app: Words(app, {})),
}


class SignalBridge:
    """Tells one app's signals, and those for all apps, from the app's events.

    Adds itself to an event only when somebody connects to a signal that comes from it.
    """

    def __init__(self, signals: Signals, events: Events, publishing: PublishListeners) -> None:
        self._signals, self._events, self._publishing = signals, events, publishing
        self._bridged: set[str] = set()
        self._lock = threading.Lock()
        wake = weakref.WeakMethod(self.wake)
        for signal in (*signals, *EVERY_APP):
            signal.on_first_receiver(wake)

    def wake(self, name: str) -> None:
        """Begin to tell the signal `name`, since somebody listens. Repeatable."""
        with self._lock:
            if name not in self._bridged:
                self._bridged.add(name)
                self._bridge(name)

    def _bridge(self, name: str) -> None:
        if name == "before_task_publish":
            self._publishing.before = (*self._publishing.before, self._before)
        elif name == "after_task_publish":
            self._publishing.after = (*self._publishing.after, self._after)
        elif name in _FROM_EVENTS:
            event, words = _FROM_EVENTS[name]
            self._events.add(event, self._teller(name, words))

    def send(self, name: str, sender: Any, /, **named: Any) -> None:
        """Send a signal to who listens at this app, then to who listens at all."""
        for signals in (self._signals, EVERY_APP):
            getattr(signals, name).send(sender, **named)

    def _teller(self, name: str, words: Callable[..., Words | None]) -> Callable[..., None]:
        def tell(*args: Any) -> None:
            said = words(*args)
            if said is not None:
                self.send(name, said.sender, **said.named)

        tell.__qualname__ = f"signal {name}"
        return tell

    def _before(self, draft: Draft, policy: Any) -> None:
        words = _before_publish(draft, policy)
        self.send("before_task_publish", words.sender, **words.named)

    def _after(self, draft: Draft) -> None:
        self.send("after_task_publish", draft.name, **_publishing(draft))
