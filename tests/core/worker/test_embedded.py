"""A worker in threads of this process."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from project import wait_for

from umbel import Umbel
from umbel.errors import BrokerError, ConfigError, SoftTimeLimitExceeded
from umbel.worker import embedded

POOLS = ["threads", "asyncio", "solo"]


@pytest.fixture
def gate() -> Iterator[threading.Event]:
    made = threading.Event()
    yield made
    made.set()


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Give interrupted tasks less time than users get."""
    monkeypatch.setattr(embedded, "_CLEAN_UP_S", 0.1)


@pytest.fixture(autouse=True)
def tasks(app: Umbel, gate: threading.Event) -> None:
    app.task(name="add")(lambda x, y: x + y)

    @app.task(name="stuck")
    def stuck() -> None:
        gate.wait(60)

    @app.task(name="nap")
    async def nap(seconds: float) -> str:
        await asyncio.sleep(seconds)
        return "rested"


@pytest.mark.parametrize("pool", POOLS)
def test_it_runs_tasks_and_leaves_no_thread_however_often_it_is_started(
    app: Umbel, pool: str
) -> None:
    before = set(threading.enumerate())
    worker = app.worker(pool=pool)
    for turn in range(3):
        with worker:
            assert app.send_task("add", (turn, 1)).get(timeout=30) == turn + 1
            assert app.send_task("nap", (0.01,)).get(timeout=30) == "rested"

    wait_for(lambda: set(threading.enumerate()) <= before)


def test_each_start_is_another_consumer(app: Umbel) -> None:
    worker = app.worker(pool="solo")
    seen = []
    for _ in range(2):
        with worker:
            assert worker._running is not None
            identity = worker._running._consumer.identity
            seen.append((identity.node, identity.consumer))

    assert len(set(seen)) == 2


def test_a_second_start_is_refused_and_a_second_stop_does_nothing(app: Umbel) -> None:
    worker = app.worker(pool="solo")
    with worker, pytest.raises(ConfigError, match="runs already"):
        worker.start()

    worker.stop()


@pytest.mark.parametrize("pool", POOLS)
def test_a_stop_waits_for_what_runs(app: Umbel, pool: str) -> None:
    with app.worker(pool=pool):
        result = app.send_task("nap", (0.2,))
        wait_for(lambda: result.state == "STARTED")

    assert result.get(timeout=1) == "rested"


@pytest.mark.parametrize("pool", POOLS)
def test_a_stuck_task_does_not_hold_up_the_stop_and_is_given_back(
    app: Umbel, gate: threading.Event, pool: str, caplog: pytest.LogCaptureFixture
) -> None:
    worker = app.worker(pool=pool, timeout_s=0.1)
    with worker:
        result = app.send_task("stuck")
        wait_for(lambda: result.state == "STARTED")
        began = time.monotonic()
    took_s = time.monotonic() - began

    assert took_s < 15  # the task would take 60
    stats = app.broker.stats("celery")
    assert (stats.ready, stats.held) == (1, 0)
    assert "given back" in caplog.text
    gate.set()


@pytest.mark.parametrize("pool", POOLS)
def test_what_is_late_after_a_stop_changes_nothing(
    app: Umbel, gate: threading.Event, pool: str
) -> None:
    before = set(threading.enumerate())
    with app.worker(pool=pool, timeout_s=0.01):
        result = app.send_task("stuck")
        wait_for(lambda: result.state == "STARTED")
    gate.set()

    wait_for(lambda: set(threading.enumerate()) <= before)
    assert result.state == "STARTED"
    with app.worker(pool=pool):
        assert result.get(timeout=30) is None


def test_two_workers_share_the_work(app: Umbel) -> None:
    names: set[str] = set()

    @app.task(name="who", bind=True)
    def who(self: Any) -> None:
        names.add(self.request.hostname)
        time.sleep(0.001)

    with (
        app.worker(pool="solo", hostname="one@h"),
        app.worker(pool="solo", hostname="two@h"),
    ):
        for _ in range(200):
            for result in app.send_many(("who",) for _ in range(10)):
                result.get(timeout=30)
            if len(names) == 2:
                break

    assert names == {"one@h", "two@h"}


def test_a_pool_of_processes_is_refused(app: Umbel) -> None:
    with pytest.raises(ConfigError, match="child processes"):
        app.worker(pool="process")


def test_a_broker_that_cannot_be_used_is_told_at_the_start(
    make_app: Callable[..., Umbel], tmp_path: Path
) -> None:
    before = set(threading.enumerate())
    foreign = tmp_path / "foreign.db"
    foreign.write_text("this is no database, but a text that is long enough to look at")
    app = make_app(broker=f"sqlite:///{foreign}", backend="memory://")

    with pytest.raises(BrokerError, match="not an SQLite file"):
        app.worker(pool="solo").start()
    assert set(threading.enumerate()) <= before


def test_it_tells_of_its_life(app: Umbel) -> None:
    told: list[str] = []
    for event in ("worker_starting", "worker_ready", "worker_stopped"):
        app.events.add(event, lambda _worker, event=event: told.append(event))
    app.events.add("worker_stopping", lambda _worker, how: told.append(f"stopping {how}"))

    with app.worker(pool="solo"):
        told.append("in between")

    assert told == [
        "worker_starting",
        "worker_ready",
        "in between",
        "stopping warm",
        "worker_stopped",
    ]


def test_signals_of_tasks_are_told(app: Umbel) -> None:
    told: list[str] = []

    def tell(name: str) -> Callable[..., None]:
        return lambda **_: told.append(name)

    receivers = {
        name: tell(name)
        for name in ("task_received", "task_prerun", "task_success", "task_postrun", "task_failure")
    }
    for name, receiver in receivers.items():
        getattr(app.signals, name).connect(receiver, weak=False)
    with app.worker(pool="solo"):
        app.send_task("add", (1, 1)).get(timeout=30)
        with pytest.raises(TypeError):
            app.send_task("add", ("1", 1)).get(timeout=30)

    run = ["task_received", "task_prerun"]
    assert told == [*run, "task_success", "task_postrun", *run, "task_failure", "task_postrun"]


def test_a_hard_limit_acts_as_a_soft_one(app: Umbel) -> None:
    with app.worker(pool="asyncio"):
        result = app.send_task("nap", (60,), time_limit=0.05)

        with pytest.raises(SoftTimeLimitExceeded):
            result.get(timeout=30)


def test_a_listener_that_fails_stops_nobody(app: Umbel) -> None:
    def fails(*_: Any) -> None:
        raise RuntimeError("a listener's bug")

    for event in ("worker_ready", "task_received", "task_started", "task_finished"):
        app.events.add(event, fails)
    with app.worker(pool="solo"):
        assert app.send_task("add", (1, 1)).get(timeout=30) == 2


@pytest.mark.parametrize("pool", POOLS)
def test_it_answers_what_it_runs_and_holds(app: Umbel, pool: str, gate: threading.Event) -> None:
    with app.worker(pool=pool, concurrency=1, hostname="e@h"):
        running = app.send_task("stuck")
        inspected = app.control.inspect(["e@h"], timeout=30)

        def active() -> list[dict[str, Any]]:
            return (inspected.active() or {})["e@h"]

        wait_for(active)
        (row,) = active()
        assert (row["id"], row["name"]) == (running.id, "stuck")
        assert row["time_start"] == pytest.approx(app.clock.time(), abs=30)
        stats = (inspected.stats() or {})["e@h"]
        assert stats["pool"]["implementation"] == pool
        gate.set()
        running.get(timeout=30)
        wait_for(lambda: active() == [] and (inspected.stats() or {})["e@h"]["done"] == 1)


@pytest.mark.parametrize("pool", POOLS)
def test_a_limit_set_at_run_time_acts_in_it(app: Umbel, pool: str) -> None:
    with app.worker(pool=pool, concurrency=2, hostname="e@h"):
        assert app.control.rate_limit("add", "1/h", ["e@h"], reply=True, timeout=30)
        results = [app.send_task("add", (1, i)) for i in range(5)]

        wait_for(lambda: app.broker.stats("celery").delayed == 4)
        assert sum(result.ready() for result in results) <= 1
        app.control.rate_limit("add", "1000/s", ["e@h"])
        assert [result.get(timeout=30) for result in results] == [1 + i for i in range(5)]
