"""What is known of lanes since they were looked at last, without asking."""

from __future__ import annotations

import random
import time
from collections.abc import Iterable, Sequence
from typing import Final

from umbel_broker_redis.keys import Lane
from umbel_broker_redis.receiving import Look

#: Seconds after which the lanes are looked at although nothing was told, and who waits is
#: registered anew.
RELOOK_S: Final = 30.0
_RELOOK_UNSURE_S: Final = 2.0
#: Seconds between two looks at what is due. A fleet that waits for the same message shall not storm.
_DUE_EVERY_S: Final = 0.05
#: The most lanes that are waited for at the usual pace; who waits for more asks less often for each.
_USUAL_LANES: Final = 4


class Known:
    """What one consumer knows. Times are monotonic."""

    def __init__(self) -> None:
        self.paused: frozenset[Lane] = frozenset()
        #: What was emptied, and until when it isn't looked at again though nothing is told.
        self._empty: tuple[Lane, ...] = ()
        self._until = 0.0
        self._due_at: float | None = None
        self._looked_at = 0.0

    def note(self, look: Look, lanes: tuple[Lane, ...], *, is_unsure: bool) -> None:
        """Note what a look has found that took from `lanes`; is_unsure: look again soon."""
        now = self._looked_at = time.monotonic()
        self._due_at = None if look.due_in_s is None else now + look.due_in_s
        self.paused = look.paused
        self._empty = lanes if look.is_drained else ()
        relook_s = _RELOOK_UNSURE_S if is_unsure else paced(RELOOK_S, lanes)
        self._until = now + relook_s * (0.8 + random.random() / 5)

    def learn(self, told: Iterable[bytes]) -> bool:
        """Take in what was told on the channels; tell whether it asks for a look."""
        worth = False
        for payload in told:
            word, _, number = payload.partition(b":")
            if word == b"due" and number.isdigit():
                due_at = time.monotonic() + int(number) / 1000
                self._due_at = due_at if self._due_at is None else min(self._due_at, due_at)
            else:
                worth = True
        return worth

    def is_empty(self, lanes: tuple[Lane, ...]) -> bool:
        """Tell whether nothing has come to `lanes`, as far as one can tell."""
        if self.is_over(time.monotonic()):
            return False
        return lanes is self._empty or set(lanes) <= set(self._empty)

    def is_over(self, now: float) -> bool:
        """Tell whether it is time to look."""
        return now >= self.ends_at

    @property
    def ends_at(self) -> float:
        """When it is time to look."""
        if self._due_at is None:
            return self._until
        return min(self._until, max(self._due_at, self._looked_at + _DUE_EVERY_S))

    def forget(self) -> None:
        """Know nothing, so that it is time to look."""
        self._empty, self._until, self._due_at = (), 0.0, None


def paced(seconds: float, lanes: Sequence[Lane]) -> float:
    """Return how often something is done for each of `lanes`: in all, no more often for more."""
    return seconds * max(1.0, len(lanes) / _USUAL_LANES)
