"""The rate limits of a node's tasks, as the process that runs them sees them."""

from __future__ import annotations

import logging
import random
from collections.abc import Callable
from typing import TYPE_CHECKING

from umbel.errors import UmbelError
from umbel.outcomes import Rejected
from umbel.rates import parse_rate
from umbel.worker.rate_table import RateTable

if TYPE_CHECKING:
    from umbel.worker.host import Host
    from umbel.worker.jobs import Job

logger = logging.getLogger("umbel.worker")

#: Why a message over its limit was given back.
OVER_LIMIT = "its type is over its rate limit"


class Rates:
    """Which tasks have a limit, and whether one of them may start."""

    def __init__(
        self,
        host: Host,
        table: RateTable | None = None,
        jitter: Callable[[], float] = random.random,
    ):
        """Go by `table`, which other processes share; None: by one of this process alone."""
        self.table = table if table is not None else RateTable()
        self.is_disabled: bool = host.conf.worker_disable_rate_limits
        #: Name and place in the table of each task with a limit. Empty: nobody has to ask.
        self.limited: dict[str, int] = {}
        self._tasks, self._clock, self._jitter = host.tasks, host.clock, jitter
        self._declared = self._version = -1

    def refresh(self) -> None:
        """Learn of limits that changed meanwhile, and of tasks that came. Cheap; never raises."""
        if self.is_disabled:
            return
        if len(self._tasks) != self._declared:
            self._declare()
        version = self.table.version
        if version != self._version:
            self._version = version
            found = ((name, self.table.find(name)) for name in self._tasks)
            limited = {name: at for name, at in found if at is not None}
            self.limited = {name: at for name, at in limited.items() if self.table.limit(name)}

    def _declare(self) -> None:
        self._declared = len(self._tasks)
        for name, task in self._tasks.items():
            try:
                self.table.declare(name, parse_rate(task.rate_limit))
            except UmbelError as exc:
                logger.error("task %s runs without its rate limit: %s", name, exc)

    def held(self, job: Job) -> Rejected | None:
        """Let `job`, which has a limit, ask to start; return what becomes of it where it can't."""
        at = self.limited.get(job.runner.name)
        if at is None:
            return None
        delay_s = self.table.take(
            at,
            self._clock.monotonic,
            is_new=not job.delivery.redelivered,
            jitter=self._jitter,
        )
        return Rejected(OVER_LIMIT, requeue=True, delay_s=delay_s) if delay_s else None
