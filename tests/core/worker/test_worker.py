"""A worker is set up, waits for its broker, and tells of its life; its lanes have their own tests."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from project import wait_for

from umbel import Umbel
from umbel.errors import BrokerError, BrokerUnavailableError, ConfigError
from umbel.interfaces.broker import Broker, Capability
from umbel.worker.requirements import check_capabilities, wait_for_broker
from umbel.worker.surroundings import current_folder
from umbel.worker.worker import Worker


class Door(Broker):
    """Can't be reached the first times."""

    capabilities = frozenset({Capability.DELAY})

    def __init__(self, *errors: Exception):
        self.errors = list(errors)

    def check(self) -> None:
        if self.errors:
            raise self.errors.pop(0)

    def send(self, messages: Any) -> None:
        raise NotImplementedError

    def receive(self, queues: Any, *, max_messages: int, wait_s: float) -> Any:
        return ()

    def ack(self, deliveries: Any) -> Any:
        return ()

    def nack(self, deliveries: Any, *, delay_s: float = 0.0) -> None:
        return


GONE = [BrokerUnavailableError("gone")] * 20


def conf(**changes: Any) -> Any:
    settings = {
        "broker_connection_retry_on_startup": True,
        "broker_connection_max_retries": None,
        **changes,
    }
    return SimpleNamespace(**settings)


# -- a broker that can't be reached -----------------------------------------------------------


def test_a_worker_waits_for_its_broker_ever_longer_and_says_so_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    pauses: list[float] = []

    wait_for_broker(Door(*GONE), conf(), pauses.append)

    assert len(pauses) == len(GONE)
    assert all(0.0 < pause <= 2.0 for pause in pauses)
    assert pauses[0] < pauses[-1]
    assert caplog.messages == ["the broker can't be reached yet, trying until it can: gone"]


def test_it_gives_up_where_that_is_wanted() -> None:
    with pytest.raises(BrokerUnavailableError):
        wait_for_broker(Door(*GONE), conf(broker_connection_retry_on_startup=False), no_sleep)

    door = Door(*GONE)
    with pytest.raises(BrokerUnavailableError):
        wait_for_broker(door, conf(broker_connection_max_retries=3), no_sleep)
    assert len(door.errors) == len(GONE) - 3


def test_a_broker_that_refuses_is_not_waited_for() -> None:
    with pytest.raises(BrokerError, match="foreign"):
        wait_for_broker(Door(BrokerError("foreign file")), conf(), no_sleep)


def no_sleep(_seconds: float) -> None:
    return


def test_what_a_broker_lacks_is_named() -> None:
    with pytest.raises(ConfigError, match=r"Door lacks .* dead_letter .* shared"):
        check_capabilities(Door(), processes=2)


# -- in this process --------------------------------------------------------------------------


@pytest.fixture
def run_solo(app: Umbel) -> Callable[..., Any]:
    """Run a worker on the main thread until `meanwhile`, in another one, has ended."""

    def run(meanwhile: Callable[[], object], **options: Any) -> tuple[int, Worker]:
        worker = Worker(app, pool="solo", loglevel=None, **options)
        failed: list[BaseException] = []

        def watch() -> None:
            try:
                meanwhile()
            except BaseException as exc:
                failed.append(exc)
            finally:
                os.kill(os.getpid(), signal.SIGTERM)

        # A worker that fails to start leaves the signal to whoever had it before.
        before = signal.signal(signal.SIGTERM, lambda *_: None)
        thread = threading.Thread(target=watch)
        thread.start()
        try:
            exitcode = worker.run()
        finally:
            thread.join(60)
            signal.signal(signal.SIGTERM, before)
        if failed:
            raise failed[0]
        return exitcode, worker

    return run


@pytest.mark.skipif(os.name == "nt", reason="ends itself by a signal")
def test_a_solo_worker_runs_tasks_until_it_is_told_to_stop(
    app: Umbel, run_solo: Callable[..., Any]
) -> None:
    told: list[str] = []
    ready = threading.Event()
    app.task(name="add")(lambda x, y: x + y)
    for event in ("worker_starting", "worker_ready", "worker_stopped"):
        app.events.add(event, lambda _worker, event=event: told.append(event))
    app.events.add("worker_ready", lambda _worker: ready.set())
    app.events.add("worker_stopping", lambda _worker, how: told.append(f"stopping {how}"))
    values: list[int] = []

    def meanwhile() -> None:
        assert ready.wait(30)
        values.append(app.send_task("add", (2, 3)).get(timeout=30))

    before = signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)
    exitcode, _ = run_solo(meanwhile)

    assert (exitcode, values) == (0, [5])
    assert told == ["worker_starting", "worker_ready", "stopping warm", "worker_stopped"]
    assert (signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)) == before


@pytest.mark.skipif(os.name == "nt", reason="ends itself by a signal")
def test_a_soft_shutdown_follows_where_a_task_does_not_end(
    app: Umbel, run_solo: Callable[..., Any]
) -> None:
    app.conf.update({"worker_shutdown_timeout": 0.1, "worker_soft_shutdown_timeout": 60.0})
    began = threading.Event()

    @app.task(name="stuck")
    def stuck() -> None:
        began.set()
        threading.Event().wait(60)

    def meanwhile() -> None:
        app.send_task("stuck")
        assert began.wait(30)

    exitcode, _ = run_solo(meanwhile)

    assert exitcode == 0
    stats = app.broker.stats("celery")
    assert (stats.ready, stats.held) == (1, 0)


def test_a_solo_burst_ends_by_itself_and_purges_before(app: Umbel) -> None:
    ran: list[int] = []
    app.task(name="note")(ran.append)
    app.send_task("note", (1,))
    assert Worker(app, pool="solo", loglevel=None, burst=True, purge=True).run() == 0
    assert ran == []

    app.send_task("note", (2,))
    assert Worker(app, pool="solo", loglevel=None, burst=True).run() == 0
    assert ran == [2]


def test_children_need_the_path_of_the_app(app: Umbel) -> None:
    with pytest.raises(ConfigError, match="lacks what this worker needs: shared"):
        Worker(app, pool="process", loglevel=None).run()
    durable = Umbel("durable", broker="sqlite:///q.db")
    with durable, pytest.raises(ConfigError, match="by its path"):
        Worker(durable, pool="process", loglevel=None).run()


# -- the surroundings -------------------------------------------------------------------------


def test_a_folder_that_was_removed_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    assert current_folder() == str(gone)

    if os.name != "nt":
        gone.rmdir()
        assert current_folder() is None


@pytest.mark.skipif(os.name == "nt", reason="a shell of POSIX closes them")
def test_standard_files_that_are_closed_are_opened(tmp_path: Path) -> None:
    out = tmp_path / "out"
    code = (
        "import os; from umbel.worker.surroundings import open_standard_files as o; o();"
        f"open({str(out)!r}, 'w').write(str([os.readlink(f'/proc/self/fd/{{n}}')"
        " if os.path.exists('/proc/self/fd') else '/dev/null' for n in range(3)]))"
    )
    subprocess.run(["sh", "-c", f'exec {sys.executable} -c "{code}" <&- >&- 2>&-'], check=True)

    wait_for(out.exists)
    assert out.read_text() == str(["/dev/null"] * 3)
