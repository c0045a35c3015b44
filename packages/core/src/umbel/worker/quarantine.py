"""Tasks whose process has died: in a process that runs many at once, each runs alone next time.

So the one that kills is told from those that were only beside it. While one waits for the process
to become empty nothing else begins in it; that is not for long: where what runs there is long, the
task is given back, for a process that has less to do.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from umbel.worker.jobs import Job

#: Seconds that a task waits for the process to become empty, and is then away. Each further time
#: is twice as long: sooner or later it is long enough.
_FIRST_PATIENCE_S, _LONGEST_PATIENCE_S = 1.0, 3600.0
_MOST_DOUBLINGS = 12


class Quarantine:
    """What waits to run alone in one lane. Pure: told the time and whether the lane is empty."""

    def __init__(self) -> None:
        self._waiting: deque[Job] = deque()
        self._is_running = False
        self._patient_until = 0.0

    def __bool__(self) -> bool:
        """Tell whether the lane may begin nothing else."""
        return self._is_running or bool(self._waiting)

    @property
    def waiting(self) -> Sequence[Job]:
        """What waits."""
        return tuple(self._waiting)

    def keep(self, jobs: Sequence[Job], now: float) -> list[Job]:
        """Keep the struck ones of `jobs`, and return the others."""
        struck = [job for job in jobs if job.delivery.strikes]
        if struck:
            self._waiting.extend(struck)
            self._patient_until = now + max(patience_s(job) for job in struck)
        return [job for job in jobs if not job.delivery.strikes]

    def next(self) -> Job | None:
        """Return what to begin now that the lane is empty; None: it is free for all again."""
        job = self._waiting.popleft() if self._waiting else None
        self._is_running = job is not None
        return job

    def give_up(self, now: float) -> list[Job]:
        """Return what has waited for too long, and keep it no more; the lane isn't empty."""
        return [] if now < self._patient_until else self.clear()

    def clear(self) -> list[Job]:
        """Return all that waits, and keep it no more."""
        jobs = list(self._waiting)
        self._waiting.clear()
        return jobs


def patience_s(job: Job) -> float:
    """Return how long `job` waits, going by how often it was handed over for nothing."""
    in_vain = max(job.delivery.token - 1 - job.delivery.strikes, 0)
    return min(_FIRST_PATIENCE_S * 2.0 ** min(in_vain, _MOST_DOUBLINGS), _LONGEST_PATIENCE_S)
