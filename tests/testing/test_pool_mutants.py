"""Each test of `PoolSuite` catches a fault planted in a sound pool."""

from __future__ import annotations

import asyncio
import threading
import time

import pytest

from umbel.builtin.asyncio_pool import AsyncioPool
from umbel.builtin.thread_pool import ThreadPool
from umbel.errors import StateError
from umbel.interfaces.pool import PoolCapability
from umbel.worker.limits import DeadlineWatch, ThreadGuard
from umbel_testing import PoolSuite
from umbel_testing.mutants import Mutants

#: Longer than any test waits; threads that wait for so long are left to it.
LONG_S = 30.0

WATCH = DeadlineWatch()


class Wrapped:
    """A job within a job, for pools that do something around each."""

    is_coroutine = False

    def __init__(self, pool, job):
        self.pool, self.job = pool, job

    def run(self):
        self.pool.around(self.job)


class WrappingPool(ThreadPool):
    """A sound pool of threads; its mutants do otherwise around a job."""

    def submit(self, jobs):
        super().submit([Wrapped(self, job) for job in jobs])

    def around(self, job):
        job.run()


class InterruptiblePool(WrappingPool):
    """A sound pool of threads that can interrupt."""

    capabilities = frozenset({PoolCapability.INTERRUPT})

    def start(self):
        super().start()
        self.guards = {}

    def around(self, job):
        guard = self.guards[job] = ThreadGuard(WATCH)
        guard.begin(None)
        try:
            job.run()
        finally:
            guard.end()
            self.guards.pop(job, None)

    def interrupt(self, job, error):
        guard = self.guards.get(job)
        return guard is not None and guard.interrupt(error)


class TestInterruptiblePool(PoolSuite):
    @pytest.fixture
    def make_pool(self):
        return InterruptiblePool


def make_pool(kind, clock):
    return kind


class Suite(PoolSuite):
    many = 8


MUTANTS = Mutants(Suite, PoolSuite, make_pool)


def stuck():
    threading.Event().wait(LONG_S)


# -- running --------------------------------------------------------------------------------------


@MUTANTS.caught_by("test_pool_tells_its_slots_and_capabilities")
class MiscountsItsSlots(ThreadPool):
    def __init__(self, slots):
        super().__init__(slots + 1)


@MUTANTS.caught_by("test_making_a_pool_starts_nothing")
class StartsTooEarly(ThreadPool):
    def __init__(self, slots):
        super().__init__(slots)
        threading.Thread(target=time.sleep, args=(0.3,), daemon=True).start()


@MUTANTS.caught_by("test_pool_works_for_whichever_thread_starts_it")
class BelongsToItsMaker(ThreadPool):
    def __init__(self, slots):
        super().__init__(slots)
        self.maker = threading.get_ident()

    def start(self):
        if threading.get_ident() == self.maker:
            super().start()


@MUTANTS.caught_by("test_every_job_runs_once")
class RunsSomeTwice(WrappingPool):
    count = 0

    def around(self, job):
        job.run()
        self.count += 1
        if self.count == 20 and self.slots == 3:
            job.run()


@MUTANTS.caught_by("test_plain_job_is_run_where_no_event_loop_runs")
class RunsPlainJobsOnLoops(WrappingPool):
    def around(self, job):
        async def run():
            job.run()

        job.run() if job.is_coroutine else asyncio.run(run())


@MUTANTS.caught_by("test_coroutine_job_is_awaited_or_run_where_no_event_loop_runs")
class RunsCoroutineJobsOnLoops(WrappingPool):
    def around(self, job):
        async def run():
            job.run()

        asyncio.run(run()) if job.is_coroutine else job.run()


@MUTANTS.caught_by(
    "test_as_many_jobs_run_at_once_as_there_are_slots",
    "test_coroutine_job_is_awaited_or_run_where_no_event_loop_runs",
    "test_stop_waits_for_or_cancels_coroutines",
)
class RunsOneCoroutineAtATime(WrappingPool):
    def start(self):
        super().start()
        self.one = threading.Lock()

    def around(self, job):
        if job.is_coroutine:
            with self.one:
                job.run()
        else:
            job.run()


@MUTANTS.caught_by("test_slots_can_be_filled_one_by_one")
class StartsThreadsWithTheFirstBatchOnly(ThreadPool):
    def submit(self, jobs):
        if self._threads and len(jobs) == 1 and self._idle < 1:
            with self._lock:
                self._idle -= 1
            self._jobs.put(jobs[0])
        else:
            super().submit(jobs)


@MUTANTS.caught_by(
    "test_job_that_ends_may_submit_the_next", "test_single_slot_runs_one_job_after_another"
)
class WearsOut(WrappingPool):
    count = 0

    def around(self, job):
        self.count += 1
        if self.slots == 1 and self.count > 5:
            stuck()
        job.run()


@MUTANTS.caught_by("test_submit_waits_for_no_job")
class WaitsInSubmit(ThreadPool):
    def submit(self, jobs):
        super().submit(jobs)
        if threading.current_thread() is not threading.main_thread() and len(jobs) > 2:
            time.sleep(1.0)


@MUTANTS.caught_by("test_submitting_nothing_does_nothing")
class RefusesNothing(ThreadPool):
    def submit(self, jobs):
        if not jobs:
            raise ValueError("no jobs")
        super().submit(jobs)


@MUTANTS.caught_by("test_job_that_ends_may_submit_the_next")
class HoldsALockAroundJobs(WrappingPool):
    def start(self):
        super().start()
        self.within = set()

    def around(self, job):
        self.within.add(threading.get_ident())
        job.run()
        self.within.discard(threading.get_ident())

    def submit(self, jobs):
        if threading.get_ident() not in self.within:
            super().submit(jobs)


@MUTANTS.caught_by("test_several_threads_may_submit")
class ListensToOneThread(ThreadPool):
    first = None

    def submit(self, jobs):
        ident = threading.get_ident()
        self.first = self.first or ident
        if ident == self.first or threading.current_thread() in self._threads:
            super().submit(jobs)


# -- jobs that misbehave --------------------------------------------------------------------------


@MUTANTS.caught_by("test_job_that_raises_costs_no_slot")
class DiesOfErrors(WrappingPool):
    def around(self, job):
        try:
            job.run()
        except Exception:
            if not job.is_coroutine:
                stuck()


@MUTANTS.caught_by("test_coroutine_job_that_raises_costs_no_slot")
class DiesOfErrorsInCoroutines(WrappingPool):
    def around(self, job):
        try:
            job.run()
        except Exception:
            if job.is_coroutine:
                stuck()


@MUTANTS.caught_by("test_job_that_asks_for_the_end_of_the_program_costs_no_slot")
class DiesOfSystemExit(WrappingPool):
    def around(self, job):
        try:
            job.run()
        except SystemExit:
            stuck()


@MUTANTS.caught_by("test_job_that_never_ends_does_not_keep_the_program_alive")
class KeepsTheProgramAlive(ThreadPool):
    def start(self):
        super().start()
        self.over = threading.Event()
        threading.Thread(target=self.over.wait, args=(LONG_S,), daemon=False).start()

    def stop(self, *, timeout_s):
        self.over.set()
        return super().stop(timeout_s=timeout_s)


@MUTANTS.caught_by("test_ended_job_is_let_go")
class KeepsEndedJobs(ThreadPool):
    def submit(self, jobs):
        super().submit(jobs)
        self.kept = [*getattr(self, "kept", ()), *jobs]


# -- interrupting ---------------------------------------------------------------------------------


@MUTANTS.caught_by(
    "test_interrupt_of_a_job_that_has_ended_raises_nothing",
    "test_interrupt_raises_in_the_running_job_alone",
    "test_interrupt_that_comes_late_does_not_reach_the_next_job",
    "test_slot_of_an_interrupted_job_is_free_again",
)
class ClaimsToInterrupt(ThreadPool):
    def interrupt(self, job, error):
        return True


@MUTANTS.caught_by("test_interrupt_raises_in_the_running_job_alone")
class InterruptsAll(InterruptiblePool):
    def interrupt(self, job, error):
        hit = [super(InterruptsAll, self).interrupt(one, error) for one in [*self.guards]]
        return all(hit)


@MUTANTS.caught_by("test_interrupt_of_a_job_that_has_ended_raises_nothing")
class SaysThatItInterrupted(InterruptiblePool):
    def interrupt(self, job, error):
        return super().interrupt(job, error) or True


@MUTANTS.caught_by("test_interrupt_that_comes_late_does_not_reach_the_next_job")
class InterruptsLate(InterruptiblePool):
    def interrupt(self, job, error):
        if threading.current_thread() is threading.main_thread():
            return super().interrupt(job, error)
        guard = self.guards.get(job)
        ends_at = time.monotonic() + 1.0
        while guard is not None and time.monotonic() < ends_at:
            for one, other in [*self.guards.items()]:
                if one is not job and one.began.is_set() and other.interrupt(error):
                    return True
        return False


@MUTANTS.caught_by("test_slot_of_an_interrupted_job_is_free_again")
class LosesInterruptedSlots(InterruptiblePool):
    def around(self, job):
        super().around(job)
        if job.raised and self.guards:
            stuck()


# -- stopping -------------------------------------------------------------------------------------


@MUTANTS.caught_by("test_stop_of_an_idle_pool_is_done_at_once")
class AlwaysTakesItsTime(ThreadPool):
    def stop(self, *, timeout_s):
        if timeout_s == 60 and not self._threads:
            time.sleep(1.0)
        return super().stop(timeout_s=timeout_s)


@MUTANTS.caught_by("test_stop_waits_for_what_runs")
class WaitsForNothing(WrappingPool):
    def start(self):
        super().start()
        self.plain = set()

    def around(self, job):
        if not job.is_coroutine:
            self.plain.add(job)
        job.run()
        self.plain.discard(job)

    def stop(self, *, timeout_s):
        waits = timeout_s != 60 or not self.plain
        return super().stop(timeout_s=timeout_s if waits else 0.0)


@MUTANTS.caught_by("test_stop_waits_for_or_cancels_coroutines")
class LeavesCoroutinesBehind(AsyncioPool):
    def stop(self, *, timeout_s):
        if timeout_s == 60 and self._tasks:
            return True
        return super().stop(timeout_s=timeout_s)


@MUTANTS.caught_by("test_stop_that_may_not_wait_says_that_something_runs")
class WaitsTooLong(ThreadPool):
    def stop(self, *, timeout_s):
        return super().stop(timeout_s=timeout_s + (1.0 if timeout_s == 0.05 else 0.0))


@MUTANTS.caught_by("test_stop_that_may_not_wait_says_that_something_runs")
class SaysThatAllIsOver(ThreadPool):
    def stop(self, *, timeout_s):
        return super().stop(timeout_s=timeout_s) or timeout_s == 0.05


@MUTANTS.caught_by("test_stop_can_be_repeated")
class StopsOnce(ThreadPool):
    def stop(self, *, timeout_s):
        if self._stopped and timeout_s == 0.01:
            raise RuntimeError("stopped already")
        return super().stop(timeout_s=timeout_s)


@MUTANTS.caught_by("test_stopped_pool_refuses_jobs")
class DropsJobsOnceStopped(ThreadPool):
    def submit(self, jobs):
        try:
            super().submit(jobs)
        except StateError:
            return


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.__name__)
def test_fault_is_caught(mutant):
    MUTANTS.check(mutant)


def test_every_test_catches_a_fault():
    assert MUTANTS.uncaught() == set()
