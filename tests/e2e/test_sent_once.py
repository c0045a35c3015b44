"""One id, sent by many at once: one task runs, and all others are told so."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from project import Project, wait_for

from umbel import Umbel
from umbel.errors import AlreadySentError

PROCESSES = 8
CALLS_EACH = 125

#: Sends two ids again and again, as soon as a file is there; prints what came of it.
SENDER = """
import json, pathlib, sys, time
from tasks import app
from umbel.errors import AlreadySentError

calls, number = int(sys.argv[1]), sys.argv[2]
work, told, ids = app.tasks["tasks.work"], 0, []
app.broker.check()
pathlib.Path("ready-" + number).touch()
while not pathlib.Path("go").exists():
    time.sleep(0.001)
for _ in range(calls):
    ids.append(work.apply_async(("yours",), task_id="yours", on_conflict="return").id)
    try:
        ids.append(work.apply_async(("mine",), task_id="mine").id)
    except AlreadySentError as error:
        assert error.task_ids == ("mine",)
        told += 1
print(json.dumps({"told": told, "ids": ids}))
"""


def test_a_thousand_sends_of_one_id_by_eight_processes_are_one_task(project: Project) -> None:
    project.worker("-c", "1")
    (project.folder / "sender.py").write_text(SENDER)
    senders = [
        subprocess.Popen(
            [sys.executable, "sender.py", str(CALLS_EACH), str(number)],
            cwd=project.folder,
            env=project.environment(),
            stdout=subprocess.PIPE,
            text=True,
        )
        for number in range(PROCESSES)
    ]
    wait_for(lambda: len([*project.folder.glob("ready-*")]) == PROCESSES)
    (project.folder / "go").touch()
    answers = [json.loads(sender.communicate(timeout=120)[0]) for sender in senders]

    assert sum(answer["told"] for answer in answers) == 999
    ids = Counter(task_id for answer in answers for task_id in answer["ids"])
    assert ids == Counter(mine=1, yours=1000)
    for key in ("mine", "yours"):
        assert project.app.AsyncResult(key).get(timeout=30) == key
    assert project.app.send_task("tasks.work", ("after",)).get(timeout=30) == "after"
    assert project.ledger("begin") == Counter(mine=1, yours=1, after=1)


def test_a_thousand_sends_of_one_id_by_threads_are_one_task() -> None:
    app = Umbel("proj", broker="memory://")
    runs: list[str] = []

    @app.task(name="proj.work")
    def work(key: str) -> str:
        runs.append(key)
        return key

    begin = threading.Barrier(PROCESSES)

    def send(_: int) -> list[bool]:
        begin.wait()
        return [told() for _ in range(CALLS_EACH)]

    def told() -> bool:
        try:
            work.apply_async(("once",), task_id="mine")
        except AlreadySentError:
            return True
        return False

    with app, app.worker(pool="threads", concurrency=2):
        with ThreadPoolExecutor(PROCESSES) as threads:
            answers = [each for told in threads.map(send, range(PROCESSES)) for each in told]
        work.apply_async(("after",)).get(timeout=30)

    assert Counter(answers) == Counter({True: 999, False: 1})
    assert sorted(runs) == ["after", "once"]


def test_senders_to_a_queue_that_blocks_keep_to_its_bound_and_lose_nothing(tmp_path: Path) -> None:
    project = Project(
        tmp_path / "project",
        task_queues={"celery": {"max_length": 20, "overflow": "block"}},
        task_publish_deadline_s=60.0,
    )
    try:
        peak = Watch(project)
        project.worker("-c", "1")
        with ThreadPoolExecutor(4) as threads:
            work = project.app.send_task
            sent = list(threads.map(lambda i: work("tasks.work", (f"w{i}", 0.005)), range(200)))
        assert [result.get(timeout=60) for result in sent] == [f"w{i}" for i in range(200)]
        assert peak.highest() < 100  # what the worker gives back unstarted goes beyond the bound
        assert project.ledger("begin") == Counter(f"w{i}" for i in range(200))
    finally:
        project.close()


class Watch:
    """Looks again and again how many messages wait."""

    def __init__(self, project: Project) -> None:
        self._broker = project.app.open_broker()
        self._over = threading.Event()
        self._highest = 0
        self._thread = threading.Thread(target=self._look)
        self._thread.start()

    def highest(self) -> int:
        """Stop looking; return the most that waited at once."""
        self._over.set()
        self._thread.join()
        self._broker.close()
        return self._highest

    def _look(self) -> None:
        while not self._over.wait(0.002):
            stats = self._broker.stats("celery")
            self._highest = max(self._highest, stats.ready + stats.delayed)
