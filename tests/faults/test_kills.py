"""kill -9 at random instants: nothing is lost, and what runs twice is what was running."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
from project import Project, descendants, kill, wait_for
from stores import every_store

pytestmark = pytest.mark.faults
TASKS = 5000


@pytest.fixture
def project(tmp_path: Path, store: Mapping[str, str]) -> Iterator[Project]:
    made = Project(tmp_path / "project", worker_lease_s=2.0, **store)
    yield made
    made.close()


def send(project: Project, count: int, seconds: float) -> None:
    project.app.send_many(("tasks.work", (str(i), seconds)) for i in range(count))


@every_store
def test_killed_children_lose_nothing_and_repeat_only_what_ran(project: Project) -> None:
    chance = random.Random(1)
    send(project, TASKS, 0.001)
    worker = project.worker("-c", "2")
    kills = 0
    while len(project.ledger("end")) < TASKS:
        children = worker.children()
        if children and kills < 12:
            kill(chance.choice(children))
            kills += 1
        time.sleep(chance.uniform(0.05, 0.4))  # the random instant

    wait_for(lambda: set(project.ledger("end")) == {str(i) for i in range(TASKS)})
    begun = project.ledger("begin")
    repeated = sum(times - 1 for times in begun.values())
    assert repeated <= kills
    assert worker.stop() == 0


@every_store
def test_a_killed_node_loses_nothing_and_ends_by_itself_after_a_restart(project: Project) -> None:
    chance = random.Random(2)
    send(project, TASKS, 0.001)
    for _ in range(4):
        worker = project.worker("-c", "2")
        time.sleep(chance.uniform(0.2, 0.8))  # the random instant
        worker.kill_all()

    last = project.worker("--burst", "-c", "2", wait=False)
    last.wait()
    if len(project.ledger("end")) < TASKS:  # held by a killed node, until its lease ran out
        project.worker("-c", "2")
    wait_for(lambda: len(project.ledger("end")) == TASKS, 60)
    assert set(project.ledger("begin")) == {str(i) for i in range(TASKS)}


@every_store
def test_children_of_a_killed_supervisor_finish_and_end(project: Project) -> None:
    send(project, 400, 0.01)
    worker = project.worker("-c", "2")
    wait_for(lambda: len(project.ledger("end")) > 50)
    below = descendants(worker.process.pid)

    kill(worker.process.pid)
    worker.process.wait()

    wait_for(lambda: not any(Path(f"/proc/{pid}").exists() for pid in below), 30)
    assert project.ledger("begin") == project.ledger("end")
    second = project.worker("-c", "2")
    wait_for(lambda: len(project.ledger("end")) == 400, 60, second.tell)
    assert max(project.ledger("begin").values()) == 1


def test_a_countdown_outlives_all_workers_and_runs_once_in_time(project: Project) -> None:
    first = project.worker("-c", "1")
    sent_at = time.time()
    result = project.app.send_task("tasks.work", ("later",), countdown=3)
    first.kill_all()
    project.worker("-c", "1")

    assert result.get(timeout=30) == "later"
    (began,) = [float(at) for what, _, _, at in project.lines() if what == "begin"]
    assert 3.0 <= began - sent_at <= 3.5


@every_store
def test_a_long_task_outlives_its_lease_and_runs_once(project: Project) -> None:
    project.worker("-c", "1")
    other = project.worker("-c", "1")
    result = project.app.send_task("tasks.work", ("long", 5.0))

    assert result.get(timeout=60) == "long"
    assert project.ledger("begin")["long"] == 1, other.tell()


def test_a_task_that_kills_its_process_is_a_dead_letter_after_three_times(
    project: Project,
) -> None:
    worker = project.worker("-c", "2")
    poison = project.app.send_task("tasks.die", ("poison",))
    good = [project.app.send_task("tasks.work", (f"g{i}", 0.01)) for i in range(100)]

    with pytest.raises(Exception, match="died 3 times") as caught:
        poison.get(timeout=60)
    assert caught.type.__name__ == "WorkerLostError", worker.tell()
    assert [result.get(timeout=60) for result in good] == [f"g{i}" for i in range(100)]
    assert project.ledger("begin")["poison"] == 3
    # Its result is stored first: a crash in between repeats the burial, and loses none.
    wait_for(project.app.broker.dead_letters, 30, worker.tell)
    (dead,) = project.app.broker.dead_letters()
    assert dead.message.id == poison.id
    assert max(project.ledger("begin")[f"g{i}"] for i in range(100)) == 1
