"""Children that are replaced, grow in number and shrink: real processes on SQLite."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from project import Project, wait_for

from umbel.errors import WorkerLostError

pytestmark = pytest.mark.skipif(os.name == "nt", reason="signals of POSIX")

EXTRA = """
_kept = []

@app.task
def swell(key, mib, seconds=0.0):
    note("begin", key)
    _kept.append(bytearray(os.urandom(1024)) * (1024 * mib))
    if seconds:
        time.sleep(seconds)
    note("end", key)
"""


@pytest.fixture
def make_project(tmp_path: Path) -> Iterator[Callable[..., Project]]:
    made: list[Project] = []

    def make(**settings: object) -> Project:
        made.append(Project(tmp_path / f"project-{len(made)}", extra=EXTRA, **settings))
        return made[-1]

    yield make
    for each in made:
        each.close()


def pids(project: Project, what: str) -> list[str]:
    """Return the pids of the processes that noted something, in order and each once."""
    return list(dict.fromkeys(pid for kind, _, pid, _ in project.lines() if kind == what))


@pytest.mark.parametrize("pool", ["process", "threads"])
def test_a_child_that_has_grown_too_large_is_replaced_and_no_task_notices(
    make_project: Callable[..., Project], pool: str
) -> None:
    project = make_project()
    worker = project.worker("--pool", pool, "-c", "1", "--max-memory-per-child", "150000")
    sent = [project.app.send_task("tasks.swell", (f"s{i}", 40, 0.05)) for i in range(12)]
    wait_for(lambda: len(project.ledger("end")) == 12, 60, worker.tell)

    assert len(pids(project, "end")) >= 3
    assert set(project.ledger("begin").values()) == {1}
    assert [each.get(timeout=10) for each in sent] == [None] * 12
    assert "over worker_max_memory_per_child (150000 kilobytes)" in worker.log
    assert "died" not in worker.log


def test_a_child_over_the_ceiling_is_killed_in_the_middle_of_its_task(
    make_project: Callable[..., Project],
) -> None:
    project = make_project(worker_memory_ceiling_bytes=200_000_000, task_max_deliveries=1)
    worker = project.worker("-c", "1")
    result = project.app.send_task("tasks.swell", ("large", 300, 60.0))

    with pytest.raises(WorkerLostError, match="over worker_memory_ceiling_bytes") as caught:
        result.get(timeout=60)
    wait_for(project.app.broker.dead_letters, 30, worker.tell)  # comes after the result
    (letter,) = project.app.broker.dead_letters()
    (attempt,) = letter.details["attempts"]
    assert attempt["memory_bytes"] > 200_000_000, caught.value
    assert project.app.send_task("tasks.add", (1, 2)).get(timeout=60) == 3, worker.tell()


def test_the_pool_grows_with_the_load_and_shrinks_without_losing_anything(
    make_project: Callable[..., Project],
) -> None:
    project = make_project(worker_autoscale_idle_s=0.5)
    worker = project.worker("--autoscale", "4,1")
    assert len(worker.children()) == 1
    sent = [project.app.send_task("tasks.work", (f"w{i}", 0.4)) for i in range(24)]

    wait_for(lambda: len(worker.children()) == 4, 30, worker.tell)
    wait_for(lambda: len(project.ledger("end")) == 24, 60, worker.tell)
    wait_for(lambda: len(worker.children()) == 1, 60, worker.tell)

    assert [each.get(timeout=10) for each in sent] == [f"w{i}" for i in range(24)]
    assert set(project.ledger("begin").values()) == {1}
    assert "autoscale: from 1 to " in worker.log
    assert "died" not in worker.log


def test_a_child_that_takes_nothing_more_has_a_successor_while_it_finishes(
    make_project: Callable[..., Project],
) -> None:
    project = make_project()
    worker = project.worker("--pool", "threads", "-c", "2", "--max-tasks-per-child", "2")
    long = project.app.send_task("tasks.work", ("long", 3.0))
    short = [project.app.send_task("tasks.work", (f"s{i}", 0.0)) for i in range(8)]
    wait_for(lambda: len(project.ledger("end")) == 8, 60, worker.tell)

    assert "long" not in project.ledger("end"), worker.tell()
    assert [each.get(timeout=10) for each in short] == [f"s{i}" for i in range(8)]
    assert long.get(timeout=30) == "long"
    assert set(project.ledger("begin").values()) == {1}
