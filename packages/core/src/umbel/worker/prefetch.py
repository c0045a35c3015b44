"""How many messages to fetch at once: what will be finished within about 50 ms.

Goes by recent run times, so that nobody needs to tune it: one at a time for long tasks, a few
hundred for the shortest. Starts with one, since nothing is known then.
"""

from __future__ import annotations

#: Work to hold beside what runs, in seconds.
HORIZON_S = 0.05
#: Messages at most: more saves nothing on the round trip and holds back other processes.
MOST = 200
#: Bytes of bodies to hold at most.
MOST_BYTES = 16 * 1024 * 1024
#: Weight of the newest batch in the averages. High, since a batch that turns out slow is given
#: back (see lanes), while a size that stays small after one slow task costs throughput.
_NEWEST = 0.5
#: The most that one batch may exceed the one before.
_GROWTH = 4


class Prefetch:
    """The batch size of one consumer."""

    def __init__(self, multiplier: int | None = None, slots: int = 1):
        """`multiplier` × `slots` caps the size; None or 0: no cap but the built-in one."""
        self._most = min(MOST, multiplier * slots) if multiplier else MOST
        self._run_s: float | None = None
        self._bytes = 0.0
        self._last = 1

    @property
    def size(self) -> int:
        """Messages to fetch now; 1 or more."""
        if self._run_s is None:
            return 1
        size = min(int(HORIZON_S / max(self._run_s, 1e-6)), self._last * _GROWTH, self._most)
        if self._bytes > 0:
            size = min(size, int(MOST_BYTES / self._bytes))
        return max(size, 1)

    def observe(self, count: int, elapsed_s: float, size_bytes: int = 0) -> None:
        """Note that `count` messages took `elapsed_s` seconds in all."""
        if count < 1:
            return
        each, weight = elapsed_s / count, size_bytes / count
        if self._run_s is None:
            self._run_s, self._bytes = each, weight
        else:
            # A slow batch counts at once: too small a size costs little, too large holds work.
            is_slow = each > max(self._run_s, HORIZON_S / MOST) * _GROWTH
            self._run_s += (1.0 if is_slow else _NEWEST) * (each - self._run_s)
            self._bytes += _NEWEST * (weight - self._bytes)
            # One that is small since there was no more says nothing against a large one.
            self._last = 1 if is_slow else max(count, self._last)
