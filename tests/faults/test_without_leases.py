"""Poison and hard limits over a broker that can't say who held what: the example's, of files.

Its messages come back the moment that a process dies, perhaps before the supervisor has written
what the process died of: then the task runs once more, and its strike counts from then on.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from project import Project, WorkerProcess, wait_for

from umbel import Umbel
from umbel.errors import TimeLimitExceeded, WorkerLostError
from umbel.plugins import PluginManager
from umbel.results import AsyncResult

pytestmark = [
    pytest.mark.faults,
    pytest.mark.skipif(os.name == "nt", reason="the example uses locks of POSIX"),
]

SOURCE = Path(__file__).resolve().parents[2] / "examples" / "broker-directory" / "src"
#: What an installed package says of itself, for the workers' processes.
METADATA = "Metadata-Version: 2.1\nName: umbel-broker-directory\nVersion: 0.1.0\n"
ENTRY_POINTS = "[umbel]\nbroker-directory = umbel_broker_directory.hooks\n"

EXTRA = """
@app.task
def leave(key):
    note("begin", key)
    os._exit(3)


@app.task
def spin(key):
    note("begin", key)
    while True:
        time.sleep(0.005)


@app.task(reject_on_worker_lost=False)
def fragile(key):
    note("begin", key)
    os._exit(3)


@app.task(acks_late=False)
def early(key):
    note("begin", key)
    os._exit(3)


@app.task
def dies_once(key):
    note("begin", key)
    if not os.path.exists(key):
        open(key, "w").close()
        os._exit(3)
    return key
"""


class DirectoryProject(Project):
    """A project whose broker is the example's, installed for its own processes only."""

    def __init__(self, folder: Path, hooks: Any):
        super().__init__(folder, extra=EXTRA, broker=f"directory://{folder / 'jobs'}")
        info = folder / "umbel_broker_directory-0.1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(METADATA)
        (info / "entry_points.txt").write_text(ENTRY_POINTS)
        self.app.close()
        self.app = Umbel("tasks", plugins=PluginManager([hooks]), **self.settings)

    def environment(self) -> dict[str, str]:
        """Return the environment of its processes, which find the example."""
        return {**super().environment(), "PYTHONPATH": str(SOURCE)}

    def known_fates(self) -> list[str]:
        """Return what the coordinator still knows of tasks whose process died."""
        coordinator = self.app.coordinator
        assert coordinator is not None
        return [*coordinator.scan("fate/")]


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[DirectoryProject]:
    monkeypatch.syspath_prepend(str(SOURCE))
    from umbel_broker_directory import hooks

    made = DirectoryProject(tmp_path / "project", hooks)
    yield made
    made.close()
    for name in [name for name in sys.modules if name.startswith("umbel_broker_directory")]:
        del sys.modules[name]


def settled(sent: AsyncResult[Any], worker: WorkerProcess) -> Exception:
    """Wait for the failure of a task."""
    wait_for(sent.ready, 60, worker.tell)
    assert isinstance(sent.result, Exception), sent.result
    return sent.result


def test_poison_is_a_dead_letter_and_the_good_around_it_succeed(project: DirectoryProject) -> None:
    app = project.app
    first = [app.send_task("tasks.work", (f"g{i}", 0.005)) for i in range(30)]
    poison = app.send_task("tasks.leave", ("poison",))
    rest = [app.send_task("tasks.work", (f"g{i}", 0.005)) for i in range(30, 60)]
    worker = project.worker("-c", "2")

    error = settled(poison, worker)

    assert [each.get(timeout=30) for each in (*first, *rest)] == [f"g{i}" for i in range(60)]
    assert isinstance(error, WorkerLostError)
    wait_for(app.broker.dead_letters, 30, worker.tell)
    (letter,) = app.broker.dead_letters()
    assert (letter.message.id, letter.kind) == (poison.id, "poison")
    begun = project.ledger("begin")
    deaths = begun.pop("poison")
    assert 3 <= deaths <= 5  # more where a message is quicker than its strike
    assert f"died {deaths} times while running it (last: exit code 3" in letter.reason
    attempts = letter.details["attempts"]
    assert [each["exit"] for each in attempts] == [3] * deaths
    assert len({each["pid"] for each in attempts}) == deaths
    ends = project.ledger("end")
    assert max(ends.values()) <= 2  # what was finished beside it, and not settled yet
    assert ends.total() <= 60 + deaths
    wait_for(lambda: not project.known_fates(), 20, worker.tell)
    assert "no leases" not in worker.log


def test_a_task_over_its_hard_limit_fails_and_does_not_run_again(project: DirectoryProject) -> None:
    hogs = [project.app.send_task("tasks.spin", (f"h{i}",), time_limit=0.3) for i in range(4)]
    good = [project.app.send_task("tasks.work", (f"g{i}", 0.005)) for i in range(30)]
    worker = project.worker("-c", "2")

    errors = [settled(hog, worker) for hog in hogs]

    assert [each.get(timeout=30) for each in good] == [f"g{i}" for i in range(30)]
    assert [type(error) for error in errors] == [TimeLimitExceeded] * 4
    wait_for(lambda: not project.known_fates(), 20, worker.tell)
    begun = project.ledger("begin")
    assert {key: begun[key] for key in begun if key.startswith("h")} == {
        f"h{i}": 1 for i in range(4)
    }
    assert project.app.broker.dead_letters() == []


def test_a_hard_limit_in_a_pool_spares_what_runs_beside_it(project: DirectoryProject) -> None:
    hog = project.app.send_task("tasks.spin", ("hog",), time_limit=0.3)
    good = [project.app.send_task("tasks.work", (f"g{i}", 0.05)) for i in range(20)]
    worker = project.worker("--pool", "threads", "-c", "4")

    assert isinstance(settled(hog, worker), TimeLimitExceeded)

    assert [each.get(timeout=30) for each in good] == [f"g{i}" for i in range(20)]
    assert project.ledger("begin")["hog"] == 1
    assert project.app.broker.dead_letters() == []


def test_terminating_a_task_ends_its_process_and_its_runs(project: DirectoryProject) -> None:
    sent = project.app.send_task("tasks.spin", ("s",))
    worker = project.worker("-c", "1")
    wait_for(lambda: project.ledger("begin")["s"] == 1, 30, worker.tell)

    project.app.control.revoke(sent.id, terminate=True)

    wait_for(lambda: sent.state == "REVOKED", 30, worker.tell)
    assert project.app.send_task("tasks.work", ("after",)).get(timeout=30) == "after"
    assert project.ledger("begin")["s"] == 1


def test_a_task_that_may_not_run_again_is_poison_at_its_first_death(
    project: DirectoryProject,
) -> None:
    sent = {name: project.app.send_task(f"tasks.{name}", (name,)) for name in ("fragile", "early")}
    worker = project.worker("-c", "1")

    errors = [settled(each, worker) for each in sent.values()]

    assert [type(error) for error in errors] == [WorkerLostError] * 2
    assert project.ledger("begin")["early"] == 1
    assert project.ledger("begin")["fragile"] <= 3  # as above
    wait_for(lambda: not project.known_fates(), 20, worker.tell)


def test_a_task_that_ends_well_at_its_second_run_leaves_nothing_behind(
    project: DirectoryProject,
) -> None:
    sent = project.app.send_task("tasks.dies_once", ("once",))
    worker = project.worker("-c", "1")

    assert sent.get(timeout=60) == "once"

    assert project.ledger("begin")["once"] == 2
    wait_for(lambda: not project.known_fates(), 20, worker.tell)
    assert project.app.broker.dead_letters() == []
