"""A job in a slot of a pool: runs the task there, and tells the lane what came of it."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any

from umbel.errors import SoftTimeLimitExceeded
from umbel.interfaces.pool import PoolCapability
from umbel.worker import loops
from umbel.worker.dumps import Run
from umbel.worker.execute import run_async, run_sync
from umbel.worker.limits import Interruptible, PoolGuard, ThreadGuard

if TYPE_CHECKING:
    from umbel.worker.jobs import Job
    from umbel.worker.pooled import PooledLane


class PooledJob:
    """A job in a slot of the pool."""

    def __init__(self, lane: PooledLane, job: Job, slot: int):
        self._lane, self.job, self.slot = lane, job, slot
        self.is_coroutine = job.runner.is_coroutine
        self.begun_at: float | None = None
        self.marked = False
        if PoolCapability.INTERRUPT in lane.pool.capabilities:
            self._guard: ThreadGuard = PoolGuard(lane.watch, partial(lane.pool.interrupt, self))
        else:
            self._guard = ThreadGuard(lane.watch)
        self._handle: Interruptible | None = None
        self._loop: Any = None
        self._task: Any = None

    def run(self) -> None:
        """Run the task on this thread; an ``async def`` task on a loop of its own."""
        try:
            if not self._lane.begin(self):
                return
            if self.is_coroutine:
                loops.run_to_end(self._lane.loop_of_thread(), self._run_coroutine())
            else:
                self._lane.finished(self, run_sync(self.job, self._guard, self._lane.now))
        except BaseException as exc:  # noqa: BLE001 - no error may cost the pool a slot
            self._lane.broke(self, exc)

    def arun(self) -> Coroutine[Any, Any, None]:
        """Run the task on the running loop."""
        return self._arun()

    async def _arun(self) -> None:
        try:
            if self.job.early_ack:  # asks the broker: not on the loop that others run on
                may_run = await asyncio.to_thread(self._lane.begin, self)
            else:
                may_run = self._lane.begin(self)
            if may_run:
                await self._run_coroutine()
        except BaseException as exc:  # noqa: BLE001 - as above
            self._lane.broke(self, exc)

    async def _run_coroutine(self) -> None:
        self._loop, self._task = asyncio.get_running_loop(), asyncio.current_task()
        limit, timer = self.job.soft_limit_s, None

        def running(handle: Interruptible) -> None:
            nonlocal timer
            self._handle = handle
            if limit is not None:
                timer = self._loop.call_later(
                    limit, handle.interrupt, self._task, SoftTimeLimitExceeded
                )

        outcome = await run_async(self.job, self._lane.now, running)
        self._handle = None
        if timer is not None:
            timer.cancel()
        self._lane.finished(self, outcome)

    def seen(self) -> Run:
        """Return what is known of the run, for people."""
        return Run(
            slot=self.slot,
            label=self.job.label,
            begun_at=self.begun_at,
            thread=self._guard.thread,
            task=self._task,
            loop=self._loop,
        )

    def interrupt(self, error: type[BaseException]) -> None:
        """Raise `error` in the task, if it runs."""
        handle = self._handle
        if handle is None:
            self._guard.interrupt(error)
            return
        with suppress(RuntimeError):  # its loop was closed: it runs no more
            self._loop.call_soon_threadsafe(handle.interrupt, self._task, error)
