"""A user's project on SQLite: a module of tasks, workers as real processes, a ledger.

The ledger is a file outside of umbel that every task body writes to as it begins and ends: what
it says has happened has happened, whatever umbel thinks.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

from umbel import Umbel

TASKS = """
import asyncio, os, signal, time
from umbel import Umbel

app = Umbel("tasks", **{settings!r})
_ledger = os.open(os.environ["LEDGER"], os.O_WRONLY | os.O_APPEND | os.O_CREAT)


def note(what, key):
    os.write(_ledger, f"{{what}} {{key}} {{os.getpid()}} {{time.time():.4f}}\\n".encode())


@app.task
def add(x, y):
    return x + y


@app.task
def work(key, seconds=0.0):
    note("begin", key)
    if seconds:
        time.sleep(seconds)
    note("end", key)
    return key


@app.task
async def nap(key, seconds):
    note("begin", key)
    await asyncio.sleep(seconds)
    note("end", key)
    return key


@app.task
def die(key):
    note("begin", key)
    os.kill(os.getpid(), signal.SIGKILL)


@app.task(bind=True, max_retries=3, default_retry_delay=0.05)
def flaky(self, key, failures):
    note("begin", key)
    if self.request.retries < failures:
        raise self.retry(exc=ValueError(f"failure {{self.request.retries}}"))
    return self.request.retries


@app.task
def fail(text):
    raise ValueError(text)
{extra}
"""


class Project:
    """A folder with a module ``tasks``, its app, and the workers that were started on it."""

    def __init__(self, folder: Path, extra: str = "", **settings: object):
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.database = folder / "queue.db"
        url = f"sqlite:///{self.database}"
        self.settings: dict[str, object] = {
            "broker": url,
            "backend": url,
            "worker_lease_s": 5.0,
            **settings,
        }
        self.ledger_path = folder / "ledger"
        self.ledger_path.touch()
        (folder / "tasks.py").write_text(TASKS.format(settings=self.settings, extra=extra))
        self.app = Umbel("tasks", **self.settings)
        self.workers: list[WorkerProcess] = []

    def rewrite(self, extra: str = "", **settings: object) -> None:
        """Add tasks or settings to the module, before the first worker starts."""
        self.settings |= settings
        text = TASKS.format(settings=self.settings, extra=extra)
        (self.folder / "tasks.py").write_text(text)
        self.app.close()
        self.app = Umbel("tasks", **self.settings)

    def worker(self, *options: str, wait: bool = True) -> WorkerProcess:
        """Start a worker; returns when it is ready, unless told not to wait."""
        started = WorkerProcess(self, options)
        self.workers.append(started)
        if wait:
            started.wait_ready()
        return started

    def umbel(self, *arguments: str, **options: object) -> subprocess.CompletedProcess[str]:
        """Run an umbel command to its end."""
        return subprocess.run(
            [sys.executable, "-m", "umbel", *arguments],
            cwd=self.folder,
            env=self.environment(),
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
            **options,  # type: ignore[call-overload]
        )

    def environment(self) -> dict[str, str]:
        """Return the environment of the project's processes."""
        return {**os.environ, "LEDGER": str(self.ledger_path), "PYTHONUNBUFFERED": "1"}

    def ledger(self, what: str) -> Counter[str]:
        """Return how often each key was noted under `what`."""
        found: Counter[str] = Counter()
        for kind, key, *_ in self.lines():
            if kind == what:
                found[key] += 1
        return found

    def lines(self) -> Iterator[list[str]]:
        """Yield the ledger's lines, split: what, key, pid, time."""
        whole, _, _ = self.ledger_path.read_text().rpartition("\n")  # the last may be half there
        for line in whole.splitlines():
            yield line.split()

    def close(self) -> None:
        """End what was started."""
        for worker in self.workers:
            worker.kill_all()
        self.app.close()


class WorkerProcess:
    """A worker started as a user would."""

    def __init__(self, project: Project, options: tuple[str, ...]):
        self.log_path = project.folder / f"worker-{len(project.workers)}.log"
        self._log = self.log_path.open("wb")
        self.process = subprocess.Popen(
            [sys.executable, "-m", "umbel", "-A", "tasks", "worker", "-l", "INFO", *options],
            cwd=project.folder,
            env=project.environment(),
            stdin=subprocess.DEVNULL,
            stdout=self._log,
            stderr=self._log,
            start_new_session=True,
        )

    @property
    def log(self) -> str:
        """What it has logged."""
        return self.log_path.read_text(errors="replace")

    def wait_ready(self) -> None:
        """Wait until it consumes."""
        wait_for(lambda: " ready" in self.log or self.process.poll() is not None, 60, self.tell)
        assert self.process.poll() is None, self.tell()

    def tell(self) -> str:
        """Return the end of the log, for a failing test."""
        return f"worker log:\n{self.log[-4000:]}"

    def children(self) -> list[int]:
        """Return the pids of the processes that run its tasks."""
        return [pid for pid in descendants(self.process.pid) if "umbel-child" in title(pid)]

    def terminate(self) -> None:
        """Ask it to stop."""
        self.process.terminate()

    def stop(self) -> int:
        """Ask it to stop and return its exit code."""
        self.process.terminate()
        return self.wait()

    def wait(self, timeout_s: float = 60) -> int:
        """Wait for its end; returns the exit code."""
        try:
            return self.process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"the worker didn't end\n{self.tell()}") from None

    def kill_all(self) -> None:
        """Kill the whole node at once."""
        if self.process.poll() is None:
            for pid in [self.process.pid, *descendants(self.process.pid)]:
                kill(pid)
            self.process.wait(30)
        self._log.close()


def descendants(pid: int) -> list[int]:
    """Return the pids of all processes below `pid`."""
    found: list[int] = []
    todo = [pid]
    while todo:
        parent = todo.pop()
        for thread in threads_of(parent):
            try:
                below = [int(each) for each in (thread / "children").read_text().split()]
            except OSError:
                continue
            found += below
            todo += below
    return found


def threads_of(pid: int) -> list[Path]:
    """Return where the kernel tells of the threads of a process; none, if it is gone."""
    try:
        return list(Path(f"/proc/{pid}/task").iterdir())
    except OSError:
        return []


def title(pid: int) -> str:
    """Return what a process is, by its environment-independent name."""
    try:
        return Path(f"/proc/{pid}/comm").read_text().strip()
    except OSError:
        return ""


def kill(pid: int) -> None:
    """End a process at once, if it is there."""
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return


def wait_for(
    condition: Callable[[], object],
    timeout_s: float = 30,
    describe: Callable[[], str] = lambda: "",
) -> None:
    """Wait until `condition` holds."""
    ends_at = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > ends_at:
            raise AssertionError(f"not so within {timeout_s} s\n{describe()}")
        time.sleep(0.01)
