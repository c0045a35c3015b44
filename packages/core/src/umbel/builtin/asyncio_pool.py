"""The pool of coroutines on one event loop: ``--pool asyncio``. A ``def`` task gets a thread."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Sequence
from contextlib import suppress

from umbel.builtin.thread_pool import ThreadPool
from umbel.errors import StateError
from umbel.interfaces.pool import Job, Pool

logger = logging.getLogger("umbel")

#: Seconds that cancelled coroutines get to end.
_CANCEL_S = 0.2


class AsyncioPool(Pool):
    """One event loop on a thread of its own; a slot is a coroutine in flight, or a thread."""

    def start(self) -> None:
        """Start the loop's thread."""
        self._loop = asyncio.new_event_loop()
        self._tasks: set[asyncio.Task[None]] = set()
        self._stopping = False
        # Not the loop's executor: that is for what coroutines put on threads, and its threads
        # would hold up the end of the program.
        self._threads = ThreadPool(self.slots)
        self._threads.start()
        self._thread = threading.Thread(target=self._run_loop, name="umbel-loop", daemon=True)
        self._thread.start()

    def _run_loop(self) -> None:
        asyncio.set_event_loop(self._loop)
        while not (self._stopping or self._loop.is_closed()):
            try:
                self._loop.run_forever()
            except BaseException as exc:  # noqa: BLE001 - SystemExit in the background of a task
                logger.error("something in the background of a task ended its loop: %r", exc)
        try:
            left = asyncio.all_tasks(self._loop)
            for task in left:
                task.cancel()
            if left:
                self._loop.run_until_complete(asyncio.wait(left, timeout=_CANCEL_S))
            self._loop.run_until_complete(self._loop.shutdown_asyncgens())
        except BaseException as exc:  # noqa: BLE001 - tasks of users do as they like
            logger.debug("what tasks left on the event loop did not end well: %r", exc)
        finally:
            self._loop.close()

    def submit(self, jobs: Sequence[Job]) -> None:
        """Begin `jobs`: coroutines on the loop, all in one wake-up, the others on threads."""
        if self._stopping:
            raise StateError(f"a stopped pool can't begin {len(jobs)} jobs; make a new one")
        coroutines = [job for job in jobs if job.is_coroutine]
        if coroutines:
            self._loop.call_soon_threadsafe(self._begin, coroutines)
        if len(coroutines) < len(jobs):
            self._threads.submit([job for job in jobs if not job.is_coroutine])

    def _begin(self, jobs: Sequence[Job]) -> None:
        for job in jobs:
            task = self._loop.create_task(job.arun())
            # The loop only keeps weak references to its tasks.
            self._tasks.add(task)
            task.add_done_callback(self._end)

    def _end(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        error = None if task.cancelled() else task.exception()
        if error is not None:
            logger.error("a job raised an error that it should have reported: %r", error)

    def stop(self, *, timeout_s: float) -> bool:
        """Stop the loop; what still runs on it is cancelled."""
        ends_at = time.monotonic() + timeout_s
        self._stopping = True
        with suppress(RuntimeError):  # it is closed
            self._loop.call_soon_threadsafe(self._loop.stop)
        threads_ended = self._threads.stop(timeout_s=timeout_s)
        self._thread.join(max(0.0, ends_at - time.monotonic()))
        return threads_ended and not self._thread.is_alive()
