"""Tasks that kill their processes: they end as dead letters, and all others as if alone."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import pairwise
from pathlib import Path

import pytest
from project import Project, WorkerProcess, wait_for
from stores import every_store

from umbel.errors import WorkerLostError
from umbel.messages import DeadLetter

pytestmark = pytest.mark.faults

EXTRA = """
import ctypes, faulthandler

@app.task
def leave(key):
    note("begin", key)
    os._exit(3)


@app.task
def crash(key):
    note("begin", key)
    faulthandler.disable()
    ctypes.string_at(0)
"""


@pytest.fixture
def project(tmp_path: Path, store: Mapping[str, str]) -> Iterator[Project]:
    made = Project(tmp_path / "project", extra=EXTRA, **store)
    yield made
    made.close()


def buried(project: Project, worker: WorkerProcess, count: int) -> dict[str, DeadLetter]:
    """Wait for so many dead letters; return them by task id."""
    wait_for(lambda: len(project.app.broker.dead_letters()) == count, 60, worker.tell)
    return {letter.message.id: letter for letter in project.app.broker.dead_letters()}


@every_store
def test_500_good_tasks_around_three_poisonous_ones_succeed_once_each(project: Project) -> None:
    app = project.app
    first = [app.send_task("tasks.work", (f"g{i}", 0.001)) for i in range(250)]
    poisons = {kind: app.send_task(f"tasks.{kind}", (kind,)) for kind in ("leave", "crash", "die")}
    rest = [app.send_task("tasks.work", (f"g{i}", 0.001)) for i in range(250, 500)]
    worker = project.worker("-c", "2")

    letters = buried(project, worker, 3)
    wait_for(lambda: len(project.ledger("end")) == 500, 60, worker.tell)

    assert [each.get(timeout=30) for each in (*first, *rest)] == [f"g{i}" for i in range(500)]
    begun = project.ledger("begin")
    assert {kind: begun.pop(kind) for kind in poisons} == {"leave": 3, "crash": 3, "die": 3}
    assert set(begun.values()) == {1}
    ends = {"leave": "exit code 3", "crash": "SIGSEGV", "die": "SIGKILL"}
    for kind, sent in poisons.items():
        with pytest.raises(WorkerLostError, match=f"died 3 times .*{ends[kind]}"):
            sent.get(timeout=10)
        letter = letters[sent.id]
        assert (letter.kind, len(letter.details["attempts"])) == ("poison", 3)
        assert ends[kind] in letter.reason
        attempts = letter.details["attempts"]
        assert len({each["pid"] for each in attempts}) == 3
        assert all(each["memory_bytes"] > 1_000_000 for each in attempts)
        pauses = [after["at"] - before["at"] for before, after in pairwise(attempts)]
        assert pauses[0] >= 1.0
        assert pauses[1] >= 5.0
    wait_for(lambda: len(worker.children()) == 2, 4, worker.tell)


def test_those_beside_a_poisonous_task_in_a_pool_end_well(project: Project) -> None:
    first = [project.app.send_task("tasks.work", (f"g{i}", 0.05)) for i in range(7)]
    project.app.send_task("tasks.die", ("poison",))
    rest = [project.app.send_task("tasks.work", (f"g{i}", 0.05)) for i in range(7, 60)]
    worker = project.worker("--pool", "threads", "-c", "8")

    (letter,) = buried(project, worker, 1).values()

    assert letter.message.task == "tasks.die"
    assert [each.get(timeout=30) for each in (*first, *rest)] == [f"g{i}" for i in range(60)]
    begun = project.ledger("begin")
    assert begun.pop("poison") == 3
    assert max(begun.values()) <= 2  # beside it, and then alone
    assert max(project.ledger("end").values()) == 1


def test_a_flood_of_poison_does_not_stop_what_stands_behind_it(project: Project) -> None:
    for number in range(12):
        project.app.send_task("tasks.die", (f"p{number}",))
    good = [project.app.send_task("tasks.work", (f"g{i}", 0.01)) for i in range(50)]
    worker = project.worker("-c", "2")

    wait_for(lambda: len(project.ledger("end")) == 50, 60, worker.tell)

    assert [each.get(timeout=10) for each in good] == [f"g{i}" for i in range(50)]
    begun = project.ledger("begin")
    assert {begun[f"g{i}"] for i in range(50)} == {1}
    assert max(begun.values()) <= 3
