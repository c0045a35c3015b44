"""Rate limits, as a user sees them: one type is slow, the others don't notice."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from project import Project, wait_for

from umbel.signatures import Signature

TASKS = """
@app.task(rate_limit="10/s")
def limited(key):
    note("limited", key)


@app.task
def free(key):
    note("free", key)
"""
POOLS = [
    ("--pool", "process", "-c", "2"),
    ("--pool", "threads", "-c", "4"),
    ("--pool", "solo"),
]


@pytest.fixture
def project(tmp_path: Path) -> Iterator[Project]:
    made = Project(tmp_path / "project", TASKS)
    yield made
    made.close()


def send(project: Project, name: str, count: int) -> None:
    project.app.send_many([Signature(task=name, args=(str(i),)) for i in range(count)])


def times(project: Project, what: str) -> list[float]:
    return sorted(float(at) for kind, _, _, at in project.lines() if kind == what)


@pytest.mark.parametrize("options", POOLS, ids=" ".join)
def test_a_limited_task_does_not_slow_another_one_in_the_same_queue(
    project: Project, options: tuple[str, ...]
) -> None:
    send(project, "tasks.limited", 40)
    send(project, "tasks.free", 400)
    project.worker(*options)
    wait_for(lambda: len(times(project, "free")) == 400)
    wait_for(lambda: len(times(project, "limited")) == 40)

    free, limited = times(project, "free"), times(project, "limited")
    assert sum(at <= free[-1] for at in limited) < 40  # the others weren't held up by them
    # 10/s with a burst of one, and a tenth of a second of slack: 38 intervals at least.
    assert limited[-1] - limited[0] >= 3.7
    assert limited[-1] - limited[0] <= 16
    assert all(count == 1 for count in project.ledger("limited").values())
    assert project.app.broker.stats("celery").dead == 0


def test_a_limit_changes_at_run_time_in_all_processes_and_in_those_to_come(
    project: Project,
) -> None:
    project.worker("-c", "2", "-n", "first@h")
    send(project, "tasks.limited", 200)
    wait_for(lambda: len(times(project, "limited")) >= 5)

    answers = project.app.control.rate_limit(
        "tasks.limited", "5000/s", ["first@h"], reply=True, timeout=30
    )
    assert answers == [{"first@h": {"ok": "rate limit of tasks.limited is 5000/s"}}]
    wait_for(lambda: len(times(project, "limited")) == 200, 15)  # 20 s at 10/s

    project.app.control.rate_limit("tasks.limited", "1/h")
    project.worker("-c", "1", "-n", "second@h")
    for name in ("first@h", "second@h"):
        wait_for(lambda name=name: stats(project, name)["rate_limits"]["tasks.limited"] < 1)


def stats(project: Project, name: str) -> dict[str, Any]:
    answers = project.app.control.inspect([name], timeout=30).stats()
    assert answers is not None
    return answers[name]


def test_what_a_worker_holds_unstarted_is_seen_and_given_back_when_it_stops(
    project: Project,
) -> None:
    worker = project.worker("-c", "1", "-n", "w@h")
    project.app.send_many([Signature(task="tasks.work", args=(str(i), 0.003)) for i in range(4000)])
    seen: list[dict[str, Any]] = []

    def look() -> bool:
        answers = project.app.control.inspect(["w@h"], timeout=30).reserved()
        assert answers is not None
        seen[:] = answers["w@h"]
        return bool(seen)

    wait_for(look)
    assert all(row["name"] == "tasks.work" and row["time_start"] is None for row in seen)
    began = time.monotonic()
    assert worker.stop() == 0
    assert time.monotonic() - began < 20

    left = project.app.broker.stats("celery")
    assert left.held == 0
    assert left.ready + left.delayed == 4000 - len(project.ledger("end"))
    assert left.ready > 0


def test_what_runs_is_seen_with_its_beginning_and_process(project: Project) -> None:
    worker = project.worker("-c", "2", "-n", "w@h")
    running = project.app.send_task("tasks.work", ("a", 60))
    wait_for(lambda: project.ledger("begin"))

    answers = project.app.control.inspect(["w@h"], timeout=30).active()
    assert answers is not None
    (row,) = answers["w@h"]
    assert (row["id"], row["name"], row["args"]) == (running.id, "tasks.work", "('a', 60)")
    assert abs(row["time_start"] - times(project, "begin")[0]) < 5
    assert row["worker_pid"] in worker.children()


def test_workers_are_stopped_by_command(project: Project) -> None:
    worker = project.worker("-c", "1", "-n", "w@h")
    running = project.app.send_task("tasks.work", ("a", 1.0))
    wait_for(lambda: project.ledger("begin"))

    assert project.app.control.shutdown(["w@h"], reply=True, timeout=30) == [
        {"w@h": {"ok": "shutting down"}}
    ]
    assert worker.wait() == 0
    assert running.get(timeout=5) == "a"


def test_pools_are_resized_by_command(project: Project) -> None:
    project.worker("-c", "1", "-n", "w@h")
    control = project.app.control

    assert control.pool_grow(1, ["w@h"], reply=True, timeout=30) == [
        {"w@h": {"ok": "2 processes from now on"}}
    ]
    wait_for(lambda: len(stats(project, "w@h")["pool"]["processes"]) == 2)
    assert control.pool_shrink(5, ["w@h"], reply=True, timeout=30) == [
        {"w@h": {"ok": "1 process from now on"}}
    ]
    wait_for(lambda: len(stats(project, "w@h")["pool"]["processes"]) == 1)
    answers = control.autoscale(2, 3, ["w@h"], reply=True, timeout=30)
    assert answers is not None
    assert "can't be" in answers[0]["w@h"]["error"]
