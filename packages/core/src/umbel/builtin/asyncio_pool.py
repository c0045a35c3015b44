"""The pool of coroutines on one event loop: ``--pool asyncio``. A ``def`` task gets a thread."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from umbel.interfaces.pool import Job, Pool

#: Threads for ``def`` tasks at most: they are the exception in this pool.
_MOST_THREADS = 32


class AsyncioPool(Pool):
    """One event loop on a thread of its own; a slot is a coroutine in flight."""

    def start(self) -> None:
        """Start the loop's thread."""
        self._loop = asyncio.new_event_loop()
        self._loop.set_default_executor(
            ThreadPoolExecutor(min(self.slots, _MOST_THREADS), thread_name_prefix="umbel-def")
        )
        self._tasks: set[asyncio.Task[None]] = set()
        self._thread = threading.Thread(target=self._run_loop, name="umbel-loop", daemon=True)
        self._thread.start()

    def _run_loop(self) -> None:
        asyncio.set_event_loop(self._loop)
        try:
            self._loop.run_forever()
        finally:
            self._loop.run_until_complete(self._loop.shutdown_asyncgens())
            self._loop.close()

    def submit(self, jobs: Sequence[Job]) -> None:
        """Begin `jobs` on the loop, all in one wake-up."""
        self._loop.call_soon_threadsafe(self._begin, jobs)

    def _begin(self, jobs: Sequence[Job]) -> None:
        for job in jobs:
            if job.is_coroutine:
                task = self._loop.create_task(job.arun())
                # The loop only keeps weak references to its tasks.
                self._tasks.add(task)
                task.add_done_callback(self._tasks.discard)
            else:
                self._loop.run_in_executor(None, job.run)

    def stop(self, *, timeout_s: float) -> bool:
        """Stop the loop; what still runs on it is cancelled."""
        if not self._thread.is_alive():
            return True
        self._loop.call_soon_threadsafe(self._cancel_all)
        self._thread.join(timeout_s)
        return not self._thread.is_alive()

    def _cancel_all(self) -> None:
        for task in self._tasks:
            task.cancel()
        self._loop.call_soon(self._loop.stop)
