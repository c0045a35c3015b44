"""What `PoolSuite` runs: jobs that wait for a gate and write down what happens to them."""

from __future__ import annotations

import asyncio
import functools
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import ClassVar, TypeVar

import pytest

from umbel.interfaces.pool import Pool, PoolCapability, PoolFactory
from umbel_testing.kit import Suite, missing_fixture

_STEP_S = 0.002

K = TypeVar("K", bound="PoolKit")


class InterruptError(Exception):
    """What the kit raises in jobs."""


class KitJob:
    """A job that runs until its gate opens.

    Args:
        gate: What it waits for.
        is_coroutine: Whether a pool with an event loop awaits it.
        on_end: Called as its last act, where a real job reports its outcome.
    """

    def __init__(
        self,
        gate: threading.Event,
        *,
        is_coroutine: bool = False,
        on_end: Callable[[], object] = lambda: None,
    ) -> None:
        self.is_coroutine = is_coroutine
        self._gate, self._on_end = gate, on_end
        self.began, self.ended = threading.Event(), threading.Event()
        #: How often it was run, by `run` and by `arun`.
        self.runs = self.aruns = 0
        #: Whether an event loop ran in the thread that called `run`.
        self.ran_on_a_loop = False
        #: What was raised inside it.
        self.raised: BaseException | None = None

    def run(self) -> None:
        """Wait for the gate, in steps: whatever is raised from outside comes between two."""
        try:
            self.runs += 1
            self.ran_on_a_loop = _on_a_loop()
            self.began.set()
            while not self._gate.is_set():
                time.sleep(_STEP_S)
        except Exception as error:  # noqa: BLE001  what it is for
            self.raised = error
        try:
            self._end()
        except InterruptError as error:  # it was on its way as the gate opened
            self.raised = error
            self._end()

    async def arun(self) -> None:
        """Do the same on a loop."""
        try:
            self.aruns += 1
            self.began.set()
            while not self._gate.is_set():  # noqa: ASYNC110  the gate is opened by a thread
                await asyncio.sleep(_STEP_S)
        except Exception as error:  # noqa: BLE001  what it is for
            self.raised = error
        finally:
            self._end()

    @property
    def is_running(self) -> bool:
        """Whether its code runs now."""
        return self.began.is_set() and not self.ended.is_set()

    def _end(self) -> None:
        self.ended.set()
        self._on_end()


class RaisingJob(KitJob):
    """A job that raises instead of reporting."""

    error: BaseException = RuntimeError("a job of the kit that raises")

    def run(self) -> None:
        """Raise."""
        super().run()
        raise self.error

    async def arun(self) -> None:
        """Raise."""
        await super().arun()
        raise self.error


class PoolKit(Suite):
    """Base of `PoolSuite`: pools and jobs that are over when a test is."""

    #: How many slots the pools of most tests have; 2 or more.
    slots: ClassVar[int] = 3
    #: How often a test repeats what may go wrong only now and then.
    many: ClassVar[int] = 30

    _make: PoolFactory

    @pytest.fixture
    def make_pool(self) -> PoolFactory:
        """Return what makes a pool of so many slots, not started. To be overridden."""
        missing_fixture(self, "make_pool", "a function that takes slots and makes a pool")

    @pytest.fixture(autouse=True)
    def _with_pool(self, make_pool: PoolFactory) -> Iterator[None]:
        self.begin(make_pool)
        yield
        self.end()

    def begin(self, make_pool: PoolFactory) -> None:
        """Set up a test; the fixture does it."""
        self._make = make_pool
        self._pools: list[Pool] = []
        #: Jobs wait for it where a test says nothing else.
        self.gate = threading.Event()

    def end(self) -> None:
        """Let all jobs end, and stop all pools of a test."""
        self.gate.set()
        for pool in self._pools:
            assert pool.stop(timeout_s=self.patience_s)

    def open(self, slots: int | None = None) -> Pool:
        """Return a new pool, started."""
        pool = self._make(slots or self.slots)
        pool.start()
        self._pools.append(pool)
        return pool

    def jobs(self, count: int, *, coroutines: bool | None = None) -> list[KitJob]:
        """Return jobs that wait for the gate; plain ones and coroutines in turn, or all alike."""
        kinds = [bool(number % 2) if coroutines is None else coroutines for number in range(count)]
        return [KitJob(self.gate, is_coroutine=kind) for kind in kinds]

    def running(self, pool: Pool, count: int, *, coroutines: bool | None = None) -> list[KitJob]:
        """Submit `count` jobs; returns them when all run at once."""
        jobs = self.jobs(count, coroutines=coroutines)
        pool.submit(jobs)
        self.eventually(lambda: all(job.is_running for job in jobs))
        return jobs

    def finish(self, jobs: Sequence[KitJob]) -> None:
        """Open the gate, wait until all of `jobs` have ended, and close it."""
        self.gate.set()
        self.eventually(lambda: all(job.ended.is_set() for job in jobs))
        self.gate.clear()

    def assert_refused(self) -> None:
        """Check that an interruption, not being declared, raises nothing and says so."""
        pool = self.open()
        [job] = self.running(pool, 1)

        assert pool.interrupt(job, InterruptError) is False
        self.finish([job])
        assert job.raised is None


def interrupts(test: Callable[[K], None]) -> Callable[[K], None]:
    """Mark a test of INTERRUPT: where that isn't declared, it checks the refusal instead."""

    @functools.wraps(test)
    def run(self: K) -> None:
        if PoolCapability.INTERRUPT in self._make(1).capabilities:
            test(self)
        else:
            self.assert_refused()

    return run


def _on_a_loop() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True
