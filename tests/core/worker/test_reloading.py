"""A worker that is told to reload runs new code under its old process id."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from project import Project, WorkerProcess, descendants, kill, wait_for

from umbel.worker.reloading import Reloader, Restart

pytestmark = pytest.mark.skipif(os.name == "nt", reason="signals of POSIX")

OLD, NEW = "return 'old'", "return 'new'"
EXTRA = f"""
@app.task
def version():
    {OLD}
"""


@pytest.fixture
def project(tmp_path: Path) -> Iterator[Project]:
    made = Project(tmp_path / "project", extra=EXTRA)
    yield made
    made.close()


def edit(project: Project, old: str, new: str) -> None:
    """Change the source of the tasks, as an editor does: by another file in its place."""
    path = project.folder / "tasks.py"
    text = path.read_text()
    assert old in text
    (project.folder / "tasks.new").write_text(text.replace(old, new))
    (project.folder / "tasks.new").replace(path)


def version(project: Project) -> object:
    return project.app.send_task("tasks.version").get(timeout=60)


def readies(worker: WorkerProcess) -> int:
    return worker.log.count(" ready")


def zombies(pid: int) -> list[int]:
    """Return which processes below `pid` have ended and nobody has noticed."""
    found = []
    for below in descendants(pid):
        try:
            state = Path(f"/proc/{below}/stat").read_text().rpartition(")")[2].split()[0]
        except OSError:
            continue
        if state == "Z":
            found.append(below)
    return found


@pytest.mark.parametrize("options", [("-c", "2"), ("--pool", "solo")], ids=" ".join)
def test_after_a_hangup_new_code_runs_in_the_same_process(
    project: Project, options: tuple[str, ...]
) -> None:
    worker = project.worker(*options)
    pid = worker.process.pid
    assert version(project) == "old"
    running = project.app.send_task("tasks.work", ("long", 0.5))
    wait_for(lambda: project.ledger("begin")["long"])
    edit(project, OLD, NEW)

    os.kill(pid, signal.SIGHUP)
    wait_for(lambda: readies(worker) == 2, 60, worker.tell)

    assert running.get(timeout=30) == "long"
    assert version(project) == "new"
    assert worker.process.poll() is None
    assert not zombies(pid)
    environment = Path(f"/proc/{pid}/environ").read_bytes() if Path("/proc/self").exists() else b""
    assert b"UMBEL_" not in environment
    assert worker.stop() == 0
    assert project.ledger("begin") == project.ledger("end") == {"long": 1}


def test_a_worker_told_to_reload_code_that_cannot_be_loaded_goes_on_with_the_old(
    project: Project,
) -> None:
    worker = project.worker("-c", "1")
    edit(project, OLD, "return 'unfinished")

    os.kill(worker.process.pid, signal.SIGHUP)
    wait_for(lambda: "not reloaded, the old code goes on" in worker.log, 60, worker.tell)

    assert "unterminated string" in worker.log
    assert version(project) == "old"
    assert (readies(worker), worker.stop()) == (1, 0)


def test_a_worker_told_to_stop_while_it_reloads_stops(project: Project) -> None:
    worker = project.worker("-c", "1")
    project.app.send_task("tasks.work", ("long", 1.5))
    wait_for(lambda: project.ledger("begin")["long"])
    os.kill(worker.process.pid, signal.SIGHUP)
    wait_for(lambda: "warm shutdown" in worker.log, 60, worker.tell)

    assert worker.stop() == 0
    assert readies(worker) == 1
    assert project.ledger("end")["long"] == 1


def test_a_worker_told_to_stop_as_it_starts_anew_stops_in_order(project: Project) -> None:
    worker = project.worker("--pool", "solo")
    os.kill(worker.process.pid, signal.SIGHUP)
    wait_for(lambda: "warm shutdown" in worker.log, 60, worker.tell)
    # The old program has nothing left to do, and the new one isn't there yet.
    wait_for(lambda: starting(worker) or readies(worker) == 2)

    assert worker.stop() == 0, worker.tell()


def starting(worker: WorkerProcess) -> bool:
    """Tell whether a process has no handlers yet: a new program in it has just begun."""
    status = Path(f"/proc/{worker.process.pid}/status")
    if not status.exists():
        return True
    caught = next(line for line in status.read_text().splitlines() if line.startswith("SigCgt"))
    return not int(caught.split()[1], 16) >> (signal.SIGTERM - 1) & 1


# -- on changes of files ----------------------------------------------------------------------


def test_a_change_of_a_file_has_the_new_code_run(project: Project) -> None:
    worker = project.worker("--reload", "--pool", "solo")
    assert version(project) == "old"

    edit(project, OLD, NEW)
    wait_for(lambda: readies(worker) == 2, 60, worker.tell)

    assert "reloading (tasks.py)" in worker.log
    assert version(project) == "new"
    assert worker.stop() == 0


def test_broken_code_waits_for_the_next_change(project: Project) -> None:
    worker = project.worker("--reload", "-c", "1")
    edit(project, OLD, "return 'unfinished")
    wait_for(lambda: "not reloaded" in worker.log, 60, worker.tell)
    assert version(project) == "old"

    edit(project, "return 'unfinished", NEW)
    wait_for(lambda: readies(worker) == 2, 60, worker.tell)

    assert version(project) == "new"
    assert worker.log.count("not reloaded") == 1


# -- the reloader -----------------------------------------------------------------------------


@pytest.fixture
def make_restart() -> Callable[..., Restart]:
    """A restart whose check runs `code`."""

    def make(code: str, command: str = "/no/such/program") -> Restart:
        return Restart(command=[command], check=[sys.executable, "-c", textwrap.dedent(code)])

    return make


def test_the_worker_is_stopped_once_the_check_is_passed(
    make_restart: Callable[..., Restart],
) -> None:
    stopped: list[str] = []
    done = threading.Event()
    reloader = Reloader(make_restart("pass"), lambda: (stopped.append("stop"), done.set()))
    reloader.start()
    reloader.request()
    assert done.wait(30)
    reloader.request()
    reloader.cancel()
    reloader.finish()  # which would execute nothing, if it were not cancelled

    assert stopped == ["stop"]


def test_a_check_that_hangs_is_ended_with_the_worker(
    make_restart: Callable[..., Restart], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    begun = tmp_path / "begun"
    code = f"import time; open({str(begun)!r}, 'w').close(); time.sleep(60)"
    reloader = Reloader(make_restart(code), lambda: None)
    reloader.start()
    reloader.request()
    wait_for(begun.exists)
    began = time.monotonic()

    reloader.finish()

    assert time.monotonic() - began < 20


def test_a_process_that_the_checked_code_has_started_holds_nothing_up(
    make_restart: Callable[..., Restart], tmp_path: Path
) -> None:
    left = tmp_path / "left"
    code = f"""
        import subprocess, sys
        from pathlib import Path
        other = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
        Path({str(left)!r}).write_text(str(other.pid))
        """
    done = threading.Event()
    reloader = Reloader(make_restart(code), done.set)
    reloader.start()
    began = time.monotonic()
    reloader.request()
    try:
        assert done.wait(30)
        reloader.cancel()
        reloader.finish()
    finally:
        kill(int(left.read_text()))

    assert time.monotonic() - began < 30


def test_a_program_that_is_gone_ends_the_worker_with_a_failure(
    make_restart: Callable[..., Restart],
) -> None:
    done = threading.Event()
    reloader = Reloader(make_restart("pass"), done.set)
    reloader.start()
    reloader.request()
    assert done.wait(30)
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, ())
    try:
        with pytest.raises(SystemExit) as caught:
            reloader.finish()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)

    assert caught.value.code == 1


def test_a_process_in_a_session_of_its_own_has_no_terminal() -> None:
    code = f"import sys; sys.path[:] = {sys.path!r}; " + textwrap.dedent(
        """
        from umbel.worker.surroundings import has_terminal
        print(has_terminal())
        """
    ).replace("\n", "; ").strip("; ")
    alone = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        start_new_session=True,
        check=True,
    )
    leader, follower = os.openpty()
    take = "import fcntl, termios; fcntl.ioctl(0, termios.TIOCSCTTY, 0); "
    try:
        on_terminal = subprocess.run(
            [sys.executable, "-c", take + code],
            stdin=follower,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
            check=True,
        )
    finally:
        os.close(leader)
        os.close(follower)

    assert (alone.stdout, on_terminal.stdout) == ("False\n", "True\n")
