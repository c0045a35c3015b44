"""The contract of a pool (umbel.interfaces.pool) as tests.

    class TestMyPool(PoolSuite):
        @pytest.fixture
        def make_pool(self):
            return MyPool

What it returns is called with a number of slots. The jobs are the kit's own: threads and an event
loop must be able to run them.
"""

from __future__ import annotations

import gc
import threading
import time
import weakref
from functools import partial

import pytest

from umbel.errors import StateError
from umbel.interfaces.pool import Pool, PoolCapability
from umbel_testing.kit import Running
from umbel_testing.pool_kit import InterruptError, KitJob, PoolKit, RaisingJob, interrupts

_THREADS = 4


class PoolSuite(PoolKit):
    """All that is promised of every pool."""

    # -- running ------------------------------------------------------------------------------

    def test_pool_tells_its_slots_and_capabilities(self) -> None:
        pool = self.open(5)

        assert isinstance(pool, Pool)
        assert pool.slots == 5
        assert pool.capabilities <= frozenset(PoolCapability)

    def test_making_a_pool_starts_nothing(self) -> None:
        before = set(threading.enumerate())
        self._make(self.slots)

        assert set(threading.enumerate()) <= before

    def test_pool_works_for_whichever_thread_starts_it(self) -> None:
        pool, jobs = self._make(self.slots), self.jobs(2)
        self.gate.set()

        def use() -> bool:
            pool.start()
            pool.submit(jobs)
            self.eventually(lambda: all(job.ended.is_set() for job in jobs))
            return pool.stop(timeout_s=self.patience_s)

        assert Running(use).result(3 * self.patience_s)

    def test_every_job_runs_once(self) -> None:
        pool = self.open()
        jobs: list[KitJob] = []
        for _ in range(self.many):
            jobs += self.running(pool, self.slots)
            self.finish(jobs)

        assert [job.runs + job.aruns for job in jobs] == [1] * len(jobs)

    def test_plain_job_is_run_where_no_event_loop_runs(self) -> None:
        pool = self.open()
        jobs = self.running(pool, self.slots, coroutines=False)
        self.finish(jobs)

        assert [job.aruns for job in jobs] == [0] * self.slots
        assert not any(job.ran_on_a_loop for job in jobs)

    def test_coroutine_job_is_awaited_or_run_where_no_event_loop_runs(self) -> None:
        pool = self.open()
        jobs = self.running(pool, self.slots, coroutines=True)
        self.finish(jobs)

        assert not any(job.ran_on_a_loop for job in jobs)

    def test_as_many_jobs_run_at_once_as_there_are_slots(self) -> None:
        pool = self.open()
        for coroutines in (False, True, None):
            self.finish(self.running(pool, self.slots, coroutines=coroutines))

    def test_slots_can_be_filled_one_by_one(self) -> None:
        pool = self.open()
        jobs = [job for _ in range(self.slots) for job in self.running(pool, 1)]

        assert all(job.is_running for job in jobs)

    def test_single_slot_runs_one_job_after_another(self) -> None:
        pool = self.open(1)
        for number in range(self.many):
            self.finish(self.running(pool, 1, coroutines=bool(number % 2)))

    def test_submit_waits_for_no_job(self) -> None:
        pool, jobs = self.open(), self.jobs(self.slots)
        submitting = Running(lambda: pool.submit(jobs))

        submitting.result(self.grace_s)
        assert not any(job.ended.is_set() for job in jobs)

    def test_submitting_nothing_does_nothing(self) -> None:
        pool = self.open()
        pool.submit([])

        self.finish(self.running(pool, self.slots))

    def test_job_that_ends_may_submit_the_next(self) -> None:
        pool, left, done = self.open(1), list(range(self.many)), threading.Event()
        self.gate.set()

        def submit_next() -> None:
            if not left:
                done.set()
                return
            is_coroutine = bool(left.pop() % 2)
            pool.submit([KitJob(self.gate, is_coroutine=is_coroutine, on_end=submit_next)])

        submit_next()
        self.eventually(done.is_set)

    def test_several_threads_may_submit(self) -> None:
        pool, most, running = self.open(_THREADS), [0], [0]
        counting = threading.Lock()
        self.gate.set()

        class Counted(KitJob):
            def run(self) -> None:
                self.count(1)
                super().run()

            async def arun(self) -> None:
                self.count(1)
                await super().arun()

            def _end(self) -> None:
                self.count(-1)
                super()._end()

            def count(self, by: int) -> None:
                with counting:
                    running[0] += by
                    most[0] = max(most[0], running[0])

        def feed(is_coroutine: bool) -> list[KitJob]:
            jobs: list[KitJob] = []
            for _ in range(self.many):
                job = Counted(self.gate, is_coroutine=is_coroutine)
                jobs.append(job)
                pool.submit([job])
                self.eventually(job.ended.is_set)
            return jobs

        feeding = [Running(partial(feed, bool(number % 2))) for number in range(_THREADS)]
        jobs = [job for each in feeding for job in each.result(3 * self.patience_s)]
        assert [job.runs + job.aruns for job in jobs] == [1] * (self.many * _THREADS)
        assert most[0] <= _THREADS

    # -- jobs that misbehave ------------------------------------------------------------------

    def test_job_that_raises_costs_no_slot(self) -> None:
        pool = self.open()
        self.gate.set()
        for _ in range(2 * self.slots):
            job = RaisingJob(self.gate)
            pool.submit([job])
            self.eventually(job.ended.is_set)
        self.gate.clear()

        self.running(pool, self.slots)

    def test_coroutine_job_that_raises_costs_no_slot(self) -> None:
        pool = self.open()
        self.gate.set()
        for _ in range(2 * self.slots):
            job = RaisingJob(self.gate, is_coroutine=True)
            pool.submit([job])
            self.eventually(job.ended.is_set)
        self.gate.clear()

        self.running(pool, self.slots)

    def test_job_that_asks_for_the_end_of_the_program_costs_no_slot(self) -> None:
        pool = self.open()
        self.gate.set()
        for is_coroutine in (False, True) * self.slots:
            job = RaisingJob(self.gate, is_coroutine=is_coroutine)
            job.error = SystemExit(3)
            pool.submit([job])
            self.eventually(job.ended.is_set)
        self.gate.clear()

        self.running(pool, self.slots)

    def test_job_that_never_ends_does_not_keep_the_program_alive(self) -> None:
        before = set(threading.enumerate())
        self.running(self.open(), self.slots)

        started = set(threading.enumerate()) - before
        assert all(thread.daemon for thread in started)

    def test_ended_job_is_let_go(self) -> None:
        pool = self.open()
        jobs = self.running(pool, self.slots)
        self.finish(jobs)
        kept = [weakref.ref(job) for job in jobs]
        del jobs

        self.eventually(lambda: gc.collect() >= 0 and not any(ref() for ref in kept))

    # -- interrupting -------------------------------------------------------------------------

    @interrupts
    def test_interrupt_raises_in_the_running_job_alone(self) -> None:
        pool = self.open()
        for number in range(self.slots):
            jobs = self.running(pool, self.slots)
            hit = jobs[number]

            assert pool.interrupt(hit, InterruptError) is True
            self.eventually(hit.ended.is_set)
            assert type(hit.raised) is InterruptError
            self.finish(jobs)
            assert [job for job in jobs if job.raised] == [hit]

    @interrupts
    def test_interrupt_of_a_job_that_has_ended_raises_nothing(self) -> None:
        pool = self.open(1)
        [ended] = self.running(pool, 1)
        self.finish([ended])
        [other] = self.running(pool, 1)

        assert pool.interrupt(ended, InterruptError) is False
        self.finish([other])
        assert (ended.raised, other.raised) == (None, None)

    @interrupts
    def test_interrupt_that_comes_late_does_not_reach_the_next_job(self) -> None:
        pool = self.open(1)
        for number in range(self.many):
            [job] = self.running(pool, 1, coroutines=bool(number % 2))
            late = Running(partial(pool.interrupt, job, InterruptError))
            self.finish([job])
            [after] = self.running(pool, 1, coroutines=bool(number % 2))
            late.result(self.patience_s)
            self.finish([after])
            assert after.raised is None

    @interrupts
    def test_slot_of_an_interrupted_job_is_free_again(self) -> None:
        pool = self.open()
        jobs = self.running(pool, self.slots)
        for job in jobs:
            pool.interrupt(job, InterruptError)
        self.eventually(lambda: all(job.ended.is_set() for job in jobs))

        self.running(pool, self.slots)

    # -- stopping -----------------------------------------------------------------------------

    def test_stop_of_an_idle_pool_is_done_at_once(self) -> None:
        fresh, used = self.open(), self.open()
        self.finish(self.running(used, self.slots))
        for pool in (fresh, used):
            stopping = Running(partial(pool.stop, timeout_s=60.0))

            assert stopping.result(self.grace_s) is True

    def test_stop_waits_for_what_runs(self) -> None:
        pool = self.open()
        jobs = self.running(pool, self.slots, coroutines=False)
        stopping = Running(lambda: pool.stop(timeout_s=60.0))

        assert stopping.goes_on()
        self.gate.set()
        assert stopping.result(self.patience_s) is True
        assert all(job.ended.is_set() for job in jobs)

    def test_stop_waits_for_or_cancels_coroutines(self) -> None:
        pool = self.open()
        jobs = self.running(pool, self.slots, coroutines=True)
        stopping = Running(lambda: pool.stop(timeout_s=60.0))
        stopping.goes_on()
        self.gate.set()

        assert stopping.result(self.patience_s) is True
        assert all(job.ended.is_set() for job in jobs)

    def test_stop_that_may_not_wait_says_that_something_runs(self) -> None:
        pool = self.open()
        [job] = self.running(pool, 1, coroutines=False)
        began_at = time.monotonic()

        assert pool.stop(timeout_s=0.05) is False
        assert time.monotonic() - began_at < 0.05 + self.grace_s
        assert job.is_running

    def test_stop_can_be_repeated(self) -> None:
        pool = self.open()
        self.running(pool, 1, coroutines=False)
        pool.stop(timeout_s=0.01)
        self.gate.set()

        self.eventually(lambda: pool.stop(timeout_s=0.01))
        assert pool.stop(timeout_s=0.01) is True

    def test_stopped_pool_refuses_jobs(self) -> None:
        for is_coroutine in (False, True):
            pool, job = self.open(), KitJob(self.gate, is_coroutine=is_coroutine)
            pool.stop(timeout_s=self.patience_s)
            with pytest.raises(StateError):
                pool.submit([job])
            assert not job.began.is_set()
