"""One Redis with a Celery worker, an umbel worker, and a client of each; the tasks are the same.

Queue ``celery`` is the Celery worker's, ``umbel`` the umbel worker's, ``shared`` both's.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from textwrap import dedent
from typing import Any

from project import WorkerProcess, kill, wait_for
from redis_servers import RedisServer

from umbel import Umbel

TASKS = """
import os, time
from flavour import NAME, app

_ledger = os.open(os.environ["LEDGER"], os.O_WRONLY | os.O_APPEND | os.O_CREAT)


class ProjectError(Exception):
    pass


def note(key):
    os.write(_ledger, f"{key} {NAME} {time.time():.4f}\\n".encode())


@app.task
def add(*numbers):
    return sum(numbers)


@app.task
def who(*_):
    return NAME


@app.task
def same(*values, **named):
    return [list(values), named] if named else list(values)


@app.task
def kinds(*values):
    return [type(each).__name__ for each in values]


@app.task
def work(key, seconds=0.0):
    time.sleep(seconds)
    note(key)
    return key


@app.task
def fail(*args):
    raise ValueError(*args)


@app.task
def fail_in_its_way(*args):
    raise ProjectError(*args)


@app.task(bind=True, max_retries=5)
def flaky(self, key, failures, countdown=0):
    note(key)
    if self.request.retries < failures:
        raise self.retry(exc=KeyError("again"), countdown=countdown)
    return self.request.retries


@app.task(ignore_result=True)
def silent(key):
    note(key)
    return key


@app.task
def told(task_id):
    note(f"told-{task_id}")


@app.task
def told_of(request, exc, traceback):
    note(f"told-of-{request.id}-{type(exc).__name__}-{bool(traceback)}")


@app.task(soft_time_limit=0.2)
def linger():
    time.sleep(10)


@app.task(bind=True)
def context(self):
    request = self.request
    return [request.id, request.root_id, request.parent_id, request.group, request.retries]


@app.task(bind=True)
def stamps(self, *_, runs=1):
    if self.request.retries + 1 < runs:
        raise self.retry(countdown=0)
    return [NAME, sorted(self.request.stamped_headers or ()), self.request.stamps or {}]


@app.task(bind=True)
def note_stamps(self, *_):
    note(f"{self.request.stamps.get('key')}-{sorted(self.request.stamps)}".replace(" ", ""))
"""

CELERY = """
import json, os
from celery import Celery

NAME = "celery"
app = Celery("tasks", broker=os.environ["REDIS"], backend=os.environ["REDIS"])
app.conf.update(result_extended=True, worker_hijack_root_logger=False)
"""

UMBEL = """
import os
from umbel import Umbel

NAME = "umbel"
app = Umbel("tasks", broker=os.environ["REDIS"], backend=os.environ["REDIS"], worker_lease_s=5.0)
"""

#: What a Celery client runs: Python from each line, the value of its last expression back.
CLIENT = """
import ast, datetime, decimal, json, sys, time, uuid
import celery.exceptions
from celery import chain, chord, group, signature
from celery.canvas import StampingVisitor
from celery.result import AsyncResult, GroupResult
import tasks
from tasks import app

space = dict(globals())
for line in sys.stdin:
    try:
        tree = ast.parse(json.loads(line))
        last = tree.body.pop()
        exec(compile(tree, "test", "exec"), space)
        value = eval(compile(ast.Expression(last.value), "test", "eval"), space)
        answer = {"value": value}
    except BaseException as exc:
        answer = {"error": [type(exc).__name__, str(exc)]}
    print(json.dumps(answer), flush=True)
"""


class RemoteError(Exception):
    """What the code of a Celery client raised: class name and text."""


class CeleryClient:
    """A process that imports Celery, for code to be run in."""

    def __init__(self, python: Path, folder: Path, environment: Mapping[str, str]):
        self._process = subprocess.Popen(
            [str(python), "client.py"],
            cwd=folder,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def run(self, code: str) -> Any:
        """Run `code`, which ends with an expression; return its value. Raises: RemoteError."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(dedent(code).strip()) + "\n")
        self._process.stdin.flush()
        answer = json.loads(self._process.stdout.readline())
        if "error" in answer:
            raise RemoteError(*answer["error"])
        return answer["value"]

    def close(self) -> None:
        """End the process."""
        self._process.kill()
        self._process.communicate()


class CeleryWorker:
    """A Celery worker as a process."""

    def __init__(
        self, python: Path, folder: Path, environment: Mapping[str, str], queues: str, name: str
    ):
        self.log_path = folder / f"{name}.log"
        self._log = self.log_path.open("wb")
        command = ["celery", "-A", "tasks", "worker", "-P", "solo", "-l", "INFO", "-Q", queues]
        quiet = ["--without-gossip", "--without-mingle", "--without-heartbeat"]
        self.process = subprocess.Popen(
            [str(python), "-m", *command, "-n", f"{name}@here", *quiet],
            cwd=folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=self._log,
            stderr=self._log,
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
        return f"Celery's log:\n{self.log[-4000:]}"

    def close(self) -> None:
        """End it."""
        if self.process.poll() is None:
            kill(self.process.pid)
        self.process.wait(30)
        self._log.close()


class Fleet:
    """All of it, started; `close` ends it."""

    def __init__(self, celery_python: Path, folder: Path):
        self.folder, self.celery_python = folder, celery_python
        self.server = RedisServer(folder / "redis")
        self.server.start()
        self.url = self.server.url
        self.ledger_path = folder / "ledger"
        self.ledger_path.touch()
        for flavour, text in (("celery", CELERY), ("umbel", UMBEL)):
            home = folder / flavour
            home.mkdir()
            (home / "tasks.py").write_text(TASKS)
            (home / "flavour.py").write_text(text)
            (home / "client.py").write_text(CLIENT)
        self.app = Umbel("tests", broker=self.url, backend=self.url)
        self.celery = CeleryClient(celery_python, folder / "celery", self.environment())
        self.workers: list[WorkerProcess | CeleryWorker] = []
        self._log_count = 0

    def start(self) -> None:
        """Start both workers; return when they are ready."""
        started = (self.celery_worker("celery,shared"), self.umbel_worker("umbel,shared"))
        for worker in started:
            worker.wait_ready()

    def celery_worker(self, queues: str) -> CeleryWorker:
        """Start a Celery worker; it isn't ready yet."""
        self._log_count += 1
        name = f"celery-{self._log_count}"
        worker = CeleryWorker(
            self.celery_python, self.folder / "celery", self.environment(), queues, name
        )
        self.workers.append(worker)
        return worker

    def umbel_worker(self, queues: str, *options: str) -> UmbelWorker:
        """Start an umbel worker; it isn't ready yet."""
        self._log_count += 1
        worker = UmbelWorker(self, queues, options, f"umbel-{self._log_count}")
        self.workers.append(worker)
        return worker

    def environment(self) -> dict[str, str]:
        """Return the environment of all processes."""
        return {
            **os.environ,
            "REDIS": self.url,
            "LEDGER": str(self.ledger_path),
            "PYTHONUNBUFFERED": "1",
        }

    def ledger(self) -> Counter[str]:
        """Return how often each key was noted."""
        return Counter(line[0] for line in self.lines())

    def lines(self) -> list[list[str]]:
        """Return the ledger's lines, split: key, flavour, time."""
        return [line.split() for line in self.ledger_path.read_text().splitlines()]

    def tell(self) -> str:
        """Return the ends of all logs, for a failing test."""
        return "\n".join(worker.tell() for worker in self.workers)

    def close(self) -> None:
        """End what was started."""
        self.celery.close()
        self.app.close()
        for worker in self.workers:
            worker.close()
        self.server.close()


class UmbelWorker(WorkerProcess):
    """An umbel worker as a process."""

    def __init__(self, fleet: Fleet, queues: str, options: tuple[str, ...], name: str):
        home = fleet.folder / "umbel"
        self.log_path = home / f"{name}.log"
        self._log = self.log_path.open("wb")
        command = ["umbel", "-A", "tasks", "worker", "-l", "INFO", "-c", "2", "-Q", queues]
        self.process = subprocess.Popen(
            [sys.executable, "-m", *command, "-n", f"{name}@here", *options],
            cwd=home,
            env=fleet.environment(),
            stdin=subprocess.DEVNULL,
            stdout=self._log,
            stderr=self._log,
            start_new_session=True,
        )

    def close(self) -> None:
        """End it."""
        self.kill_all()
