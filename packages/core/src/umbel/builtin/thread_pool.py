"""The pool of threads: ``--pool threads``."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Sequence

from umbel.interfaces.pool import Job, Pool


class ThreadPool(Pool):
    """One thread a slot, started as they are first needed."""

    def start(self) -> None:
        """Get ready; threads come with the jobs."""
        self._jobs: queue.SimpleQueue[Job | None] = queue.SimpleQueue()
        self._threads: list[threading.Thread] = []
        self._lock = threading.Lock()
        self._idle = 0

    def submit(self, jobs: Sequence[Job]) -> None:
        """Begin `jobs`."""
        with self._lock:
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
        for _ in self._threads:
            self._jobs.put(None)
        ends_at = time.monotonic() + timeout_s
        for thread in self._threads:
            thread.join(max(0.0, ends_at - time.monotonic()))
        return not any(thread.is_alive() for thread in self._threads)

    def _work(self) -> None:
        while (job := self._jobs.get()) is not None:
            job.run()
            with self._lock:
                self._idle += 1
            del job
