"""Soft time limits: an exception raised inside a running task, by the means its thread allows.

On a main thread a timer signal does it, which also ends blocking calls. In other threads the
exception is raised asynchronously (it arrives between two bytecodes). In coroutines a
cancellation is turned into the exception at the await where the task stands. Hard limits are
the supervisor's: it replaces the process.
"""

from __future__ import annotations

import asyncio
import ctypes
import heapq
import signal
import threading
import time
from collections.abc import Callable, Coroutine, Generator
from typing import Any, Protocol

from umbel.errors import SoftTimeLimitExceeded

#: Seconds between alarms until one is heard: one that comes as a call is about to block is noticed
#: only when that call returns.
_ALARM_AGAIN_S = 0.1
#: Passed deadlines that may lie in the heap before it is cleared of them.
_COMPACT_AT = 256


class ShutdownInterrupt(SoftTimeLimitExceeded):
    """Raised inside a task when its worker must stop: the task is given back, not failed."""


def raise_in_thread(thread_id: int, error: type[BaseException]) -> bool:
    """Raise `error` in the thread between two of its bytecodes; False: no such thread."""
    found = ctypes.pythonapi.PyThreadState_SetAsyncExc(
        ctypes.c_ulong(thread_id), ctypes.py_object(error)
    )
    return bool(found == 1)


def withdraw_from_thread(thread_id: int) -> None:
    """Take back an exception that `raise_in_thread` set and that wasn't raised yet."""
    ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread_id), None)


class Guard(Protocol):
    """Stands around the user's code of one run, and may raise an exception inside it."""

    def begin(self, soft_limit_s: float | None) -> None:
        """The task's code begins now; raise SoftTimeLimitExceeded in it after the limit."""

    def end(self) -> None:
        """The task's code is over; raise nothing any more."""


class MainThreadGuard:
    """Raises exceptions in the task on the main thread, by a timer signal where there is one."""

    def __init__(self) -> None:
        self._main = threading.main_thread().ident or 0
        self._armed: type[BaseException] | None = None
        self._in_task = False
        self._timed = False
        self._watch: DeadlineWatch | None = None
        self._ticket = 0
        self._has_timer = hasattr(signal, "setitimer")
        if self._has_timer:
            signal.signal(signal.SIGALRM, self._on_alarm)

    def _on_alarm(self, _signum: int, _frame: Any) -> None:
        error, self._armed = self._armed, None
        if error is not None:
            signal.setitimer(signal.ITIMER_REAL, 0)
            if self._in_task:
                raise error

    def begin(self, soft_limit_s: float | None) -> None:
        """Arm the limit."""
        self._in_task = True
        if soft_limit_s is None:
            return
        self._timed = True
        if self._has_timer:
            if signal.getsignal(signal.SIGALRM) != self._on_alarm:  # a task before took it
                signal.signal(signal.SIGALRM, self._on_alarm)
            self._armed = SoftTimeLimitExceeded
            signal.setitimer(signal.ITIMER_REAL, max(soft_limit_s, 1e-6), _ALARM_AGAIN_S)
        else:
            self._watch = self._watch or DeadlineWatch()
            self._ticket = self._watch.after(
                soft_limit_s, lambda: self.interrupt(SoftTimeLimitExceeded)
            )

    def end(self) -> None:
        """Disarm the limit."""
        self._in_task = False
        if self._timed:
            self._timed = False
            if self._has_timer:
                signal.setitimer(signal.ITIMER_REAL, 0)
            elif self._watch is not None:
                self._watch.cancel(self._ticket)
            self._armed = None

    def interrupt(self, error: type[BaseException]) -> None:
        """Raise `error` in the task that runs now, if one does; from another thread."""
        if not self._in_task:
            return
        if self._has_timer:
            self._armed, self._timed = error, True
            signal.setitimer(signal.ITIMER_REAL, _ALARM_AGAIN_S, _ALARM_AGAIN_S)
            signal.pthread_kill(self._main, signal.SIGALRM)
        else:
            raise_in_thread(self._main, error)


class ThreadGuard:
    """Raises exceptions in a task on any thread, asynchronously."""

    __slots__ = ("_lock", "_ticket", "_watch", "thread")

    def __init__(self, watch: DeadlineWatch):
        self._watch = watch
        #: Ident of the thread that runs the task now.
        self.thread: int | None = None
        self._ticket: int | None = None
        self._lock = threading.Lock()

    def begin(self, soft_limit_s: float | None) -> None:
        """Arm the limit; called on the task's thread."""
        self.thread = threading.get_ident()
        if soft_limit_s is not None:
            self._ticket = self._watch.after(
                soft_limit_s, lambda: self.interrupt(SoftTimeLimitExceeded)
            )

    def end(self) -> None:
        """Disarm the limit; called on the task's thread."""
        with self._lock:
            thread, self.thread = self.thread, None
            if thread is not None:
                withdraw_from_thread(thread)
        ticket, self._ticket = self._ticket, None
        if ticket is not None:
            self._watch.cancel(ticket)

    def interrupt(self, error: type[BaseException]) -> bool:
        """Raise `error` in the task, if it still runs."""
        with self._lock:
            return self.thread is not None and raise_in_thread(self.thread, error)


class PoolGuard(ThreadGuard):
    """Has a pool raise the exceptions, one that declares INTERRUPT.

    Args:
        watch: Calls back at the soft limit.
        raise_in_job: `Pool.interrupt` of the job.
    """

    __slots__ = ("_raise_in_job",)

    def __init__(self, watch: DeadlineWatch, raise_in_job: Callable[[type[BaseException]], bool]):
        super().__init__(watch)
        self._raise_in_job = raise_in_job

    def interrupt(self, error: type[BaseException]) -> bool:
        """Raise `error` in the task, if it still runs."""
        with self._lock:
            return self.thread is not None and self._raise_in_job(error)


def _as_cancellation(error: type[BaseException]) -> type[BaseException]:
    """Return `error` as an exception that is a cancellation too.

    What coroutines wait in (task groups, `wait_for`, locks) cleans up after a cancellation, and
    after nothing else: after another exception it leaves tasks running, or others waiting.
    """
    names = {"__module__": error.__module__, "__doc__": error.__doc__}
    return type(error.__name__, (error, asyncio.CancelledError), names)


class Interruptible:
    """Drives a coroutine so that it can be interrupted with an exception of one's choice.

    `asyncio.Task.cancel` can only raise CancelledError; this turns the cancellation that
    `interrupt` asked for into its error, at the await where the coroutine stands.
    """

    __slots__ = ("_error", "_raised", "_raised_as", "_task", "coroutine")

    def __init__(self, coroutine: Coroutine[Any, Any, Any]):
        self.coroutine = coroutine
        self._error: type[BaseException] | None = None
        #: What the coroutine was interrupted with last, and as which class it sees it.
        self._raised: type[BaseException] | None = None
        self._raised_as: type[BaseException] = BaseException
        self._task: Any = None

    def interrupt(self, task: Any, error: type[BaseException]) -> None:
        """Raise `error` in the coroutine; called on its loop with its asyncio task."""
        self._error, self._task = error, task
        task.cancel()

    def __await__(self) -> Generator[Any, Any, Any]:
        inner = self.coroutine.__await__()
        raised: BaseException | None = None
        while True:
            try:
                waits_for = inner.send(None) if raised is None else inner.throw(raised)
            except StopIteration as stop:
                return stop.value
            except BaseException as exc:
                if self._raised is None or not _is_only(exc, self._raised_as):
                    raise
                plain = self._raised(*exc.args if isinstance(exc, self._raised) else ())
                raise plain.with_traceback(exc.__traceback__) from None
            raised = None
            try:
                yield waits_for
            except BaseException as exc:  # noqa: BLE001 - handed to the coroutine
                error, self._error = self._error, None
                if error is None:
                    raised = exc
                else:
                    # Not cancelled after all, as timeouts and groups inside must know.
                    self._task.uncancel()
                    self._raised, self._raised_as = error, _as_cancellation(error)
                    raised = self._raised_as()


def _is_only(exc: BaseException, kind: type[BaseException]) -> bool:
    """Tell whether `exc` is of `kind`, or a group of nothing else."""
    if isinstance(exc, BaseExceptionGroup):
        return exc.split(kind)[1] is None
    return isinstance(exc, kind)


class DeadlineWatch:
    """One thread that calls back at deadlines; started when the first is set."""

    def __init__(self) -> None:
        self._heap: list[tuple[float, int, Callable[[], object]]] = []
        self._cancelled: set[int] = set()
        self._changed = threading.Condition()
        self._count = 0
        self._thread: threading.Thread | None = None
        self._stopped = False

    def after(self, delay_s: float, callback: Callable[[], object]) -> int:
        """Call `callback` in `delay_s` seconds; returns a ticket for `cancel`."""
        with self._changed:
            self._count += 1
            heapq.heappush(self._heap, (time.monotonic() + delay_s, self._count, callback))
            if self._thread is None:
                self._thread = threading.Thread(
                    target=self._run, name="umbel-deadlines", daemon=True
                )
                self._thread.start()
            elif self._heap[0][1] == self._count:
                self._changed.notify()
            return self._count

    def cancel(self, ticket: int) -> None:
        """Forget the deadline, if it hasn't passed."""
        with self._changed:
            self._cancelled.add(ticket)
            if len(self._cancelled) > _COMPACT_AT and len(self._cancelled) * 2 > len(self._heap):
                self._heap = [entry for entry in self._heap if entry[1] not in self._cancelled]
                heapq.heapify(self._heap)
                self._cancelled.clear()

    def stop(self) -> None:
        """End the thread."""
        with self._changed:
            self._stopped = True
            self._changed.notify()

    def _run(self) -> None:
        while True:
            with self._changed:
                if self._stopped:
                    return
                if not self._heap:
                    self._cancelled.clear()
                    self._changed.wait()
                    continue
                at, ticket, callback = self._heap[0]
                wait_s = at - time.monotonic()
                if ticket not in self._cancelled and wait_s > 0:
                    self._changed.wait(wait_s)
                    continue
                heapq.heappop(self._heap)
                if ticket in self._cancelled:
                    self._cancelled.discard(ticket)
                    continue
            callback()
