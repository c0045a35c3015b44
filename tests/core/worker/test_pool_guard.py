"""A pool that says that it can interrupt is the one that raises soft limits in its jobs."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

from project import wait_for

from umbel import Umbel
from umbel.builtin.thread_pool import ThreadPool
from umbel.errors import SoftTimeLimitExceeded
from umbel.interfaces.pool import PoolCapability
from umbel.worker.consumer import Consumer
from umbel.worker.limits import raise_in_thread
from umbel.worker.pooled import PooledLane


class InterruptingPool(ThreadPool):
    """Raises exceptions in its jobs, and remembers which and in whom."""

    capabilities = frozenset({PoolCapability.INTERRUPT})

    def start(self):
        super().start()
        self.interrupted = []

    def interrupt(self, job, error):
        self.interrupted.append((job.job.request.task, error))
        return raise_in_thread(job.seen().thread, error)


def test_soft_limit_is_raised_by_the_pool(
    app: Umbel, consumer: Consumer, start: Callable[..., Any]
) -> None:
    @app.task(name="spins", soft_time_limit=0.05)
    def spins() -> str:
        try:
            while True:
                threading.Event().wait(0.005)
        except SoftTimeLimitExceeded:
            return "over"

    pool = InterruptingPool(2)
    result = app.send_task("spins")
    start(PooledLane(consumer, pool))

    assert result.get(timeout=30) == "over"
    assert pool.interrupted == [("spins", SoftTimeLimitExceeded)]


def test_task_that_has_ended_is_not_interrupted(
    app: Umbel, consumer: Consumer, start: Callable[..., Any]
) -> None:
    @app.task(name="quick", soft_time_limit=30)
    def quick() -> str:
        return "done"

    pool = InterruptingPool(2)
    result = app.send_task("quick")
    lane = PooledLane(consumer, pool)
    start(lane)
    assert result.get(timeout=30) == "done"
    wait_for(lambda: not lane._running)

    lane.interrupt(SoftTimeLimitExceeded)

    assert pool.interrupted == []
