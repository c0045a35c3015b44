"""Nothing grows with the number of tasks, of processes or of starts. `bench/memory.py` runs longer."""

from __future__ import annotations

import gc
import sqlite3
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import closing
from itertools import islice
from pathlib import Path

import pytest
from project import Project, WorkerProcess, wait_for
from stores import every_store

from umbel import Umbel

pytestmark = [
    pytest.mark.faults,
    pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads Linux's /proc"),
]

MIB = 1024 * 1024
TASKS, SAMPLES = 60_000, 12
#: From the second quarter to the last one, half of the tasks later: 100 bytes a task.
MOST_GROWTH = 3 * MIB
QUIET = """

@app.task(ignore_result=True)
def quiet(x):
    return x
"""


@pytest.fixture
def project(tmp_path: Path) -> Iterator[Project]:
    made = Project(tmp_path / "project", extra=QUIET, result_expires=1.0)
    yield made
    made.close()


def own_memory(pid: int) -> int:
    """Return the bytes of memory that a process shares with nobody's file."""
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Anonymous:"):
            return int(line.split()[1]) * 1024
    raise AssertionError("this system doesn't tell")


def count(pid: int | str, what: str) -> int:
    """Return how many a process has of what `/proc` calls ``fd`` or ``task``."""
    return len(list(Path(f"/proc/{pid}/{what}").iterdir()))


def growth(samples: list[int]) -> float:
    """Return the rise from the mean of the second quarter to that of the last one."""
    quarter = len(samples) // 4
    second, last = samples[quarter : 2 * quarter], samples[-quarter:]
    return sum(last) / quarter - sum(second) / quarter


def waiting(project: Project) -> int:
    stats = project.app.broker.stats("celery")
    return stats.ready + stats.held


def test_memory_and_files_stay_as_they_are_over_60_000_tasks(project: Project) -> None:
    worker = project.worker("-c", "1")
    supervisor, (child,) = worker.process.pid, worker.children()
    memory: dict[int, list[int]] = {supervisor: [], child: []}
    sizes: list[int] = []
    calls = iter([("tasks.quiet", (i,)) if i % 2 else ("tasks.add", (i, i)) for i in range(TASKS)])
    for _ in range(SAMPLES):
        project.app.send_many(islice(calls, TASKS // SAMPLES))
        wait_for(lambda: waiting(project) == 0, 60, worker.tell)
        for pid, samples in memory.items():
            samples.append(own_memory(pid))
        sizes.append(project.database.stat().st_size)

    assert worker.children() == [child]
    assert growth(memory[child]) < MOST_GROWTH, memory[child]
    assert growth(memory[supervisor]) < MOST_GROWTH, memory[supervisor]
    # Results of the last second stay, and what was there at most of messages.
    assert sizes[-1] < 1.5 * max(sizes[: SAMPLES // 2]), sizes


def rows(project: Project) -> dict[str, int]:
    """Return how many rows stand in the tables that know of processes."""
    with closing(sqlite3.connect(project.database, timeout=30)) as cx:
        return {
            table: cx.execute(f"SELECT count(*) FROM {table}").fetchone()[0]
            for table in ("nodes", "consumers", "listeners")
        }


def run_tasks(project: Project, worker: WorkerProcess, tasks: int) -> None:
    before = len(project.ledger("end"))
    project.app.send_many([("tasks.work", (str(before + i),)) for i in range(tasks)])
    wait_for(lambda: len(project.ledger("end")) == before + tasks, 60, worker.tell)
    wait_for(lambda: waiting(project) == 0 and len(worker.children()) == 2, 60, worker.tell)


def test_processes_that_come_and_go_leave_nothing_behind(project: Project) -> None:
    worker = project.worker("-c", "2", "--max-tasks-per-child", "1")
    supervisor = worker.process.pid
    run_tasks(project, worker, 10)
    files, memory = count(supervisor, "fd"), own_memory(supervisor)
    threads = count(supervisor, "task")
    run_tasks(project, worker, 60)

    assert len({line[2] for line in project.lines()}) >= 70
    wait_for(lambda: count(supervisor, "fd") <= files, 30, lambda: f"{files} {worker.tell()}")
    assert count(supervisor, "task") <= threads
    assert own_memory(supervisor) - memory < MIB
    wait_for(lambda: max(rows(project).values()) <= 4, 30, lambda: str(rows(project)))
    assert worker.stop() == 0


@every_store
@pytest.mark.parametrize("pool", ["solo", "threads", "asyncio"])
def test_40_starts_of_an_embedded_worker_leave_nothing_behind(
    tmp_path: Path, pool: str, store: Mapping[str, str]
) -> None:
    url = f"sqlite:///{tmp_path / 'jobs.db'}"
    app = Umbel("embedded", **(store or {"broker": url, "backend": url}))
    add = app.task(name="add")(lambda x, y: x + y)
    for cycle in range(40):
        with app.worker(pool=pool, concurrency=2):
            assert add.delay(cycle, 1).get(timeout=30) == cycle + 1
        if cycle == 4:
            gc.collect()
            files, threads = count("self", "fd"), threading.active_count()

    gc.collect()
    assert count("self", "fd") <= files + 3  # sockets that are made when first needed
    assert threading.active_count() <= threads
    app.close()
