"""The pools of core by themselves: jobs that report their own outcome, in a number of slots."""

from __future__ import annotations

import asyncio
import sys
import threading
import time
from collections.abc import Callable, Iterator

import pytest
from project import wait_for

from umbel.builtin.asyncio_pool import AsyncioPool
from umbel.builtin.thread_pool import ThreadPool
from umbel.interfaces.pool import Pool

SLOTS = 3


class Plain:
    """A job that waits for the gate."""

    is_coroutine = False

    def __init__(self, gate: threading.Event):
        self.gate, self.began, self.ended = gate, threading.Event(), threading.Event()

    def run(self) -> None:
        self.began.set()
        self.gate.wait(30)
        self.ended.set()

    async def arun(self) -> None:
        raise NotImplementedError


class Coroutine(Plain):
    """The same on a loop."""

    is_coroutine = True

    def run(self) -> None:
        asyncio.run(self.arun())

    async def arun(self) -> None:
        self.began.set()
        try:
            while not self.gate.is_set():
                await asyncio.sleep(0.005)
        finally:
            self.ended.set()


@pytest.fixture
def gate() -> Iterator[threading.Event]:
    made = threading.Event()
    yield made
    made.set()


@pytest.fixture(params=[ThreadPool, AsyncioPool])
def pool(request: pytest.FixtureRequest, gate: threading.Event) -> Iterator[Pool]:
    made: Pool = request.param(SLOTS)
    made.start()
    yield made
    gate.set()
    assert made.stop(timeout_s=20)


@pytest.mark.parametrize("kind", [Plain, Coroutine])
def test_all_slots_run_at_once(
    pool: Pool, gate: threading.Event, kind: Callable[..., Plain]
) -> None:
    jobs = [kind(gate) for _ in range(SLOTS)]
    pool.submit(jobs[:1])
    pool.submit(jobs[1:])

    assert all(job.began.wait(30) for job in jobs)
    gate.set()
    assert all(job.ended.wait(30) for job in jobs)


def test_both_kinds_run_side_by_side(pool: Pool, gate: threading.Event) -> None:
    jobs = [Plain(gate), Coroutine(gate), Plain(gate)]
    pool.submit(jobs)

    assert all(job.began.wait(30) for job in jobs)


def test_slots_are_used_again(pool: Pool, gate: threading.Event) -> None:
    gate.set()
    for _ in range(50):
        jobs = [Plain(gate), Coroutine(gate), Plain(gate)]
        pool.submit(jobs)
        assert all(job.ended.wait(30) for job in jobs)


def test_it_starts_no_more_threads_than_it_needs(pool: Pool, gate: threading.Event) -> None:
    before = threading.active_count()
    gate.set()
    for _ in range(20):
        job = Plain(gate)
        pool.submit([job])
        assert job.ended.wait(30)

    assert threading.active_count() <= before + SLOTS


@pytest.mark.parametrize("kind", [ThreadPool, AsyncioPool])
def test_a_stop_that_cannot_wait_says_so_in_time(
    gate: threading.Event, kind: Callable[..., Pool]
) -> None:
    pool, job = kind(1), Plain(gate)
    pool.start()
    pool.submit([job])
    assert job.began.wait(30)
    began = time.monotonic()

    assert not pool.stop(timeout_s=0.05)

    assert time.monotonic() - began < 10  # the job would wait for 30
    gate.set()
    wait_for(lambda: pool.stop(timeout_s=0.05))


def test_a_stop_cancels_what_still_runs_on_the_loop(gate: threading.Event) -> None:
    pool, job = AsyncioPool(1), Coroutine(gate)
    pool.start()
    pool.submit([job])
    assert job.began.wait(30)

    assert pool.stop(timeout_s=20)
    assert job.ended.is_set()


def test_a_stuck_job_does_not_hold_up_the_end_of_the_program(gate: threading.Event) -> None:
    pool, job = AsyncioPool(1), Plain(gate)
    before = set(threading.enumerate())
    pool.start()
    pool.submit([job])
    assert job.began.wait(30)

    assert all(thread.daemon for thread in set(threading.enumerate()) - before)
    gate.set()
    assert pool.stop(timeout_s=20)


def test_the_loop_outlasts_whatever_stops_it(pool: Pool, gate: threading.Event) -> None:
    class Stops(Coroutine):
        async def arun(self) -> None:
            asyncio.get_running_loop().stop()
            self.ended.set()

    class Leaves(Coroutine):
        async def arun(self) -> None:
            asyncio.get_running_loop().call_soon(sys.exit, 3)
            self.ended.set()

    gate.set()
    if isinstance(pool, AsyncioPool):
        for kind in (Stops, Leaves):
            job = kind(gate)
            pool.submit([job])
            assert job.ended.wait(30)
    after = Coroutine(gate)
    pool.submit([after])

    assert after.ended.wait(30)
