"""Everything at once: python bench/chaos.py [SEED] [SECONDS]

Nodes of mixed pools work while children and nodes are killed, frozen and restarted, and broker
and backend are locked or taken away. Then all heals, and the ledger of the tasks is held against
what was sent: lost, begun or ended too often, without a result, left in the queue.
"""

from __future__ import annotations

import os
import random
import signal
import sqlite3
import sys
import tempfile
import threading
import time
from collections import Counter
from contextlib import closing, suppress
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests" / "support"))

from project import Project, WorkerProcess, descendants, kill, wait_for

from umbel.errors import UmbelError

TASKS = """

@app.task
def follow(result, key):
    note("begin", "f-" + key)
    note("end", "f-" + key)


@app.task(bind=True, max_retries=5, default_retry_delay=0.05)
def wobbly(self, key):
    note("begin", key)
    if not self.request.retries:
        raise self.retry()
    note("end", key)
"""
POOLS = [
    ("-c", "2"),
    ("--pool", "threads", "-c", "4"),
    ("--pool", "asyncio", "-c", "8"),
    ("-c", "1", "--max-tasks-per-child", "50"),
]
FAULTS = ["kill_child"] * 3 + ["kill_node", "restart", "freeze", "freeze", "lock", "lock", "take"]


class Chaos:
    """A project under attack."""

    def __init__(self, folder: Path, seed: int):
        self.folder, self.random = folder, random.Random(seed)
        self.files = [folder / "b" / "jobs.db", folder / "r" / "results.db"]
        for file in self.files:
            file.parent.mkdir()
        broker, backend = (f"sqlite:///{file}" for file in self.files)
        self.project = Project(
            folder / "project",
            extra=TASKS,
            broker=broker,
            backend=backend,
            worker_lease_s=2.0,
            task_max_deliveries=1000,  # kills are no fault of the tasks here
        )
        #: By key: the id of each task that was accepted, and how often it begins of itself.
        self.sent: dict[str, tuple[str, int]] = {}
        self.follow_ups: set[str] = set()
        self.refused: Counter[str] = Counter()
        self.faults: Counter[str] = Counter()
        self.nodes = [self.project.worker(*options) for options in POOLS[:3]]
        self.ended: list[WorkerProcess] = []
        self.frozen: list[tuple[float, list[int]]] = []
        self.stopping = threading.Event()

    # -- load -----------------------------------------------------------------------------------

    def send_forever(self) -> None:
        chance, number = random.Random(self.random.random()), 0
        while not self.stopping.wait(0.05):
            for _ in range(20):
                number += 1
                try:
                    self.send(chance, f"k{number}")
                except UmbelError as exc:
                    self.refused[type(exc).__name__] += 1

    def send(self, chance: random.Random, key: str) -> None:
        app, kind = self.project.app, chance.random()
        begins = 1
        if kind < 0.5:
            result = app.send_task("tasks.work", (key, chance.choice([0, 0.002, 0.02])))
        elif kind < 0.65:
            result = app.send_task("tasks.nap", (key, 0.01))
        elif kind < 0.8:
            result, begins = app.send_task("tasks.wobbly", (key,)), 2
        elif kind < 0.9:
            link = {"task": "tasks.follow", "args": [key], "kwargs": {}, "options": {}}
            result = app.send_task("tasks.work", (key, 0.005), link=link)
            self.follow_ups.add(f"f-{key}")
        else:
            seconds = chance.uniform(0.1, 1.0)
            result = app.send_task(
                "tasks.work", (key, seconds), countdown=chance.choice([None, 0.5])
            )
        self.sent[key] = (result.id, begins)

    # -- faults ---------------------------------------------------------------------------------

    def act(self) -> None:
        name = self.random.choice(FAULTS)
        self.faults[name] += 1
        living = [node for node in self.nodes if node.process.poll() is None]
        if name in ("lock", "take"):
            getattr(self, f"_{name}")(self.random.choice(self.files))
        elif living:
            getattr(self, f"_{name}")(self.random.choice(living))

    def _kill_child(self, node: WorkerProcess) -> None:
        if children := node.children():
            kill(self.random.choice(children))

    def _kill_node(self, node: WorkerProcess) -> None:
        node.kill_all()
        self._replace(node)

    def _restart(self, node: WorkerProcess) -> None:
        node.terminate()
        self.ended.append(node)
        self._replace(node)

    def _replace(self, node: WorkerProcess) -> None:
        self.nodes.remove(node)
        self.nodes.append(self.project.worker(*self.random.choice(POOLS), wait=False))

    def _freeze(self, node: WorkerProcess) -> None:
        pids = [node.process.pid, *descendants(node.process.pid)]
        signal_all(pids, signal.SIGSTOP)
        self.frozen.append((time.monotonic() + self.random.uniform(0.5, 5.0), pids))

    def thaw(self, until: float) -> None:
        for frozen in [each for each in self.frozen if each[0] <= until]:
            self.frozen.remove(frozen)
            signal_all(frozen[1], signal.SIGCONT)

    def _lock(self, file: Path) -> None:
        with closing(sqlite3.connect(file, isolation_level=None, timeout=30)) as cx:
            cx.execute("BEGIN EXCLUSIVE")
            time.sleep(self.random.uniform(0.1, 2.0))
            cx.execute("ROLLBACK")

    def _take(self, file: Path) -> None:
        away = file.parent.rename(self.folder / "away")
        time.sleep(self.random.uniform(0.1, 1.5))
        away.rename(file.parent)

    # -- the account ----------------------------------------------------------------------------

    def run(self, seconds: float) -> None:
        sender = threading.Thread(target=self.send_forever)
        sender.start()
        ends_at = time.monotonic() + seconds
        while time.monotonic() < ends_at:
            time.sleep(self.random.uniform(0.1, 0.5))
            self.thaw(time.monotonic())
            self.act()
        self.stopping.set()
        sender.join()
        self.thaw(float("inf"))

    def account(self) -> bool:
        """Print the figures; tell whether they are as they must be."""
        healed_at = time.monotonic()
        for node in [each for each in self.nodes if each.process.poll() is not None]:
            print("ended by itself:", node.process.returncode, node.log[-300:].strip())
            self._replace(node)
        keys = set(self.sent) | self.follow_ups
        ledger = self.project.ledger
        with suppress(AssertionError):
            wait_for(lambda: keys <= set(ledger("end")), 60)
            wait_for(self.is_empty, 30)
        begun, ended = ledger("begin"), ledger("end")
        results = self.project.app.backend.load([task_id for task_id, _ in self.sent.values()])
        begins = {key: self.sent.get(key, ("", 1))[1] for key in keys}
        states = Counter(str(each.state) for each in results.values())
        lost, missing = keys - set(ended), len(self.sent) - len(results)
        stats = self.project.app.broker.stats("celery")
        print(f"faults {dict(self.faults)}, refused to the sender {dict(self.refused)}")
        print(f"{len(keys)} tasks, the last {time.monotonic() - healed_at:.1f} s after the heal")
        print(f"lost {len(lost)}, results {dict(states)}, missing {missing}, dead {stats.dead}")
        print(
            f"begun again {sum(max(0, begun[key] - begins[key]) for key in keys)}, "
            f"ended again {sum(max(0, ended[key] - 1) for key in keys)}"
        )
        codes = [node.stop() for node in self.nodes] + [node.wait() for node in self.ended]
        print("exit codes", codes)
        good = set(states) <= {"SUCCESS"} and not (lost or missing or stats.dead)
        return good and self.is_empty()

    def is_empty(self) -> bool:
        stats = self.project.app.broker.stats("celery")
        return not (stats.ready or stats.held or stats.delayed)


def signal_all(pids: list[int], signum: int) -> None:
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, signum)


def main(seed: int, seconds: float) -> int:
    with tempfile.TemporaryDirectory() as folder:
        chaos = Chaos(Path(folder), seed)
        try:
            chaos.run(seconds)
            return 0 if chaos.account() else 1
        finally:
            chaos.thaw(float("inf"))
            chaos.project.close()


if __name__ == "__main__":
    arguments = sys.argv[1:]
    sys.exit(main(int(arguments[0]) if arguments else 1, float((arguments[1:] or ["15"])[0])))
