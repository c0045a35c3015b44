"""Who listens to what, resolved once: one tuple of callables for each event of the hook specs.

Whoever tells an event looks at the tuple first, so that an event nobody hears costs one
attribute read: ``if events.task_started: notify(events.task_started, task, request)``.
Listeners are called with positional arguments in the order of `umbel.hookspecs`.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from umbel.messages import Message

Listener = Callable[..., Any]
Listeners = tuple[Listener, ...]

logger = logging.getLogger("umbel")


class Events:
    """The listeners of one app. Each attribute is an event's hook without ``umbel_``.

    Tuples are replaced, never changed: a loop over one is safe while another thread adds.
    """

    app_configured: Listeners = ()
    app_finalized: Listeners = ()
    app_forked: Listeners = ()
    import_modules: Listeners = ()
    message_publishing: Listeners = ()
    message_published: Listeners = ()
    task_received: Listeners = ()
    task_started: Listeners = ()
    task_succeeded: Listeners = ()
    task_failed: Listeners = ()
    task_retried: Listeners = ()
    task_finished: Listeners = ()
    task_revoked: Listeners = ()
    task_rejected: Listeners = ()
    task_unknown: Listeners = ()
    task_internal_error: Listeners = ()
    worker_starting: Listeners = ()
    worker_ready: Listeners = ()
    worker_heartbeat: Listeners = ()
    worker_stopping: Listeners = ()
    worker_stopped: Listeners = ()
    process_starting: Listeners = ()
    process_started: Listeners = ()
    process_stopped: Listeners = ()

    def __init__(self) -> None:
        self._lock = threading.Lock()

    def add(self, event: str, *listeners: Listener) -> None:
        """Append `listeners` to those of `event`; one that is there already isn't added twice."""
        with self._lock:
            known = self._known(event)
            setattr(self, event, (*known, *(new for new in listeners if new not in known)))

    def remove(self, event: str, listener: Listener) -> None:
        """Take `listener` off `event`, if it is there."""
        with self._lock:
            setattr(self, event, tuple(old for old in self._known(event) if old != listener))

    def _known(self, event: str) -> Listeners:
        if event not in EVENTS:
            raise ValueError(f"there is no event {event!r}")
        found: Listeners = getattr(self, event)
        return found


#: Names of all events.
EVENTS: frozenset[str] = frozenset(name for name in vars(Events) if not name.startswith("_")) - {
    "add",
    "remove",
}


def notify(listeners: Listeners, *args: Any) -> None:
    """Call each of `listeners` with `args`; an error of one is logged and stops nobody."""
    for listener in listeners:
        try:
            listener(*args)
        except Exception:
            logger.exception("listener %s failed", _name_of(listener))


def transform_message(listeners: Listeners, task: str, message: Message) -> Message:
    """Hand `message` through ``message_publishing`` listeners; return the one to send."""
    for listener in listeners:
        try:
            message = listener(task, message) or message
        except Exception:
            logger.exception("listener %s failed", _name_of(listener))
    return message


def _name_of(listener: Listener) -> str:
    name = getattr(listener, "__qualname__", None) or repr(listener)
    return f"{getattr(listener, '__module__', '?')}.{name}"
