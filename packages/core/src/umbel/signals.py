"""Celery's signals, over umbel's events.

``app.signals.task_success`` hears one app, ``umbel.signals.task_success`` hears every app of the
process. Names and keyword arguments are Celery's. A signal nobody is connected to costs
nothing: what tells it is added to an app's events with the first receiver, and not before.

Receivers take keyword arguments and should take ``**kwargs`` for those to come. An ``async def``
receiver runs as a task of the running event loop where there is one, else to its end in place.
"""

from __future__ import annotations

import logging
import sys
import threading
import time
import weakref
from collections.abc import Callable, Coroutine, Iterator
from typing import Any, NamedTuple, TypeVar, overload

logger = logging.getLogger("umbel.signals")

Receiver = TypeVar("Receiver", bound=Callable[..., Any])

#: Each signal with the keyword arguments that its receivers get besides `sender`.
SIGNALS: dict[str, tuple[str, ...]] = {
    "before_task_publish": (
        "body",
        "exchange",
        "routing_key",
        "headers",
        "properties",
        "declare",
        "retry_policy",
    ),
    "after_task_publish": ("body", "exchange", "routing_key", "headers", "properties"),
    "task_received": ("request",),
    "task_prerun": ("task_id", "task", "args", "kwargs"),
    "task_postrun": ("task_id", "task", "args", "kwargs", "retval", "state"),
    "task_success": ("result",),
    "task_retry": ("request", "reason", "einfo"),
    "task_failure": ("task_id", "exception", "args", "kwargs", "traceback", "einfo"),
    "task_internal_error": (
        "task_id",
        "args",
        "kwargs",
        "request",
        "exception",
        "traceback",
        "einfo",
    ),
    "task_revoked": ("request", "terminated", "signum", "expired"),
    "task_rejected": ("message", "exc"),
    "task_unknown": ("message", "exc", "name", "id"),
    "celeryd_init": ("instance", "conf", "options"),
    "celeryd_after_setup": ("instance", "conf"),
    "import_modules": (),
    "worker_init": (),
    "worker_before_create_process": (),
    "worker_process_init": (),
    "worker_process_shutdown": ("pid", "exitcode"),
    "worker_ready": (),
    "heartbeat_sent": (),
    "worker_shutting_down": ("sig", "how", "exitcode"),
    "worker_shutdown": (),
    "on_configure": (),
    "on_after_configure": ("source",),
    "on_after_finalize": (),
    "on_after_fork": (),
}


class _Connection(NamedTuple):
    """One receiver and when to call it."""

    key: Any
    get: Callable[[], Callable[..., Any] | None]
    sender: Any
    retry: bool


class Signal:
    """Something that happens, and who wants to know.

    Args:
        name: Its name.
        providing_args: The keyword arguments that receivers get.
        sleep: Pauses between the attempts of a receiver connected with ``retry=True``.
    """

    def __init__(
        self,
        name: str,
        providing_args: tuple[str, ...] = (),
        *,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self.name, self.providing_args = name, providing_args
        self._sleep = sleep
        self._lock = threading.Lock()
        self._connections: tuple[_Connection, ...] = ()
        #: Told when a receiver comes; weak, since a signal outlives the apps that tell it.
        self._wakes: list[Callable[[], Callable[[str], None] | None]] = []

    @overload
    def connect(
        self,
        receiver: Receiver,
        sender: Any = None,
        weak: bool = True,
        dispatch_uid: Any = None,
        retry: bool = False,
    ) -> Receiver: ...

    @overload
    def connect(
        self,
        receiver: None = None,
        sender: Any = None,
        weak: bool = True,
        dispatch_uid: Any = None,
        retry: bool = False,
    ) -> Callable[[Receiver], Receiver]: ...

    def connect(
        self,
        receiver: Any = None,
        sender: Any = None,
        weak: bool = True,
        dispatch_uid: Any = None,
        retry: bool = False,
    ) -> Any:
        """Have `receiver` called at each `send`. Also a decorator, bare or with options.

        Args:
            receiver: Takes keyword arguments; may be ``async def``.
            sender: Only for signals of this sender: the object itself, or a task's name.
            weak: Don't keep `receiver` alive: a lambda or inner function needs False.
            dispatch_uid: A second receiver with the same one isn't added.
            retry: Where it raises, call it again until it doesn't: after 2 seconds, then
                after 2 seconds more each time, up to 30. The signal waits for that.
        Returns: `receiver`, or a decorator.
        """
        if receiver is None:
            return lambda function: self.connect(function, sender, weak, dispatch_uid, retry)
        if not callable(receiver):
            raise TypeError(f"a receiver of signal {self.name} must be callable, not {receiver!r}")
        get = self._reference(receiver) if weak else (lambda: receiver)
        key = (_identity(receiver) if dispatch_uid is None else dispatch_uid, _identity(sender))
        with self._lock:
            known = self._alive()
            if not any(connection.key == key for connection in known):
                known = (*known, _Connection(key, get, sender, retry))
            self._connections = known
            wakes = list(self._wakes)
        for reference in wakes:
            wake = reference()
            if wake is not None:
                wake(self.name)
        return receiver

    def disconnect(
        self,
        receiver: Callable[..., Any] | None = None,
        sender: Any = None,
        weak: bool | None = None,
        dispatch_uid: Any = None,
    ) -> bool:
        """Undo `connect` with the same arguments; tell whether there was anything to undo.

        Args:
            receiver: As it was connected; not needed with `dispatch_uid`.
            sender: As it was connected.
            weak: Means nothing; Celery has it.
            dispatch_uid: As it was connected.
        """
        key = (_identity(receiver) if dispatch_uid is None else dispatch_uid, _identity(sender))
        with self._lock:
            known = self._connections
            self._connections = tuple(each for each in known if each.key != key)
            return len(self._connections) < len(known)

    def send(self, sender: Any, **named: Any) -> list[tuple[Callable[..., Any], Any]]:
        """Call all receivers that want this sender.

        An error of one is logged and stops nobody.

        Returns: (receiver, what it returned or raised) pairs, in the order of connecting.
        """
        responses: list[tuple[Callable[..., Any], Any]] = []
        for receiver, retry in self._receivers_for(sender):
            try:
                response = self._call(receiver, retry, sender, named)
            except Exception as exc:
                logger.exception("receiver %r of signal %s failed", receiver, self.name)
                response = exc
            responses.append((receiver, response))
        return responses

    send_robust = send

    def has_listeners(self, sender: Any = None) -> bool:
        """Tell whether anybody hears `sender`; None: anybody at all."""
        if sender is None:
            return bool(self._alive())
        return any(True for _ in self._receivers_for(sender))

    @property
    def receivers(self) -> list[Callable[..., Any]]:
        """All receivers, in the order of connecting."""
        found = (connection.get() for connection in self._connections)
        return [receiver for receiver in found if receiver is not None]

    def on_first_receiver(self, wake: Callable[[], Callable[[str], None] | None]) -> None:
        """Have the weakly referenced `wake` called with this signal's name whenever a receiver
        comes, and now if there are any.
        """
        with self._lock:
            self._wakes = [*(known for known in self._wakes if known() is not None), wake]
            anybody = bool(self._alive())
        function = wake()
        if anybody and function is not None:
            function(self.name)

    def _receivers_for(self, sender: Any) -> Iterator[tuple[Callable[..., Any], bool]]:
        for connection in self._connections:
            wanted = connection.sender
            if wanted is None or _is_same(wanted, sender):
                receiver = connection.get()
                if receiver is not None:
                    yield receiver, connection.retry

    def _call(
        self, receiver: Callable[..., Any], retry: bool, sender: Any, named: dict[str, Any]
    ) -> Any:
        pause = 0.0
        while True:
            try:
                response = receiver(signal=self, sender=sender, **named)
                return _finish(response, receiver) if isinstance(response, Coroutine) else response
            except Exception as exc:
                if not retry:
                    raise
                pause = min(pause + 2.0, 30.0)
                text = "receiver %r of signal %s failed and is called again in %g s: %r"
                logger.warning(text, receiver, self.name, pause, exc)
                self._sleep(pause)

    def _alive(self) -> tuple[_Connection, ...]:
        return tuple(each for each in self._connections if each.get() is not None)

    def _reference(self, receiver: Callable[..., Any]) -> Callable[[], Callable[..., Any] | None]:
        if hasattr(receiver, "__self__") and hasattr(receiver, "__func__"):
            return weakref.WeakMethod(receiver, self._drop_dead)
        return weakref.ref(receiver, self._drop_dead)

    def _drop_dead(self, _: Any) -> None:
        # Never waits: this runs wherever garbage is collected. A dead entry may stay for a while.
        if self._lock.acquire(blocking=False):
            try:
                self._connections = self._alive()
            finally:
                self._lock.release()

    def __repr__(self) -> str:
        return f"<Signal: {self.name} providing_args={{{', '.join(self.providing_args)}}}>"


def _identity(thing: Any) -> Any:
    """Return what tells `thing` apart: a text is itself, a bound method its two halves."""
    if thing is None or isinstance(thing, str):
        return thing
    if hasattr(thing, "__self__") and hasattr(thing, "__func__"):
        return (id(thing.__self__), id(thing.__func__))
    return id(thing)


def _is_same(wanted: Any, sender: Any) -> bool:
    if wanted is sender:
        return True
    if isinstance(wanted, str):
        return bool(wanted == sender or wanted == getattr(sender, "name", None))
    return isinstance(sender, str) and getattr(wanted, "name", None) == sender


_running: set[Any] = set()


def _finish(coroutine: Coroutine[Any, Any, Any], receiver: Callable[..., Any]) -> Any:
    """Run an async receiver: as a task of the running loop, or to its end where there is none."""
    asyncio = sys.modules.get("asyncio")  # not imported yet: no loop runs
    if asyncio is not None:
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            pass
        else:
            task = loop.create_task(_logged(coroutine, receiver))
            _running.add(task)  # a loop alone doesn't keep its tasks alive
            task.add_done_callback(_running.discard)
            return task
    from asyncio import run  # noqa: PLC0415 - costs start-up time; only async receivers need it

    return run(coroutine)


async def _logged(coroutine: Coroutine[Any, Any, Any], receiver: Callable[..., Any]) -> Any:
    try:
        return await coroutine
    except Exception:
        logger.exception("receiver %r of a signal failed", receiver)


class Signals:
    """All signals, as attributes: one set an app, and one for all apps of the process."""

    before_task_publish: Signal
    after_task_publish: Signal
    task_received: Signal
    task_prerun: Signal
    task_postrun: Signal
    task_success: Signal
    task_retry: Signal
    task_failure: Signal
    task_internal_error: Signal
    task_revoked: Signal
    task_rejected: Signal
    task_unknown: Signal
    celeryd_init: Signal
    celeryd_after_setup: Signal
    import_modules: Signal
    worker_init: Signal
    worker_before_create_process: Signal
    worker_process_init: Signal
    worker_process_shutdown: Signal
    worker_ready: Signal
    heartbeat_sent: Signal
    worker_shutting_down: Signal
    worker_shutdown: Signal
    on_configure: Signal
    on_after_configure: Signal
    on_after_finalize: Signal
    on_after_fork: Signal

    def __init__(self) -> None:
        for name, providing in SIGNALS.items():
            setattr(self, name, Signal(name, providing))

    def __iter__(self) -> Iterator[Signal]:
        return iter([getattr(self, name) for name in SIGNALS])


#: Heard by every app of the process.
EVERY_APP = Signals()

before_task_publish = EVERY_APP.before_task_publish
after_task_publish = EVERY_APP.after_task_publish
task_received = EVERY_APP.task_received
task_prerun = EVERY_APP.task_prerun
task_postrun = EVERY_APP.task_postrun
task_success = EVERY_APP.task_success
task_retry = EVERY_APP.task_retry
task_failure = EVERY_APP.task_failure
task_internal_error = EVERY_APP.task_internal_error
task_revoked = EVERY_APP.task_revoked
task_rejected = EVERY_APP.task_rejected
task_unknown = EVERY_APP.task_unknown
celeryd_init = EVERY_APP.celeryd_init
celeryd_after_setup = EVERY_APP.celeryd_after_setup
import_modules = EVERY_APP.import_modules
worker_init = EVERY_APP.worker_init
worker_before_create_process = EVERY_APP.worker_before_create_process
worker_process_init = EVERY_APP.worker_process_init
worker_process_shutdown = EVERY_APP.worker_process_shutdown
worker_ready = EVERY_APP.worker_ready
heartbeat_sent = EVERY_APP.heartbeat_sent
worker_shutting_down = EVERY_APP.worker_shutting_down
worker_shutdown = EVERY_APP.worker_shutdown
