"""A clock that stands still until a test moves it."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

_START = datetime(2030, 1, 1, tzinfo=UTC)
_UNITS_S = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0, "w": 604800.0}
#: What `FakeClock.attach` is told: how to run what is due, and when the next is.
Attached = tuple[Callable[[], object], Callable[[], float | None]]
_PART = re.compile(r"(\d+(?:\.\d+)?)\s*(ms|[smhdw])\s*")


class FakeClock:
    """Virtual time. Threads may read and move it at once.

    What waits on it (the memory broker, backend and coordinator) is told of each move.

    Args:
        start: The wall clock at first; an aware datetime, or unix seconds.
    """

    def __init__(self, start: datetime | float = _START) -> None:
        self._time = start.timestamp() if isinstance(start, datetime) else float(start)
        self._monotonic = 0.0
        self._lock = threading.Lock()
        self._wakes: dict[object, Callable[[], None]] = {}
        self._attached: dict[object, Attached] = {}
        self._is_stepping = False

    def time(self) -> float:
        """Return the wall clock: seconds since 1970-01-01 UTC."""
        return self._time

    def monotonic(self) -> float:
        """Return the sum of all moves, in seconds."""
        return self._monotonic

    def advance(self, by: float | str | timedelta) -> float:
        """Move the clock and wake who waits on it; return the new wall clock.

        Args:
            by: Seconds, a timedelta, or text such as ``"3h"``, ``"1h 30m"``, ``"250ms"``.
        Raises: ValueError: it would go back, or the text isn't a duration.
        """
        seconds = seconds_of(by)
        if self._attached and not self._is_stepping:
            return self._step_to(self._time + seconds)
        return self._move(seconds)

    def _move(self, seconds: float) -> float:
        with self._lock:
            self._time += seconds
            self._monotonic += seconds
            wakes = list(self._wakes.values())
            now = self._time
        for wake in wakes:  # without the lock: they may read, subscribe and unsubscribe
            wake()
        return now

    def _step_to(self, target: float) -> float:
        """Move from one due time of what is attached to the next, and run it at each."""
        self._is_stepping = True  # what runs may advance the clock too: then it just moves
        try:
            while True:
                for run, _ in list(self._attached.values()):
                    run()
                if self._time >= target:
                    return self._time
                times = [at for _, next_at in self._attached.values() if (at := next_at())]
                stop = min([target, *(at for at in times if at > self._time)])
                self._move(stop - self._time)
                self._time = max(self._time, stop)  # to the last bit, whatever the sum lost
        finally:
            self._is_stepping = False

    def attach(
        self, run: Callable[[], object], next_at: Callable[[], float | None]
    ) -> Callable[[], None]:
        """Have `run` called at each due time that `advance` passes, and where it begins and ends.

        Args:
            run: Runs what is due.
            next_at: Tells when something is due next (unix seconds); None: nothing is.
        Returns: What ends that.
        """
        key = object()
        self._attached[key] = (run, next_at)

        def detach() -> None:
            self._attached.pop(key, None)

        return detach

    def subscribe(self, wake: Callable[[], None]) -> Callable[[], None]:
        """Call `wake` after each move, in the thread that moves; return what ends that."""
        key = object()
        with self._lock:
            self._wakes[key] = wake

        def unsubscribe() -> None:
            with self._lock:
                self._wakes.pop(key, None)

        return unsubscribe


def seconds_of(duration: float | str | timedelta) -> float:
    """Return a duration in seconds.

    Raises: ValueError: it is negative, or text that isn't a duration.
    """
    if isinstance(duration, timedelta):
        seconds = duration.total_seconds()
    elif isinstance(duration, str):
        seconds = _parse(duration)
    else:
        seconds = float(duration)
    if not 0 <= seconds < float("inf"):
        raise ValueError(f"a clock can't be moved by {duration!r}: it only goes forward")
    return seconds


def _parse(text: str) -> float:
    rest, seconds = text.strip(), 0.0
    if not rest:
        raise ValueError("an empty text is no duration; write '3h', '1h 30m' or '250ms'")
    while rest:
        part = _PART.match(rest)
        if part is None:
            raise ValueError(f"{text!r} is no duration; write '3h', '1h 30m' or '250ms'")
        seconds += float(part[1]) * _UNITS_S[part[2]]
        rest = rest[part.end() :]
    return seconds
