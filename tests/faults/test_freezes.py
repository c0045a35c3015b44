"""A whole node stands still for longer than its lease and goes on: it is late, and does no harm."""

from __future__ import annotations

import os
import signal
import sqlite3
import time
from collections.abc import Iterator, Mapping
from contextlib import closing, suppress
from pathlib import Path

import pytest
from project import Project, WorkerProcess, descendants, wait_for
from stores import every_store

pytestmark = [
    pytest.mark.faults,
    pytest.mark.skipif(not hasattr(signal, "SIGSTOP"), reason="needs a signal that stops"),
]

LEASE_S = 1.5
EXTRA = """

@app.task
def who(key, seconds):
    note("begin", key)
    time.sleep(seconds)
    note("end", key)
    return os.getpid()


@app.task
def after(pid, key):
    note("after", key)
    return pid
"""


@pytest.fixture
def project(tmp_path: Path, store: Mapping[str, str]) -> Iterator[Project]:
    made = Project(tmp_path / "project", extra=EXTRA, worker_lease_s=LEASE_S, **store)
    yield made
    made.close()


def tell_all(worker: WorkerProcess, signum: int) -> list[int]:
    """Send a signal to all processes of a node, its supervisor first."""
    pids = [worker.process.pid, *descendants(worker.process.pid)]
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, signum)
    return pids


def freeze(project: Project, worker: WorkerProcess) -> list[int]:
    """Stop a node at a moment when it isn't inside a transaction, which would stop all others."""
    while True:
        pids = tell_all(worker, signal.SIGSTOP)
        if not project.database.exists() or is_writable(project.database):
            return pids
        tell_all(worker, signal.SIGCONT)


def is_writable(database: Path) -> bool:
    with closing(sqlite3.connect(database, timeout=1, isolation_level=None)) as cx:
        try:
            cx.execute("BEGIN IMMEDIATE")
        except sqlite3.OperationalError:
            return False
        cx.execute("ROLLBACK")
        return True


def lease_ends_at(project: Project) -> float:
    """Return the end of the only node's lease; unix seconds."""
    with closing(sqlite3.connect(project.database, timeout=30)) as cx:
        ((ends_at,),) = cx.execute("SELECT expires_at FROM nodes").fetchall()
    return float(ends_at)


def holds_nothing(project: Project) -> bool:
    stats = project.app.broker.stats("celery")
    return (stats.ready, stats.held, stats.delayed) == (0, 0, 0)


@every_store
def test_what_a_frozen_node_ran_is_taken_over_and_its_late_outcome_refused(
    project: Project,
) -> None:
    late = project.worker("-c", "2")
    keys = ["a", "b"]
    results = [
        project.app.send_task(
            "tasks.who", (key, 1.0), link={"task": "tasks.after", "args": [key], "options": {}}
        )
        for key in keys
    ]
    wait_for(lambda: set(project.ledger("begin")) == set(keys))
    frozen = freeze(project, late)
    try:
        other = project.worker("-c", "2")
        pids = [result.get(timeout=60) for result in results]
        wait_for(lambda: holds_nothing(project), 30, other.tell)
    finally:
        tell_all(late, signal.SIGCONT)

    assert not set(pids) & set(frozen)
    wait_for(lambda: all(times == 2 for times in project.ledger("end").values()), 30, late.tell)
    # The late one is a good worker again once it has been told.
    other.stop()
    again = project.app.send_task("tasks.who", ("again", 0.0))
    assert again.get(timeout=60) in frozen
    wait_for(lambda: "refused" in late.log or "taken over" in late.log, 30, late.tell)
    assert [result.get(timeout=1) for result in results] == pids
    wait_for(lambda: project.ledger("after") == {"a": 1, "b": 1}, 30, late.tell)
    wait_for(lambda: holds_nothing(project), 30, late.tell)
    assert late.stop() == 0


def test_a_node_that_is_frozen_while_there_is_no_other_goes_on_where_it_stood(
    project: Project,
) -> None:
    worker = project.worker("-c", "2")
    results = [project.app.send_task("tasks.who", (str(i), 0.2)) for i in range(6)]
    wait_for(lambda: len(project.ledger("begin")) >= 2)
    freeze(project, worker)
    wait_for(lambda: time.time() > lease_ends_at(project) + 0.2)
    tell_all(worker, signal.SIGCONT)

    assert all(result.get(timeout=60) for result in results)
    assert set(project.ledger("begin").values()) == {1}
    assert worker.stop() == 0
