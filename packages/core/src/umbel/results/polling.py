"""Waiting for results on the caller's own thread: the loop inside ``AsyncResult.get``.

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
from umbel.results.waiting import outage_pause

logger = logging.getLogger("umbel.results")

_INTERVAL_S = 1.0
_SHORTEST_INTERVAL_S = 0.001


class Polling:
    """Looks at results, again and again, until the time is over or the caller has enough.

    Iterating yields what is stored for the ids, in any state: at once, when one of them became
    final, and once an interval. There is at least one look, and one at the end of the time.

    Args:
        source: Where to read.
        task_ids: Called before each look.
        timeout_s: Seconds; None: no end.
        interval_s: Seconds between two looks at most; None: one.
        on_interval: Called once an interval while there isn't enough; may raise.
        loads_first: Look at once, also for states that aren't final. Else a backend that is told
            of results waits first, which finds what is final as soon, with one call less.
    """

    def __init__(
        self,
        source: ResultSource,
        task_ids: Callable[[], Sequence[str]],
        *,
        timeout_s: float | None = None,
        interval_s: float | None = None,
        on_interval: Callable[[], object] | None = None,
        loads_first: bool = True,
    ) -> None:
        self._source, self._task_ids, self._on_interval = source, task_ids, on_interval
        self._loads_first = loads_first
        self._interval_s = max(
            _INTERVAL_S if interval_s is None else interval_s, _SHORTEST_INTERVAL_S
        )
        self._now = source.clock.monotonic
        timeout_s = float("inf") if timeout_s is None else timeout_s
        # A test may move its clock past the timeout; one that nobody moves must not hang this.
        self._ends_at = self._now() + timeout_s
        self._machine_ends_at = time.monotonic() + timeout_s
        #: Why the last look failed; None: it didn't.
        self.outage: BackendUnavailableError | None = None

    def __iter__(self) -> Iterator[Mapping[str, ResultDocument]]:
        """Yield what is stored, until the time is over.

        Raises: BackendError: other than BackendUnavailableError, which is tried again.
        """
        failures, told_at = 0, time.monotonic()
        waits_first = not self._loads_first and self._left_s() > 0
        while True:
            try:
                if waits_first:
                    waits_first = False
                    if self._is_told() and (found := self._wait()):
                        yield found
                yield self._source.load(self._task_ids())
                self.outage, failures = None, 0
                if self._left_s() <= 0:
                    return
                if found := self._wait():
                    yield found
            except BackendUnavailableError as exc:
                failures += 1
                self._failed(exc, failures)
                if self._left_s() <= 0:
                    return
                pause_s = outage_pause(failures)
                if self._on_interval is not None:
                    pause_s = min(pause_s, self._interval_s)
                time.sleep(max(0.0, min(pause_s, self._left_s())))
            if self._on_interval is not None and time.monotonic() - told_at >= self._interval_s:
                told_at = time.monotonic()
                self._on_interval()

    def _is_told(self) -> bool:
        return BackendCapability.PUSH in self._source.backend().capabilities

    def _left_s(self) -> float:
        return min(self._ends_at - self._now(), self._machine_ends_at - time.monotonic())

    def _wait(self) -> Mapping[str, ResultDocument]:
        timeout_s = min(self._interval_s, max(self._left_s(), 0.0))
        backend = self._source.backend()
        return self._source.decode(backend.wait(self._task_ids(), timeout_s=timeout_s))

    def _failed(self, exc: BackendUnavailableError, failures: int) -> None:
        if failures == 1:
            logger.warning("result backend unavailable, trying on: %s", exc)
        self.outage = exc
