"""The fork server of a worker: real processes, on SQLite."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from project import Project, WorkerProcess, descendants, kill, title, wait_for

pytestmark = pytest.mark.skipif(
    not sys.platform.startswith("linux"), reason="the fork server is for Linux"
)

IMPORTED = 'note("imported", "app")\n'
THREAD = """
import threading

threading.Thread(target=time.sleep, args=(600,), daemon=True).start()
"""
THREAD_AFTER_FORKS = """
import threading

os.register_at_fork(
    after_in_child=lambda: threading.Thread(target=time.sleep, args=(600,), daemon=True).start()
)
"""
SLOW_WHERE_TOLD = """
if os.path.exists("slow"):
    note("slow", "import")
    time.sleep(60)
"""
SLOW_ONCE = """
if "IMPORTED_BEFORE" in os.environ and not os.path.exists("was-slow"):
    open("was-slow", "w").close()
    time.sleep(60)
os.environ["IMPORTED_BEFORE"] = "1"
"""
SPAWNED = """
from umbel.worker import worker
from umbel.worker.spawning import Spawner

worker.make_starter = lambda *_, **__: Spawner()
"""
BUFFERED = """
import sys

sys.stdout = open(1, "w", closefd=False)
print("imported at", os.getpid())
"""


@pytest.fixture
def make_project(tmp_path: Path) -> Iterator[Callable[..., Project]]:
    made: list[Project] = []

    def make(extra: str = "", **settings: object) -> Project:
        made.append(Project(tmp_path / f"project-{len(made)}", extra=extra, **settings))
        return made[-1]

    yield make
    for each in made:
        each.close()


def fork_server(worker: WorkerProcess) -> int:
    """Return the pid of the process that children are forked from."""
    (found,) = [pid for pid in descendants(worker.process.pid) if title(pid) == "umbel-forks"]
    return found


def test_an_app_that_opens_nothing_is_imported_once_for_all_processes(
    make_project: Callable[..., Project],
) -> None:
    project = make_project(IMPORTED)
    worker = project.worker("-c", "2")
    kill(worker.children()[0])
    wait_for(lambda: len(worker.children()) == 2, describe=worker.tell)

    assert project.app.send_task("tasks.add", (1, 2)).get(timeout=30) == 3
    assert project.ledger("imported") == {"app": 1}
    assert worker.stop() == 0


@pytest.mark.parametrize("extra", [THREAD, THREAD_AFTER_FORKS])
def test_a_process_with_threads_is_not_forked_but_the_app_imported_anew(
    make_project: Callable[..., Project], extra: str
) -> None:
    project = make_project(IMPORTED + extra)
    worker = project.worker("-c", "2")

    assert project.app.send_task("tasks.add", (1, 2)).get(timeout=30) == 3
    assert project.ledger("imported") == {"app": 2}  # by the supervisor and the fork server
    assert worker.stop() == 0


def test_limits_are_kept_while_a_new_server_is_long_in_importing_the_app(
    make_project: Callable[..., Project],
) -> None:
    project = make_project(SLOW_WHERE_TOLD)
    worker = project.worker("-c", "2")
    hog = project.app.send_task("tasks.work", ("hog", 60), time_limit=1.5)
    wait_for(lambda: project.ledger("begin")["hog"])
    (running,) = {int(pid) for _, _, pid, _ in project.lines()}
    (project.folder / "slow").touch()
    kill(fork_server(worker))
    (idle,) = {*worker_children(worker)} - {running}
    kill(idle)
    wait_for(lambda: project.ledger("slow"), describe=worker.tell)

    with pytest.raises(Exception, match=r"1\.5"):
        hog.get(timeout=20)
    assert worker.stop() == 0, worker.tell()


def worker_children(worker: WorkerProcess) -> set[int]:
    """Return the pids of processes that ran tasks or could, whoever their parent is now."""
    return {
        int(path.name)
        for path in Path("/proc").glob("[0-9]*")
        if title(int(path.name)).startswith("umbel-child") and session(path) == worker.process.pid
    }


def session(path: Path) -> int:
    try:
        return int((path / "stat").read_text().rpartition(")")[2].split()[3])
    except OSError:
        return 0


def test_a_server_that_is_too_long_in_importing_the_app_is_replaced(
    make_project: Callable[..., Project],
) -> None:
    project = make_project(THREAD + SLOW_ONCE, worker_proc_alive_timeout=1.0)
    worker = project.worker("-c", "1")

    assert "hasn't loaded the app in worker_proc_alive_timeout (1 s)" in worker.log
    assert project.app.send_task("tasks.add", (1, 2)).get(timeout=30) == 3


def test_how_a_child_has_ended_is_told_by_the_server(make_project: Callable[..., Project]) -> None:
    project = make_project("@app.task\ndef leave():\n    os._exit(7)\n")
    worker = project.worker("-c", "1")
    project.app.send_task("tasks.leave")

    wait_for(lambda: "died: exit code 7" in worker.log, describe=worker.tell)


def test_what_the_app_has_printed_is_not_written_again_by_each_process(
    make_project: Callable[..., Project],
) -> None:
    project = make_project(BUFFERED)
    worker = project.worker("-c", "2")

    assert worker.stop() == 0
    assert worker.log.count("imported at") == 1


def test_children_are_spawned_and_replaced_where_nothing_can_be_forked(
    make_project: Callable[..., Project],
) -> None:
    project = make_project(IMPORTED + SPAWNED)
    worker = project.worker("-c", "1")
    kill(worker.children()[0])
    wait_for(lambda: "signal 9" in worker.log, describe=worker.tell)

    assert project.app.send_task("tasks.add", (1, 2)).get(timeout=30) == 3
    assert project.ledger("imported") == {"app": 3}
    assert worker.stop() == 0
