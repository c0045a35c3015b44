"""kill -9 of the processes that run chords, every half a second: all complete, each body once.

``pytest tests/faults/test_workflow_kills.py --workflow-chords 1000x50`` runs as many as that.
"""

from __future__ import annotations

import random
import threading
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from project import Project, WorkerProcess, kill, wait_for
from redis_load import PATIENT
from workflows.options import WorkflowOptions
from workflows.projects import FIRST, RandomProject

from umbel import chord
from umbel.errors import UmbelError

pytestmark = [pytest.mark.faults, pytest.mark.usefixtures("umbel_is_quiet")]

#: Chords, members of each, and seconds that a member takes.
CHORDS, MEMBERS, MEMBER_S = 60, 20, 0.01
EVERY_S = 0.5
#: The same for tasks that take no time.
_OFTEN_S = 0.1
_PATIENCE_S = 60.0
_BATCH = 1000
_EXTRA = """
@app.task
def member(key, value, seconds):
    note("begin", key)
    time.sleep(seconds)
    return value


@app.task(bind=True)
def body(self, values, number):
    note("body", f"{number}:{self.request.id}")
    return values
"""


@pytest.mark.slow
@pytest.mark.parametrize("store", ["redis", "sqlite"])
def test_chords_complete_once_while_processes_are_killed(
    store: str,
    tmp_path: Path,
    request: pytest.FixtureRequest,
    workflow_options: WorkflowOptions,
) -> None:
    chords, members = _asked(workflow_options)
    settings: dict[str, Any] = {"worker_lease_s": 5.0, **PATIENT}
    if store == "redis":
        url = request.getfixturevalue("redis_server").url
        settings |= {"broker": url, "backend": url}
    project = Project(tmp_path / "project", _EXTRA, **settings)
    try:
        nodes = [project.worker("-c", "2", "-l", "WARNING", wait=False) for _ in range(2)]
        began = time.monotonic()
        results = [_send(project, number, members) for number in range(chords)]
        ids = [result.id for result in results]
        kills = _kill_until(lambda: _over(project, ids), nodes, _patience_s(chords * members))
        took = time.monotonic() - began

        wait_for(lambda: not _waiting(project), _PATIENCE_S, nodes[0].tell)
        values = [result.get(timeout=1, disable_sync_subtasks=False) for result in results]
        assert values == [[number + at for at in range(members)] for number in range(chords)]
        bodies = _bodies(project)
        assert bodies == {str(number): {each} for number, each in enumerate(ids)}
        assert kills > 0
        begun = project.ledger("begin")
        repeats = sum(begun.values()) - len(begun)
        print(f"{chords} chords of {members} on {store}: {took:.1f} s, {kills} kills,", end=" ")
        print(f"{repeats} of {len(begun)} members ran again")
        assert len(begun) == chords * members
        assert all(node.stop() == 0 for node in nodes)
    finally:
        project.close()


@pytest.mark.slow
@pytest.mark.parametrize("store, count", [("redis", 300), ("sqlite", 100)])
def test_random_workflows_come_to_what_they_must_while_processes_are_killed(
    store: str,
    count: int,
    tmp_path: Path,
    request: pytest.FixtureRequest,
    workflow_options: WorkflowOptions,
) -> None:
    settings: dict[str, Any] = {"canvas_max_inline": 8, "worker_lease_s": 5.0, **PATIENT}
    if store == "redis":
        url = request.getfixturevalue("redis_server").url
        settings |= {"broker": url, "backend": url}
    seeds = workflow_options.seeds(count, FIRST)
    trial = RandomProject(tmp_path / "project", seeds, **settings)
    try:
        trial.send()
        nodes = [trial.project.worker("-c", "2", "-l", "CRITICAL", wait=False) for _ in range(2)]
        kills = _kill_until(trial.is_over, nodes, _PATIENCE_S + len(seeds) / 10, every_s=_OFTEN_S)

        assert kills > 0
        assert not (found := trial.differences(is_once=False)), found
        assert all(node.stop() == 0 for node in nodes)
    finally:
        trial.close()


def _asked(options: WorkflowOptions) -> tuple[int, int]:
    if options.chords is None:
        return CHORDS, MEMBERS
    chords, _, members = options.chords.partition("x")
    return int(chords), int(members)


def _patience_s(tasks: int) -> float:
    return _PATIENCE_S + tasks * MEMBER_S * 4


def _send(project: Project, number: int, members: int) -> Any:
    task, body = project.app.signature, project.app.signature
    header = [
        task("tasks.member", (f"{number}.{at}", number + at, MEMBER_S)) for at in range(members)
    ]
    return chord(header)(body("tasks.body", (number,)))


def _kill_until(
    is_over: Callable[[], bool],
    nodes: list[WorkerProcess],
    patience_s: float,
    every_s: float = EVERY_S,
) -> int:
    """Kill a process of a node every so many seconds; return how many."""
    chance, ticks = random.Random(5), threading.Event()
    deadline = time.monotonic() + patience_s
    kills = 0
    while not is_over():
        assert time.monotonic() < deadline, nodes[0].tell()
        ticks.wait(every_s)
        if children := chance.choice(nodes).children():
            kills += 1
            kill(chance.choice(children))
    return kills


def _over(project: Project, ids: list[str]) -> bool:
    """Tell whether all have a result."""
    try:
        for start in range(0, len(ids), _BATCH):
            batch = ids[start : start + _BATCH]
            found = project.app.backend.load(batch)
            if len(found) < len(batch):
                return False
    except UmbelError:  # it is busy
        return False
    return True


def _waiting(project: Project) -> int:
    stats = project.app.broker.stats("celery")
    return stats.ready + stats.held + stats.delayed


def _bodies(project: Project) -> dict[str, set[str]]:
    """Return the ids under which the body of each chord ran."""
    found: dict[str, set[str]] = defaultdict(set)
    for key in project.ledger("body"):
        number, _, task_id = key.partition(":")
        found[number].add(task_id)
    return found
