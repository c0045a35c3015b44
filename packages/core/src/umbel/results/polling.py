"""Waiting for results on the caller's own thread: the loop inside ``get`` and ``join``.

A backend tells of results, and still each is read anew once a second: a missed notification
costs a second, never the answer. While the backend can't be reached the loop goes on trying.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence

from umbel.errors import BackendUnavailableError
from umbel.interfaces.backend import BackendCapability
from umbel.results.codec import ResultDocument
from umbel.results.source import ResultSource
from umbel.results.waiting import MANY, outage_pause, sweep_pause, told_of

logger = logging.getLogger("umbel.results")

_INTERVAL_S = 1.0
_SHORTEST_INTERVAL_S = 0.001
#: Seconds in which arrivals are gathered while many are missing, unless this share of them came.
_GATHER_S, _GATHER_SHARE = 0.004, 8


def _nothing() -> Sequence[str]:
    return ()


class Polling:
    """Looks at results, again and again, until the time is over or the caller has enough.

    Iterating yields what is stored for the ids, in any state: at once, when one of them became
    final, and once an interval. There is at least one look, and one at the end of the time.

    Args:
        source: Where to read.
        task_ids: What is waited for. Called before each look.
        aside: What isn't waited for: looked at once an interval, and at the end of the time.
        timeout_s: Seconds; None: no end.
        interval_s: Seconds between two looks at all ids at most; None: one.
        on_interval: Called once an interval while there isn't enough; may raise.
        loads_first: Look at once, also for states that aren't final. Else a backend that is told
            of results waits first, which finds what is final as soon, with one call less.
    """

    def __init__(
        self,
        source: ResultSource,
        task_ids: Callable[[], Sequence[str]],
        *,
        aside: Callable[[], Sequence[str]] = _nothing,
        timeout_s: float | None = None,
        interval_s: float | None = None,
        on_interval: Callable[[], object] | None = None,
        loads_first: bool = True,
    ) -> None:
        self._source, self._task_ids, self._on_interval = source, task_ids, on_interval
        self._aside, self._loads_first = aside, loads_first
        self._interval_s = max(
            _INTERVAL_S if interval_s is None else interval_s, _SHORTEST_INTERVAL_S
        )
        self._now = source.clock.monotonic
        timeout_s = float("inf") if timeout_s is None else timeout_s
        # A test may move its clock past the timeout; one that nobody moves must not hang this.
        self._ends_at = self._now() + timeout_s
        self._machine_ends_at = time.monotonic() + timeout_s
        # When all ids were looked at, what that cost, and when those aside were.
        self._loaded_at = self._aside_at = float("-inf")
        self._load_cost_s = 0.0
        #: Why the last look failed; None: it didn't.
        self.outage: BackendUnavailableError | None = None

    def __iter__(self) -> Iterator[Mapping[str, ResultDocument]]:
        """Yield what is stored, until the time is over.

        Raises: BackendError: other than BackendUnavailableError, which is tried again.
        """
        failures, told_at = 0, time.monotonic()
        is_first = True
        while True:
            is_last = self._left_s() <= 0
            try:
                if is_first and not is_last and not self._loads_first and self._is_told():
                    self._loaded_at = self._aside_at = time.monotonic()
                is_first = False
                yield self._look(is_last=is_last)
                self.outage, failures = None, 0
            except BackendUnavailableError as exc:
                failures += 1
                self._failed(exc, failures)
                if not is_last:
                    self._pause(failures)
            if is_last:
                return
            if self._on_interval is not None and time.monotonic() - told_at >= self._interval_s:
                told_at = time.monotonic()
                self._on_interval()

    def _look(self, *, is_last: bool) -> Mapping[str, ResultDocument]:
        """Read all that is due to be read, or wait for what is new."""
        ids = self._task_ids()
        now = time.monotonic()
        pause_s = sweep_pause(len(ids), self._load_cost_s, longest_s=self._interval_s)
        next_s = self._loaded_at + pause_s - now
        if is_last or next_s <= 0:
            if is_last or now - self._aside_at >= self._interval_s:
                self._aside_at = now
                ids = [*ids, *self._aside()]
            found = self._source.load(ids)
            self._loaded_at = time.monotonic()
            self._load_cost_s = self._loaded_at - now
            return found
        timeout_s = max(min(next_s, self._left_s()), 0.0)
        stored = self._source.backend().wait(told_of(ids), timeout_s=timeout_s)
        if len(ids) > MANY and 0 < len(stored) * _GATHER_SHARE < len(ids):
            # Each look costs in proportion to what is missing: more of it a look costs less.
            time.sleep(max(min(_GATHER_S, self._left_s()), 0.0))
        return self._source.decode(stored)

    def _is_told(self) -> bool:
        return BackendCapability.PUSH in self._source.backend().capabilities

    def _left_s(self) -> float:
        return min(self._ends_at - self._now(), self._machine_ends_at - time.monotonic())

    def _pause(self, failures: int) -> None:
        self._loaded_at = self._aside_at = float("-inf")
        pause_s = outage_pause(failures)
        if self._on_interval is not None:
            pause_s = min(pause_s, self._interval_s)
        time.sleep(max(0.0, min(pause_s, self._left_s())))

    def _failed(self, exc: BackendUnavailableError, failures: int) -> None:
        if failures == 1:
            logger.warning("result backend unavailable, trying on: %s", exc)
        self.outage = exc
