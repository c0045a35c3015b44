"""Broker and backend are away, each alone, at every step of a real worker: nothing is lost."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, closing, contextmanager
from pathlib import Path

import pytest
from project import Project, WorkerProcess, kill, wait_for

pytestmark = pytest.mark.faults

LEASE_S = 1.5
#: Time from the end of an outage to the first task; a busy machine gets four times the goal.
BACK_WITHIN_S = 20
TASKS = 240


class Stores:
    """A project whose broker and backend are files in folders of their own."""

    def __init__(self, folder: Path):
        self.files = {"broker": folder / "b" / "jobs.db", "backend": folder / "r" / "results.db"}
        for file in self.files.values():
            file.parent.mkdir(parents=True)
        urls = {name: f"sqlite:///{file}?busy_timeout_s=0.5" for name, file in self.files.items()}
        self.project = Project(folder / "project", worker_lease_s=LEASE_S, **urls)
        self.sent: list[str] = []

    def send(self, count: int, seconds: float) -> None:
        calls = [("tasks.work", (str(len(self.sent) + i), seconds)) for i in range(count)]
        self.sent += [result.id for result in self.project.app.send_many(calls)]

    @property
    def done(self) -> int:
        return len(self.project.ledger("end"))

    @contextmanager
    def locked(self, name: str) -> Iterator[None]:
        """Hold the lock that every writer needs."""
        with closing(sqlite3.connect(self.files[name], isolation_level=None, timeout=30)) as cx:
            cx.execute("BEGIN EXCLUSIVE")
            yield
            cx.execute("ROLLBACK")

    @contextmanager
    def gone(self, name: str) -> Iterator[None]:
        """Take the folder away, as a volume that isn't mounted any more."""
        folder = self.files[name].parent
        away = folder.rename(folder.with_name("away"))
        yield
        away.rename(folder)

    def lease_ends_at(self) -> float:
        """Return the latest end of a lease that the file knows; unix seconds."""
        with closing(sqlite3.connect(self.files["broker"], timeout=30)) as cx:
            ends: list[float] = [
                row[0] or 0.0 for row in cx.execute("SELECT expires_at FROM nodes")
            ]
        return max(ends)

    def check_all_ran_and_were_stored(self, worker: WorkerProcess, repeats: int) -> None:
        """Check that each task has succeeded, and no more than so many were begun again."""
        count = len(self.sent)
        wait_for(lambda: self.done == count, 60, worker.tell)
        wait_for(lambda: self.states().count("SUCCESS") == count, 30, worker.tell)
        stats = self.project.app.broker.stats
        wait_for(lambda: (stats("celery").ready, stats("celery").held) == (0, 0), 30, worker.tell)
        assert stats("celery").dead == 0, worker.tell()
        assert self.project.ledger("begin").total() <= count + repeats

    def states(self) -> list[str]:
        return [each.state for each in self.project.app.backend.load(self.sent).values()]


Fault = Callable[[Stores, str], AbstractContextManager[None]]
each_store = pytest.mark.parametrize("away", ["broker", "backend"])


@pytest.fixture
def stores(tmp_path: Path) -> Iterator[Stores]:
    made = Stores(tmp_path)
    yield made
    made.project.close()


def start(stores: Stores, *options: str) -> WorkerProcess:
    """Start a worker that is in the middle of its work."""
    stores.send(TASKS, 0.005)
    worker = stores.project.worker(*options)
    wait_for(lambda: stores.done >= TASKS // 6, 30, worker.tell)
    return worker


@pytest.mark.parametrize(
    "fault, away",
    [(Stores.gone, "broker"), (Stores.gone, "backend"), (Stores.locked, "broker")],
    ids=["broker gone", "backend gone", "broker locked"],
)
def test_in_the_middle_of_tasks_and_as_a_process_dies(
    stores: Stores, fault: Fault, away: str
) -> None:
    worker = start(stores, "-c", "2")
    with fault(stores, away):
        wait_for(lambda: "can't" in worker.log, 30, worker.tell)
        victim, other = worker.children()
        kill(victim)
        wait_for(lambda: len(set(worker.children()) - {victim, other}) == 1, 30, worker.tell)
        done = stores.done
    wait_for(lambda: stores.done > done or done == TASKS, BACK_WITHIN_S, worker.tell)

    stores.check_all_ran_and_were_stored(worker, repeats=1)
    assert worker.stop() == 0


@each_store
def test_while_nothing_is_to_be_done(stores: Stores, away: str) -> None:
    stores.send(1, 0.0)
    worker = stores.project.worker("-c", "2")
    wait_for(lambda: stores.done == 1)
    with stores.gone(away):
        wait_for(lambda: "can't" in worker.log or "out of reach" in worker.log, 30, worker.tell)
    stores.send(1, 0.0)
    wait_for(lambda: stores.done == 2, BACK_WITHIN_S, worker.tell)

    stores.check_all_ran_and_were_stored(worker, repeats=0)
    assert worker.stop() == 0


@each_store
def test_as_the_worker_shuts_down(stores: Stores, away: str) -> None:
    worker = start(stores, "-c", "2")
    with stores.gone(away):
        wait_for(lambda: "can't settle" in worker.log, 30, worker.tell)
        worker.terminate()
        wait_for(lambda: "warm shutdown" in worker.log, 30, worker.tell)
    assert worker.wait() == 0, worker.tell()

    stores.check_all_ran_and_were_stored(stores.project.worker("-c", "2"), repeats=0)


def test_for_longer_than_the_lease(stores: Stores) -> None:
    worker = start(stores, "--pool", "threads", "-c", "4")
    with stores.locked("broker"):
        ends_at = stores.lease_ends_at() + 0.2
        wait_for(lambda: time.time() > ends_at)

    stores.check_all_ran_and_were_stored(worker, repeats=0)
    assert worker.stop() == 0


def test_before_the_start_of_a_worker_its_results_wait(stores: Stores) -> None:
    stores.send(20, 0.0)
    with stores.gone("backend"):
        worker = stores.project.worker("-c", "2")
        wait_for(lambda: stores.done == 20, 30, worker.tell)

    stores.check_all_ran_and_were_stored(worker, repeats=0)
    assert worker.stop() == 0
