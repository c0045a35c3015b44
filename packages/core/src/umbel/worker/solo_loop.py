"""The event loop of a solo lane: where its ``async def`` tasks run, one at a time."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING

from umbel.errors import SoftTimeLimitExceeded
from umbel.worker import loops
from umbel.worker.execute import run_async

if TYPE_CHECKING:
    from umbel.outcomes import Outcome
    from umbel.worker.jobs import Job
    from umbel.worker.limits import Interruptible


class SoloLoop:
    """Made with the first task that needs it. Belongs to the lane's thread, but for `interrupt`."""

    def __init__(self, now: Callable[[], float]) -> None:
        """`now` returns unix seconds."""
        self._now = now
        self.loop: asyncio.AbstractEventLoop | None = None
        self._awaited: tuple[asyncio.Task[object], Interruptible] | None = None

    @property
    def task(self) -> asyncio.Task[object] | None:
        """The one that is awaited now. Takes no lock."""
        awaited = self._awaited
        return None if awaited is None else awaited[0]

    def run(self, job: Job) -> Outcome:
        """Run an ``async def`` task to its end."""
        if self.loop is None or self.loop.is_closed():
            self.loop = asyncio.new_event_loop()
            asyncio.set_event_loop(self.loop)
        loop = self.loop
        timer: asyncio.TimerHandle | None = None

        def running(handle: Interruptible) -> None:
            nonlocal timer
            task = asyncio.current_task()
            assert task is not None  # noqa: S101 - called from within the task
            self._awaited = (task, handle)
            if job.soft_limit_s is not None:
                timer = loop.call_later(
                    job.soft_limit_s, handle.interrupt, task, SoftTimeLimitExceeded
                )

        try:
            return loops.run_to_end(loop, run_async(job, self._now, running))
        finally:
            self._awaited = None
            if timer is not None:
                timer.cancel()

    def interrupt(self, error: type[BaseException]) -> bool:
        """Raise `error` in the task that is awaited; False: none is. From any thread."""
        awaited, loop = self._awaited, self.loop
        if awaited is None or loop is None or loop.is_closed():
            return False
        task, handle = awaited
        loop.call_soon_threadsafe(handle.interrupt, task, error)
        return True

    def close(self) -> None:
        """Close it, and end what tasks left on it."""
        if self.loop is not None:
            loops.close(self.loop)
