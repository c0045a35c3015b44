"""The phases of a shutdown: warm, soft, cold. Pure: told the time, it says what is due.

Warm: nothing more is received, what is unstarted is given back, what runs may finish. Soft: a
soft time limit is raised in what still runs. Cold: what still runs is given back and ended.
"""

from __future__ import annotations

from enum import IntEnum


class Phase(IntEnum):
    """How far a shutdown has come."""

    RUNNING = 0
    WARM = 1
    SOFT = 2
    COLD = 3
    KILL = 4


#: Seconds that a child gets to give back what it holds before it is killed.
COLD_GRACE_S = 3.0


class Shutdown:
    """The state of one node's shutdown."""

    def __init__(self, *, warm_s: float | None, soft_s: float):
        """Set the lengths of the phases, in seconds; `warm_s` None: as long as it takes."""
        self._warm_s, self._soft_s = warm_s, soft_s
        self.phase = Phase.RUNNING
        self._ends_at: float | None = None

    def request(self, phase: Phase, now: float) -> bool:
        """Go on to `phase`; False where the shutdown is that far already."""
        if phase <= self.phase:
            return False
        self.phase = phase
        lengths = {Phase.WARM: self._warm_s, Phase.SOFT: self._soft_s, Phase.COLD: COLD_GRACE_S}
        length_s = lengths.get(phase)
        self._ends_at = None if length_s is None else now + length_s
        return True

    def advance(self, now: float) -> bool:
        """Go on to the next phase where this one's time is over; tell whether it did."""
        if self._ends_at is None or now < self._ends_at:
            return False
        after = Phase(self.phase + 1)
        if after is Phase.SOFT and self._soft_s <= 0:
            after = Phase.COLD
        return self.request(after, now)

    def escalate(self, now: float) -> bool:
        """Go on to the next phase at once, up to COLD: somebody pressed Ctrl-C again."""
        return self.request(Phase(min(self.phase + 1, Phase.COLD)), now)

    def remaining_s(self, now: float) -> float | None:
        """Return how long this phase lasts yet; None: no end is set."""
        return None if self._ends_at is None else max(0.0, self._ends_at - now)
