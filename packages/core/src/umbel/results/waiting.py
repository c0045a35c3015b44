"""Waiting for many results at once: one thread a backend handle, however many wait.

Coroutines and callbacks register here; the thread waits at the backend for all of their ids and
hands each its result. It begins with the first registration and ends after a while without any.
A coroutine never touches the backend itself: it gets its result through its own event loop.
"""

from __future__ import annotations

import contextlib
import logging
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from typing import TYPE_CHECKING

from umbel.clock import SYSTEM_CLOCK, Clock
from umbel.errors import BackendError, BackendUnavailableError, ResultTimeoutError
from umbel.interfaces.backend import Backend
from umbel.outcomes import StoredResult
from umbel.states import PENDING, is_final

if TYPE_CHECKING:
    from asyncio import AbstractEventLoop

logger = logging.getLogger("umbel.results")

#: What is waited for: the final result, or the error that ended the waiting.
Arrival = StoredResult | Exception

#: Ids in one `load` or `wait`: keeps each call short, and below what stores take at once.
CHUNK = 1000
#: Everything is read anew this often, in case that a backend missed a notification.
_RECHECK_S = 1.0
#: With more than a chunk, the backend is asked to tell of one; the rest is read this often, or
#: with pauses of `_SWEEP_SHARE` times what reading takes.
_SWEEP_S, _SWEEP_SHARE = 0.05, 10.0
#: Above this many, arrivals are gathered for a moment, so that each costs less.
MANY = 32
_GATHER_S, _GATHER_SHARE, _LONGEST_GATHER_S = 0.005, 2.0, 0.05
_IDLE_S = 10.0
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.1, 5.0


def outage_pause(failures: int) -> float:
    """Return how many seconds to wait after this many failed calls in a row, with jitter."""
    from random import random  # noqa: PLC0415 - costs start-up time, and only an outage needs it

    longest = min(_LONGEST_PAUSE_S, _FIRST_PAUSE_S * 2.0 ** min(failures - 1, 10))
    return longest * (0.5 + random() / 2)


def sweep_pause(count: int, read_cost_s: float, *, longest_s: float = _RECHECK_S) -> float:
    """Return how many seconds may pass before `count` missing results are all read anew.

    Args:
        count: How many.
        read_cost_s: How long reading them took the last time.
        longest_s: What a notification that was missed may cost.
    """
    if count <= CHUNK:
        return longest_s
    return min(max(_SWEEP_S, _SWEEP_SHARE * read_cost_s), longest_s)


def gather_pause(read_cost_s: float) -> float:
    """Return for how many seconds to gather arrivals while many are missing."""
    return min(max(_GATHER_S, _GATHER_SHARE * read_cost_s), _LONGEST_GATHER_S)


def told_of(ids: Sequence[str]) -> Sequence[str]:
    """Return those of the missing `ids`, oldest first, to wait for; a sweep finds the others."""
    if len(ids) <= CHUNK:
        return ids
    # What was sent first and what was sent last are the likeliest to be next.
    return [*ids[: CHUNK // 2], *ids[-CHUNK // 2 :]]


def waiting_failed(task_id: str, cause: Exception) -> BackendError:
    """Return what to raise where `cause` ended the waiting for `task_id`."""
    return BackendError(f"waiting for the result of task {task_id!r} failed: {cause}")


def result_timeout(
    task_id: str, timeout_s: float, state: str, outage: BackendUnavailableError | None
) -> ResultTimeoutError:
    """Return what to raise where `task_id` had no result in time.

    Args:
        task_id: What was waited for.
        timeout_s: How long, in seconds.
        state: What was seen last.
        outage: Why the backend couldn't be reached at the end; None: it could.
    """
    text = f"task {task_id!r} has no result after {timeout_s:g} s (state {state})"
    if outage is not None:
        text += f"; the result backend can't be reached: {outage}"
    elif state == PENDING:
        text += (
            "; nothing is stored for it: check that a worker consumes its queue, and that the "
            "task keeps its result"
        )
    error = ResultTimeoutError(text)
    error.__cause__ = outage
    return error


class Waiting:
    """One who waits for a result; a ticket for `ResultWaiter.discard`."""

    __slots__ = ("deliver", "is_aside", "loop", "over", "state", "task_id")

    def __init__(
        self,
        task_id: str,
        deliver: Callable[[Arrival], None],
        loop: AbstractEventLoop | None,
        *,
        is_aside: bool = False,
    ) -> None:
        self.task_id, self.deliver, self.loop = task_id, deliver, loop
        #: It isn't waited for, only looked at once in a while.
        self.is_aside = is_aside
        #: The state that was seen last.
        self.state: str = PENDING
        #: It has its result, or was discarded.
        self.over = False


class ResultWaiter:
    """Waits at one backend handle for all who registered in this process.

    Args:
        backend: The handle; used from the waiter's thread, and by `interrupt` from others.
        clock: Where to read the time.
        idle_s: Seconds without anyone waiting after which the thread ends.
    """

    def __init__(
        self, backend: Backend, clock: Clock = SYSTEM_CLOCK, *, idle_s: float = _IDLE_S
    ) -> None:
        self._backend, self._clock, self._idle_s = backend, clock, idle_s
        #: Why the backend can't be reached at the moment; None: it can, or nobody waits.
        self.outage: BackendUnavailableError | None = None
        self._changed = threading.Condition(threading.Lock())
        # By id, in order of arrival; the inner ones are ordered sets.
        self._waiting: dict[str, dict[Waiting, None]] = {}
        self._aside: dict[str, dict[Waiting, None]] = {}
        # Ids that weren't looked at yet, and tickets given back: see `discard`.
        self._fresh: list[str] = []
        self._discarded: deque[Waiting] = deque()
        self._thread: threading.Thread | None = None
        self._at_backend = self._woken = self._stopped = False
        # For the thread alone.
        self._failures = 0
        self._swept_at = self._aside_at = float("-inf")
        self._read_cost_s = self._aside_cost_s = 0.0

    def __len__(self) -> int:
        """Return how many results are waited for."""
        return len(self._waiting)

    def add(
        self,
        task_id: str,
        deliver: Callable[[Arrival], None],
        *,
        loop: AbstractEventLoop | None = None,
    ) -> Waiting:
        """Have `deliver` called, once, with the result of `task_id` when it is final.

        Args:
            task_id: What to wait for.
            deliver: Must not block. Called on `loop`; without one, on the waiter's thread.
            loop: The event loop of the one who waits.
        Raises: BackendError: the app was closed.
        """
        return self.add_all((task_id,), deliver, loop=loop)[0]

    def add_all(
        self,
        task_ids: Sequence[str],
        deliver: Callable[[Arrival], None],
        *,
        loop: AbstractEventLoop | None = None,
        aside: bool = False,
    ) -> list[Waiting]:
        """Have `deliver` called with the result of each of `task_ids`, as `add` does.

        Args:
            task_ids: What to wait for.
            deliver: As for `add`.
            loop: The event loop of the one who waits.
            aside: Nobody waits for these: look at them about once a second, and only while
                somebody waits for something else.
        Raises: BackendError: the app was closed.
        """
        new = [Waiting(task_id, deliver, loop, is_aside=aside) for task_id in task_ids]
        if not new:
            return new
        with self._changed:
            if self._stopped:
                raise waiting_failed(task_ids[0], BackendError("the app was closed"))
            if self._thread is None:
                thread = threading.Thread(target=self._run, name="umbel-results", daemon=True)
                thread.start()  # may fail; it needs the lock before it looks at anything
                self._thread = thread
            by_id = self._aside if aside else self._waiting
            for waiting in new:
                by_id.setdefault(waiting.task_id, {})[waiting] = None
            if not aside:
                self._fresh += task_ids
            elif self._clock.monotonic() - self._aside_at < _RECHECK_S:
                return new
            # Once is enough however many are added until the thread looks again.
            wake, self._woken = self._at_backend and not self._woken, True
            self._changed.notify()
        if wake:
            self._backend.interrupt()
        return new

    def discard(self, waiting: Waiting) -> None:
        """Forget the one who waits. Takes no lock: a coroutine's end may come from a finaliser."""
        if not waiting.over:
            waiting.over = True
            self._discarded.append(waiting)

    def drop(self, task_ids: Iterable[str]) -> None:
        """End all waiting for `task_ids`, with an error to those who wait."""
        self._deliver((key, BackendError("it was forgotten meanwhile")) for key in task_ids)

    def stop(self, *, timeout_s: float = 5.0) -> None:
        """End the thread, with an error to those who wait. Repeatable."""
        with self._changed:
            self._stopped = True
            thread, ids = self._thread, [*self._waiting, *self._aside]
            self._changed.notify()
        self._deliver((key, BackendError("the app was closed meanwhile")) for key in ids)
        if thread is not None and thread is not threading.current_thread():
            self._backend.interrupt()
            thread.join(timeout_s)

    # -- the thread -----------------------------------------------------------------------------

    def _run(self) -> None:
        while self._turn():
            pass

    def _turn(self) -> bool:
        """Wait once, and hand out what arrived; False where the thread should end."""
        turn = self._next_ids()
        if turn is None:
            return False
        ids, fresh = turn
        try:
            found = self._look(ids, fresh)
        except BackendUnavailableError as exc:
            self._outage(exc)
        except Exception as exc:  # noqa: BLE001 - whoever waits must be told, whatever it is
            self._deliver((key, exc) for key in ids)
        else:
            self._reached()
            self._deliver(found)
            if len(ids) > MANY:
                self._pause(gather_pause(self._read_cost_s))
        return True

    def _next_ids(self) -> tuple[list[str], list[str]] | None:
        """Return all ids, oldest first, and those not looked at yet; None: nobody waits."""
        with self._changed:
            self._at_backend = False
            self._purge()
            if not self._waiting and not self._stopped:
                self._changed.wait(self._idle_s)
                self._purge()
            if self._stopped or not self._waiting:
                self._thread, self._failures, self.outage = None, 0, None
                return None
            fresh, self._fresh = self._fresh, []
            self._at_backend, self._woken = True, False
            return list(self._waiting), fresh

    def _purge(self) -> None:
        while self._discarded:
            waiting = self._discarded.popleft()
            by_id = self._aside if waiting.is_aside else self._waiting
            others = by_id.get(waiting.task_id)
            if others is not None:
                others.pop(waiting, None)
                if not others:
                    del by_id[waiting.task_id]

    def _look(self, ids: list[str], fresh: list[str]) -> Iterable[tuple[str, StoredResult]]:
        """Return final results: read of what is due to be read, else waited for."""
        started = self._clock.monotonic()
        pause_s = sweep_pause(len(ids), self._read_cost_s)
        due = started - self._swept_at >= pause_s
        if due or fresh:
            found = self._read(ids if due else fresh)
            if due:
                self._swept_at = self._clock.monotonic()
                self._read_cost_s = self._swept_at - started
            if found:
                return found
        aside_s = self._aside_at + max(_RECHECK_S, _SWEEP_SHARE * self._aside_cost_s) - started
        if self._aside and aside_s <= 0 and (found := self._read_aside(started)):
            return found
        if self._woken:  # somebody came meanwhile: `interrupt` may have been too early for `wait`
            return ()
        timeout_s = self._swept_at + pause_s - self._clock.monotonic()
        if self._aside:
            timeout_s = min(timeout_s, _RECHECK_S if aside_s <= 0 else aside_s)
        return self._backend.wait(told_of(ids), timeout_s=max(timeout_s, 0.0)).items()

    def _read_aside(self, started: float) -> list[tuple[str, StoredResult]]:
        with self._changed:
            ids = list(self._aside)
        found = self._read(ids)
        self._aside_at = self._clock.monotonic()
        self._aside_cost_s = self._aside_at - started
        return found

    def _read(self, ids: Sequence[str]) -> list[tuple[str, StoredResult]]:
        found = []
        for chunk in chunks(ids):
            seen = self._backend.load(chunk)
            with self._changed:
                for key, stored in seen.items():
                    for waiting in self._waiting.get(key, ()):
                        waiting.state = stored.state
            found += [(key, stored) for key, stored in seen.items() if is_final(stored.state)]
        return found

    def _deliver(self, found: Iterable[tuple[str, Arrival]]) -> None:
        """Hand out what arrived; for those on event loops, one call a loop."""
        by_loop: dict[AbstractEventLoop, list[tuple[Waiting, Arrival]]] = {}
        direct: list[tuple[Waiting, Arrival]] = []
        with self._changed:
            for key, arrival in found:
                for waiting in (*self._waiting.pop(key, ()), *self._aside.pop(key, ())):
                    loop = waiting.loop
                    here = direct if loop is None else by_loop.setdefault(loop, [])
                    here.append((waiting, arrival))
        for loop, arrivals in by_loop.items():
            with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits there
                loop.call_soon_threadsafe(_hand_over, arrivals)
        # On this thread, which all others wait for: a CancelledError must not end it, either.
        _hand_over(direct, caught=BaseException)

    def _outage(self, exc: BackendUnavailableError) -> None:
        if self._failures == 0:
            logger.warning("result backend unavailable, %d results wait: %s", len(self), exc)
        self._failures += 1
        # Without its frames, which would keep everything in them alive.
        self.outage = exc.with_traceback(None)
        self._swept_at = float("-inf")
        self._pause(outage_pause(self._failures))

    def _reached(self) -> None:
        if self._failures:
            logger.info("result backend available again after %d failed calls", self._failures)
            self._failures, self.outage = 0, None

    def _pause(self, pause_s: float) -> None:
        with self._changed:
            self._at_backend = False
            self._changed.wait_for(lambda: self._stopped, pause_s)


def _hand_over(
    arrivals: Iterable[tuple[Waiting, Arrival]], *, caught: type[BaseException] = Exception
) -> None:
    for waiting, arrival in arrivals:
        if waiting.over:
            continue
        waiting.over = True
        try:
            waiting.deliver(arrival)
        except caught:
            logger.exception("a callback on the result of task %r failed", waiting.task_id)


def chunks(ids: Iterable[str]) -> Iterator[list[str]]:
    """Yield `ids` by the `CHUNK`."""
    rest = iter(ids)
    while chunk := list(islice(rest, CHUNK)):
        yield chunk
