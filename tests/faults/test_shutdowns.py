"""Workers told to stop in the middle of anything: exit code 0, nothing lost, nothing run twice."""

from __future__ import annotations

import random
import sqlite3
import threading
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest
from project import Project, WorkerProcess, wait_for
from stores import every_store

pytestmark = pytest.mark.faults

#: Notes, beside its beginning, whether a run is a retry.
EXTRA = """
from umbel import current_request


@app.task
def count(key, seconds):
    request = current_request()
    note("again" if request.retries else "first", key)
    note("begin", key)
    time.sleep(seconds)
    note("end", key)
    return key
"""


@pytest.fixture
def project(tmp_path: Path, store: Mapping[str, str]) -> Iterator[Project]:
    made = Project(tmp_path / "project", extra=EXTRA, **store)
    yield made
    made.close()


class Load:
    """Sends tasks at a steady rate, from a thread, until told to stop."""

    def __init__(self, project: Project, name: str, every_s: float, lengths_s: tuple[float, float]):
        self.results: list[object] = []
        self._project, self._name, self._every_s = project, name, every_s
        self._lengths_s, self._chance = lengths_s, random.Random(5)
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._send, daemon=True)
        self._thread.start()

    def _send(self) -> None:
        while not self._stopped.wait(self._every_s):
            length = round(self._chance.uniform(*self._lengths_s), 4)
            key = f"k{len(self.results)}"
            self.results.append(self._project.app.send_task(self._name, (key, length)))

    def stop(self) -> None:
        self._stopped.set()
        self._thread.join()


@contextmanager
def under(load: Load) -> Iterator[Load]:
    try:
        yield load
    finally:
        load.stop()


def assert_each_ran_once(project: Project, load: Load, workers: list[WorkerProcess]) -> None:
    keys = [f"k{i}" for i in range(len(load.results))]
    assert [each.get(timeout=60) for each in load.results] == keys
    assert project.ledger("begin") == project.ledger("end") == dict.fromkeys(keys, 1)
    logs = "\n".join(worker.log for worker in workers)
    for trouble in ("strike", "Traceback", "ERROR", "CRITICAL"):  # a strike is a lost attempt
        assert trouble not in logs
    assert not list(project.app.broker.dead_letters())


POOLS = [
    ("-c", "2"),
    ("--pool", "solo"),
    ("--pool", "threads", "--processes", "2", "-c", "3"),
    ("--pool", "asyncio", "-c", "10"),
]


def terminate_at_random(worker: WorkerProcess, moment_s: float) -> None:
    """Tell a worker to stop, so long after it has begun to heed signals, and see it stop."""
    wait_for(lambda: "worker@" in worker.log, describe=worker.tell)
    time.sleep(moment_s)  # the random moment
    worker.terminate()
    began = time.monotonic()
    assert worker.wait() == 0, worker.tell()
    assert time.monotonic() - began < 25, worker.tell()


@every_store
def test_workers_terminated_at_random_moments_lose_nothing_and_repeat_nothing(
    project: Project,
) -> None:
    chance = random.Random(1)
    workers: list[WorkerProcess] = []
    with under(Load(project, "tasks.count", 0.01, (0.0, 0.05))) as load:
        for _ in range(3):
            started = [project.worker(*options, wait=False) for options in POOLS]
            with ThreadPoolExecutor(len(started)) as threads:
                moments = [chance.choice((0.01, 0.3, 1.0)) * chance.random() for _ in started]
                list(threads.map(terminate_at_random, started, moments))
            workers += started
    last = project.worker("-c", "2")

    assert_each_ran_once(project, load, workers)
    assert last.stop() == 0


@contextmanager
def locked(database: Path) -> Iterator[None]:
    """Keep everybody else from the broker and the backend."""
    connection = sqlite3.connect(database, isolation_level=None, timeout=30)
    try:
        connection.execute("BEGIN EXCLUSIVE")
        yield
        connection.execute("ROLLBACK")
    finally:
        connection.close()


@pytest.mark.parametrize("options", [("-c", "2"), ("--pool", "solo")], ids=" ".join)
def test_a_worker_terminated_in_an_outage_settles_what_it_did_once_that_is_over(
    project: Project, options: tuple[str, ...]
) -> None:
    worker = project.worker(*options)
    result = project.app.send_task("tasks.count", ("k0", 0.3))
    wait_for(lambda: project.ledger("begin")["k0"])
    with locked(project.database):
        wait_for(lambda: project.ledger("end")["k0"])
        worker.terminate()
        wait_for(lambda: "warm shutdown" in worker.log)

    assert worker.wait() == 0, worker.tell()
    assert result.get(timeout=5) == "k0"
    assert project.ledger("begin") == {"k0": 1}


def test_an_outage_that_lasts_does_not_hold_up_the_end_for_longer_than_the_grace_period(
    project: Project,
) -> None:
    project.rewrite(extra=EXTRA, worker_shutdown_timeout=0.2, worker_soft_shutdown_timeout=0.2)
    worker = project.worker("-c", "2")
    result = project.app.send_task("tasks.count", ("k0", 0.3))
    wait_for(lambda: project.ledger("begin")["k0"])
    with locked(project.database):
        began = time.monotonic()
        assert worker.stop() == 0, worker.tell()
        assert time.monotonic() - began < 26, worker.tell()
    project.worker("-c", "1")

    assert result.get(timeout=60) == "k0"  # lost nothing, though it may have run again


def test_rolling_restarts_under_load_cost_no_task_anything(project: Project) -> None:
    workers = [project.worker("-c", "1"), project.worker("-c", "1")]
    running = list(workers)
    with under(Load(project, "tasks.count", 0.02, (0.0, 0.06))) as load:
        for turn in range(4):
            successor = project.worker("-c", "1")
            assert running[turn % 2].stop() == 0, running[turn % 2].tell()
            running[turn % 2] = successor
            workers.append(successor)

    assert_each_ran_once(project, load, workers)
    assert project.ledger("again") == {}
