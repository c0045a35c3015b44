"""The pool of threads: ``--pool threads``."""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections.abc import Sequence

from umbel.errors import StateError
from umbel.interfaces.pool import Job, Pool

logger = logging.getLogger("umbel")


class ThreadPool(Pool):
    """One thread a slot, started as they are first needed."""

    def start(self) -> None:
        """Get ready; threads come with the jobs."""
        self._jobs: queue.SimpleQueue[Job | None] = queue.SimpleQueue()
        self._threads: list[threading.Thread] = []
        self._lock = threading.Lock()
        self._idle = 0
        self._stopped = False

    def submit(self, jobs: Sequence[Job]) -> None:
        """Begin `jobs`."""
        with self._lock:
            if self._stopped:
                raise StateError(f"a stopped pool can't begin {len(jobs)} jobs; make a new one")
            wanted = len(jobs) - self._idle
            for _ in range(min(wanted, self.slots - len(self._threads))):
                thread = threading.Thread(
                    target=self._work, name=f"umbel-slot-{len(self._threads)}", daemon=True
                )
                self._threads.append(thread)
                self._idle += 1
                thread.start()
            self._idle -= len(jobs)
            for job in jobs:
                self._jobs.put(job)

    def stop(self, *, timeout_s: float) -> bool:
        """End the threads; those in a task end after it."""
        with self._lock:
            if not self._stopped:
                self._stopped = True
                for _ in self._threads:
                    self._jobs.put(None)
        ends_at = time.monotonic() + timeout_s
        for thread in self._threads:
            thread.join(max(0.0, ends_at - time.monotonic()))
        return not any(thread.is_alive() for thread in self._threads)

    def _work(self) -> None:
        while (job := self._jobs.get()) is not None:
            try:
                job.run()
            except BaseException as exc:  # noqa: BLE001 - no job may cost the pool a slot
                logger.error("a job raised an error that it should have reported: %r", exc)
            with self._lock:
                self._idle += 1
            del job
