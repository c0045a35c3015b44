"""A child that is connected and consumes nothing is found and replaced."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from project import Project, wait_for

pytestmark = pytest.mark.faults

#: A plugin whose broker hangs in one receive, for whoever finds the file ``hang`` first.
HOOKS = """
import os, threading
from umbel.builtin.sqlite.broker import SqliteBroker
from umbel.hookspecs import hookimpl


class HangingBroker(SqliteBroker):
    def receive(self, queues, *, max_messages, wait_s):
        try:
            os.unlink(os.environ["HANG"])
        except FileNotFoundError:
            return super().receive(queues, max_messages=max_messages, wait_s=min(wait_s, 0.2))
        got = super().receive(queues, max_messages=max_messages, wait_s=wait_s)
        threading.Event().wait()
        return got


def open_broker(url, *, options, clock):
    return HangingBroker("sqlite" + url.removeprefix("hanging"), options=options, clock=clock)


@hookimpl
def umbel_brokers():
    return {"hanging": open_broker}
"""


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Project]:
    folder = tmp_path / "project"
    extra = f'app.conf.broker_url = "hanging:///{folder / "queue.db"}"'
    made = Project(folder, extra=extra, worker_consume_timeout_s=7.0)
    info = folder / "umbel_hanging-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: umbel-hanging\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[umbel]\nhanging = hanging_hooks\n")
    (folder / "hanging_hooks.py").write_text(HOOKS)
    monkeypatch.setenv("HANG", str(folder / "hang"))
    yield made
    made.close()


def test_a_receive_that_never_returns_costs_its_process_and_nothing_else(project: Project) -> None:
    workers = [project.worker("--pool", pool, "-c", "1") for pool in ("process", "threads")]
    hung = [pid for worker in workers for pid in worker.children()]
    hang = project.folder / "hang"
    for _ in workers:
        hang.touch()
        wait_for(lambda: not hang.exists(), 30, workers[0].tell)
    sent = [project.app.send_task("tasks.work", (f"w{i}",)) for i in range(5)]

    assert [each.get(timeout=60) for each in sent] == [f"w{i}" for i in range(5)]
    for pid, worker in zip(hung, workers, strict=True):
        said = f"(pid {pid}) hasn't come back from the broker for"
        wait_for(lambda text=said, worker=worker: text in worker.log, 30, worker.tell)
        wait_for(lambda pid=pid, worker=worker: pid not in worker.children(), 30, worker.tell)
        assert "strike" not in worker.log
    assert set(project.ledger("begin").values()) == {1}
