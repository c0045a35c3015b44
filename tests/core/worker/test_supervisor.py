"""A supervisor and its children: real processes, real signals, on SQLite."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from project import Project, WorkerProcess, descendants, kill, title, wait_for

pytestmark = pytest.mark.skipif(os.name == "nt", reason="signals of POSIX")

EXTRA = """
import multiprocessing

@app.task
def leave(key):
    note("begin", key)
    os._exit(0)


@app.task(acks_late=False)
def early(key):
    note("begin", key)
    time.sleep(60)


@app.task
def huge():
    raise ValueError(2**100)


@app.task
def holds_its_process(key):
    import threading
    threading.Thread(target=time.sleep, args=(60,), daemon=False).start()
    note("end", key)
"""
ONLY_IN_CHILDREN = """
import multiprocessing
if multiprocessing.current_process().name != "MainProcess":
    {}
"""
#: Has a thread, so that a fork server has to import it for itself.
NOT_TO_BE_FORKED = """
import threading

threading.Thread(target=time.sleep, args=(600,), daemon=True).start()
is_fork_server = "IMPORTED_BY_SUPERVISOR" in os.environ
os.environ["IMPORTED_BY_SUPERVISOR"] = "1"
"""


@pytest.fixture
def make_project(tmp_path: Path) -> Iterator[Callable[..., Project]]:
    made: list[Project] = []

    def make(extra: str = EXTRA, **settings: object) -> Project:
        made.append(Project(tmp_path / f"project-{len(made)}", extra=extra, **settings))
        return made[-1]

    yield make
    for each in made:
        each.close()


@pytest.fixture
def project(make_project: Callable[..., Project]) -> Project:
    return make_project()


@contextmanager
def locked(database: Path) -> Iterator[None]:
    """Keep everybody else from writing to a database, and from reading it for long."""
    connection = sqlite3.connect(database, isolation_level=None, timeout=30)
    try:
        connection.execute("BEGIN EXCLUSIVE")
        yield
        connection.execute("ROLLBACK")
    finally:
        connection.close()


def fork_server(worker: WorkerProcess) -> int:
    """Return the pid of the process that children are forked from."""
    (found,) = [pid for pid in descendants(worker.process.pid) if title(pid) == "umbel-forks"]
    return found


def is_alive(pid: int) -> bool:
    return Path(f"/proc/{pid}").exists()


# -- starting ---------------------------------------------------------------------------------


def test_an_app_that_fails_only_in_children_ends_the_worker_with_the_reason(
    make_project: Callable[..., Project],
) -> None:
    project = make_project(
        ONLY_IN_CHILDREN.format("raise RuntimeError('only here')"), worker_preload_app=False
    )
    worker = project.worker("-c", "2", wait=False)

    assert worker.wait() == 1
    assert "RuntimeError: only here" in worker.log
    assert "giving up: no process could load the app in 5 tries" in worker.log
    assert " ready" not in worker.log


@pytest.mark.parametrize("where", ["the fork server", "a child"])
def test_a_worker_that_is_told_to_stop_while_the_app_is_still_loading_stops_at_once(
    make_project: Callable[..., Project], where: str
) -> None:
    if where == "a child":
        extra = ONLY_IN_CHILDREN.format("note('loads', 'x'); time.sleep(60)")
    else:
        extra = NOT_TO_BE_FORKED + "if is_fork_server:\n    note('loads', 'x'); time.sleep(20)"
    project = make_project(extra, worker_preload_app=where == "the fork server")
    worker = project.worker("-c", "2", wait=False)
    wait_for(lambda: project.ledger("loads"))
    began = time.monotonic()

    assert worker.stop() == 0
    assert time.monotonic() - began < 15, worker.tell()


def test_a_worker_starts_without_its_broker_and_works_once_it_is_there(
    make_project: Callable[..., Project],
) -> None:
    project = make_project()
    url = f"{project.settings['broker']}?busy_timeout_s=0.2"
    project.rewrite(extra=EXTRA, broker=url, backend=url)
    result = project.app.send_task("tasks.work", ("waiting",))
    with locked(project.database):
        worker = project.worker("-c", "1", wait=False)
        wait_for(lambda: "can't be reached yet" in worker.log, describe=worker.tell)
    worker.wait_ready()

    assert result.get(timeout=30) == "waiting"


def test_two_workers_of_one_name_do_not_get_in_each_others_way(project: Project) -> None:
    workers = [project.worker("-c", "1", "-n", "same@host") for _ in range(2)]
    results = project.app.send_many(("tasks.work", (f"k{i}", 0.01)) for i in range(40))

    assert [result.get(timeout=30) for result in results] == [f"k{i}" for i in range(40)]
    assert [worker.stop() for worker in workers] == [0, 0]
    assert max(project.ledger("begin").values()) == 1


def test_children_are_replaced_though_the_folder_of_the_start_is_gone_and_files_are_closed(
    project: Project,
) -> None:
    folder, log = project.folder / "away", project.folder / "log"
    folder.mkdir()
    command = f"exec {sys.executable} -m umbel -A tasks worker -l INFO -c 1 -f {log} <&- >&- 2>&-"
    worker = subprocess.Popen(
        ["sh", "-c", command],
        cwd=folder,
        env={**project.environment(), "PYTHONPATH": str(project.folder)},
    )
    try:
        wait_for(lambda: log.exists() and " ready" in log.read_text())
        folder.rmdir()
        project.app.send_task("tasks.die", ("dies",))

        assert project.app.send_task("tasks.work", ("good",)).get(timeout=30) == "good"
        worker.terminate()
        assert worker.wait(30) == 0
        assert "can't be used" in log.read_text()
    finally:
        for pid in [worker.pid, *descendants(worker.pid)]:
            kill(pid)
        worker.wait(30)


# -- children that end ------------------------------------------------------------------------


def test_a_child_that_is_killed_is_replaced_and_one_that_recycles_too(project: Project) -> None:
    worker = project.worker("-c", "1", "--max-tasks-per-child", "5")
    (first,) = worker.children()
    kill(first)
    wait_for(lambda: worker.children() not in ([], [first]), describe=worker.tell)
    results = project.app.send_many(("tasks.work", (f"k{i}",)) for i in range(20))

    assert [result.get(timeout=30) for result in results] == [f"k{i}" for i in range(20)]
    pids = {pid for _, _, pid, _ in project.lines()}
    assert len(pids) == 4
    assert worker.log.count("starting another") == 1
    assert project.ledger("begin") == Counter(f"k{i}" for i in range(20))


def test_a_burst_of_recycled_children_drains_the_queue(project: Project) -> None:
    project.app.send_many(("tasks.work", (f"k{i}",)) for i in range(30))
    worker = project.worker("--burst", "-c", "2", "--max-tasks-per-child", "4", wait=False)

    assert worker.wait() == 0, worker.tell()
    assert project.ledger("end") == Counter(f"k{i}" for i in range(30))


def test_a_task_that_leaves_with_exit_code_zero_is_struck_all_the_same(project: Project) -> None:
    worker = project.worker("-c", "1")
    result = project.app.send_task("tasks.leave", ("leaves",))

    with pytest.raises(Exception, match="died 3 times"):
        result.get(timeout=30)
    assert project.ledger("begin")["leaves"] == 3, worker.tell()


def test_a_process_that_a_tasks_thread_keeps_alive_is_ended_with_the_worker(
    project: Project,
) -> None:
    project.settings["worker_shutdown_timeout"] = 0.2
    project.rewrite(extra=EXTRA, worker_soft_shutdown_timeout=0.2)
    worker = project.worker("-c", "1")
    project.app.send_task("tasks.holds_its_process", ("k",)).get(timeout=30)

    assert worker.stop() == 0, worker.tell()


def test_finished_tasks_whose_results_could_not_be_stored_are_not_run_again(
    make_project: Callable[..., Project], tmp_path: Path
) -> None:
    results_file = tmp_path / "results.db"
    backend = f"sqlite:///{results_file}?busy_timeout_s=0.1"
    project = make_project(backend=backend, worker_lease_s=30.0)
    worker = project.worker("-c", "1")
    project.app.send_task("tasks.work", ("first",)).get(timeout=30)
    with locked(results_file):
        results = project.app.send_many(("tasks.work", (f"k{i}",)) for i in range(30))
        wait_for(lambda: len(project.ledger("end")) == 31, describe=worker.tell)
        kill(worker.children()[0])
        wait_for(lambda: "starting another" in worker.log)

    assert [result.get(timeout=30) for result in results] == [f"k{i}" for i in range(30)]
    assert max(project.ledger("begin").values()) == 1, worker.tell()


def test_a_stop_in_an_outage_waits_for_the_finished_to_be_settled(
    make_project: Callable[..., Project],
) -> None:
    project = make_project(worker_lease_s=30.0)
    url = f"{project.settings['broker']}?busy_timeout_s=0.1"
    project.rewrite(extra=EXTRA, broker=url, backend=url)
    worker = project.worker("-c", "2")
    results = [project.app.send_task("tasks.work", (f"k{i}", 0.5)) for i in range(2)]
    wait_for(lambda: len(project.ledger("begin")) == 2)
    with locked(project.database):
        wait_for(lambda: len(project.ledger("end")) == 2)
        wait_for(lambda: worker.log.count("can't settle") == 2, describe=worker.tell)
        kill(worker.children()[0])
        worker.terminate()
        wait_for(lambda: "warm shutdown" in worker.log)
        wait_for(lambda: "can't recover" in worker.log, describe=worker.tell)
        assert worker.process.poll() is None

    assert worker.wait() == 0
    assert [result.get(timeout=1) for result in results] == ["k0", "k1"]
    assert project.ledger("begin") == Counter(["k0", "k1"])


# -- limits, commands -------------------------------------------------------------------------


def test_a_hard_limit_among_threads_costs_the_neighbours_a_restart_and_no_strike(
    project: Project,
) -> None:
    worker = project.worker("--pool", "threads", "-c", "4")
    beside = [project.app.send_task("tasks.work", (f"b{i}", 1.0)) for i in range(3)]
    wait_for(lambda: len(project.ledger("begin")) == 3)
    hog = project.app.send_task("tasks.work", ("hog", 60), time_limit=0.2)

    with pytest.raises(Exception, match=r"0\.2") as caught:
        hog.get(timeout=30)
    assert caught.type.__name__ == "TimeLimitExceeded", worker.tell()
    assert [result.get(timeout=30) for result in beside] == ["b0", "b1", "b2"]
    assert project.ledger("begin")["hog"] == 1
    assert "strike" not in worker.log


@pytest.mark.parametrize("end", ["a hard limit", "a kill"])
def test_a_task_that_was_acknowledged_early_and_ended_is_told_of(
    project: Project, end: str
) -> None:
    worker = project.worker("-c", "1")
    limit = {"time_limit": 0.2} if end == "a hard limit" else {}
    result = project.app.send_task("tasks.early", ("k",), **limit)
    wait_for(lambda: project.ledger("begin")["k"])
    if end == "a kill":
        kill(worker.children()[0])

    with pytest.raises(Exception, match=r"0\.2|died while running"):
        result.get(timeout=30)
    assert project.ledger("begin")["k"] == 1


def test_a_task_that_was_acknowledged_early_can_be_terminated(project: Project) -> None:
    worker = project.worker("-c", "1")
    result = project.app.send_task("tasks.early", ("k",))
    wait_for(lambda: project.ledger("begin")["k"])

    result.revoke(terminate=True)

    wait_for(lambda: result.state == "REVOKED", describe=worker.tell)


def test_a_task_that_runs_can_be_terminated_by_its_stamp(project: Project) -> None:
    worker = project.worker("-c", "2")
    stamp = {"stamped_headers": ["tag"], "tag": "x"}
    result = project.app.send_task("tasks.work", ("k", 60), **stamp)
    wait_for(lambda: project.ledger("begin")["k"], describe=worker.tell)

    project.app.control.revoke_by_stamped_headers({"tag": ["w", "x"]}, terminate=True)

    wait_for(lambda: result.state == "REVOKED", describe=worker.tell)


def test_an_error_that_no_journal_can_hold_reaches_its_caller(project: Project) -> None:
    project.worker("-c", "1")

    with pytest.raises(ValueError, match=str(2**100)):
        project.app.send_task("tasks.huge").get(timeout=30)


TELLS = """
import multiprocessing

def told(what):
    where = "child" if multiprocessing.current_process().name != "MainProcess" else "node"
    return lambda **_: note("told", f"{where}:{what}")

for each in (
    "worker_init", "worker_before_create_process", "worker_process_init", "worker_ready",
    "worker_process_shutdown", "worker_shutting_down", "worker_shutdown",
    "task_prerun", "task_postrun", "task_failure",
):
    def receiver(each=each, **named):
        told(each)()
    getattr(app.signals, each).connect(receiver, weak=False)
app.events.add("process_stopped", lambda index, exitcode: note("told", f"exit:{exitcode}"))
"""


def test_what_happens_is_told_in_the_process_where_it_happens(
    make_project: Callable[..., Project],
) -> None:
    project = make_project(TELLS)
    worker = project.worker("-c", "1")
    project.app.send_task("tasks.add", (1, 1)).get(timeout=30)
    assert worker.stop() == 0
    first = project.ledger("told")
    project.ledger_path.write_text("")

    worker = project.worker("-c", "1")
    hog = project.app.send_task("tasks.work", ("hog", 60), time_limit=0.1)
    with pytest.raises(Exception, match=r"0\.1"):
        hog.get(timeout=30)
    worker.stop()

    expected = Counter(
        [
            "node:worker_init",
            "node:worker_before_create_process",
            "child:worker_process_init",
            "node:worker_ready",
            "child:task_prerun",
            "child:task_postrun",
            "node:worker_shutting_down",
            "child:worker_process_shutdown",
            "exit:None",
            "node:worker_shutdown",
        ]
    )
    assert first == expected
    ended = project.ledger("told")
    assert ended["node:task_failure"] == 1
    assert ended["exit:-9"] >= 1  # its successor may not have been up yet when all was stopped


# -- signals ----------------------------------------------------------------------------------


def test_a_signal_to_the_whole_group_stops_it_warm(project: Project) -> None:
    """As service managers and terminals send it."""
    worker = project.worker("-c", "2")
    results = [project.app.send_task("tasks.work", (f"k{i}", 0.5)) for i in range(2)]
    wait_for(lambda: len(project.ledger("begin")) == 2)

    os.killpg(worker.process.pid, signal.SIGTERM)

    assert worker.wait() == 0
    assert [result.get(timeout=1) for result in results] == ["k0", "k1"]
    assert project.ledger("begin") == Counter(["k0", "k1"])


def test_ctrl_c_asks_for_one_phase_at_a_time(project: Project) -> None:
    worker = project.worker("-c", "1")
    result = project.app.send_task("tasks.work", ("long", 60))
    wait_for(lambda: project.ledger("begin")["long"])
    for phase in ("warm", "soft"):
        os.killpg(worker.process.pid, signal.SIGINT)
        wait_for(lambda phase=phase: f"{phase} shutdown" in worker.log)

    assert worker.wait() == 0
    assert not result.ready()
    stats = project.app.broker.stats("celery")
    assert (stats.ready, stats.held) == (1, 0)


def test_a_cold_shutdown_gives_back_what_runs(project: Project) -> None:
    worker = project.worker("--pool", "threads", "-c", "2")
    project.app.send_task("tasks.work", ("long", 60))
    wait_for(lambda: project.ledger("begin")["long"])

    worker.process.send_signal(signal.SIGQUIT)

    assert worker.wait() == 0
    stats = project.app.broker.stats("celery")
    assert (stats.ready, stats.held) == (1, 0), worker.tell()
    assert "strike" not in worker.log


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the fork server is for Linux")
def test_children_outlive_the_server_that_they_were_forked_from(project: Project) -> None:
    worker = project.worker("-c", "1")
    result = project.app.send_task("tasks.work", ("long", 0.5))
    wait_for(lambda: project.ledger("begin")["long"])
    before = fork_server(worker)
    kill(before)

    assert result.get(timeout=30) == "long"
    # Nobody is its parent any more but init.
    (pid,) = {int(pid) for _, _, pid, _ in project.lines()}
    assert title(pid).startswith("umbel-child")
    kill(pid)
    assert project.app.send_task("tasks.work", ("after",)).get(timeout=30) == "after"

    assert project.ledger("begin") == Counter(["long", "after"])
    assert fork_server(worker) != before
    assert not is_alive(before)


# -- a broker or backend that takes its time ---------------------------------------------------

ONLY_IN_SUPERVISOR = """
import ctypes, sys
from umbel.builtin.sqlite.{module} import {owner}

_method, _supervisor = {owner}.{method}, os.getpid()

def slow(self, *args):
    if os.getpid() == _supervisor:
        note("asked", "{method}")
        time.sleep({seconds})
    return _method(self, *args)

{owner}.{method} = slow


@app.task
def wedge(key):
    note("begin", key)
    ctypes.PyDLL(None).sleep(60)  # and keeps the interpreter's lock meanwhile


@app.task(time_limit=1)
def limited():
    time.sleep(60)
"""


def test_what_a_child_had_finished_is_settled_though_the_shutdown_is_cold(
    make_project: Callable[..., Project],
) -> None:
    slow_store = {"module": "backend", "owner": "SqliteBackend", "method": "store"}
    project = make_project(ONLY_IN_SUPERVISOR.format(**slow_store, seconds=0.5))
    results = project.app.send_many(("tasks.add", (1, i)) for i in range(60))
    project.app.send_task("tasks.wedge", ("w",))
    worker = project.worker("-c", "1")
    wait_for(lambda: project.ledger("begin")["w"], describe=worker.tell)

    worker.process.send_signal(signal.SIGQUIT)

    assert worker.wait() == 0
    assert [each.state for each in results] == ["SUCCESS"] * 60
    assert project.app.broker.stats("celery").ready == 1, worker.tell()  # wedge, to run again


def test_an_order_to_terminate_that_the_broker_does_not_answer_holds_up_no_limit(
    make_project: Callable[..., Project],
) -> None:
    slow_held = {"module": "broker", "owner": "SqliteBroker", "method": "held"}
    project = make_project(ONLY_IN_SUPERVISOR.format(**slow_held, seconds=60))
    other = project.app.send_task("tasks.work", ("other", 60))
    worker = project.worker("-c", "2")
    wait_for(lambda: project.ledger("begin")["other"], describe=worker.tell)
    project.app.control.revoke(other.id, terminate=True)
    wait_for(lambda: project.ledger("asked")["held"], describe=worker.tell)

    project.app.send_task("tasks.limited")

    wait_for(lambda: "over its hard time limit of 1 s" in worker.log, 30, worker.tell)
