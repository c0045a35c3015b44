"""The rates of a node, shared by its processes."""

from __future__ import annotations

import multiprocessing
import os
import pickle
import signal
import threading
from collections.abc import Iterator

import pytest
import rate_child

from umbel.errors import ConfigError
from umbel.worker import rate_table
from umbel.worker.pacing import SLACK_S
from umbel.worker.rate_table import RateTable

CONTEXT = multiprocessing.get_context("spawn")


@pytest.fixture(params=["shared", "own"])
def table(request: pytest.FixtureRequest) -> Iterator[RateTable]:
    made = RateTable.create() if request.param == "shared" else RateTable()
    yield made
    made.close()


@pytest.fixture
def shared() -> Iterator[RateTable]:
    made = RateTable.create()
    yield made
    made.close()


def test_task_has_no_limit_until_it_is_given_one(table: RateTable) -> None:
    assert table.limit("t") == 0
    assert table.find("t") is None

    table.declare("t", 3.0)

    assert table.limit("t") == 3.0
    assert table.limit("other") == 0


def test_declaring_no_limit_takes_no_place(table: RateTable) -> None:
    table.declare("t", 0.0)
    table.override("t", None)

    assert table.find("t") is None
    assert table.version == 0


def test_limit_set_at_run_time_goes_before_the_codes_own(table: RateTable) -> None:
    table.declare("t", 3.0)
    table.override("t", 50.0)
    assert table.limit("t") == 50.0

    table.declare("t", 4.0)  # a child that starts
    assert table.limit("t") == 50.0

    table.override("t", None)
    assert table.limit("t") == 4.0


def test_no_limit_can_be_set_at_run_time(table: RateTable) -> None:
    table.declare("t", 3.0)
    table.override("t", 0.0)

    index = table.find("t")
    assert index is not None
    assert [table.take(index, lambda: 1.0, is_new=True) for _ in range(100)] == [0.0] * 100


def test_version_tells_of_changes_alone(table: RateTable) -> None:
    versions = [table.version]
    for change in (
        lambda: table.declare("t", 3.0),
        lambda: table.override("t", 5.0),
        lambda: table.override("t", None),
    ):
        change()
        versions.append(table.version)
        change()
        assert table.version == versions[-1]

    assert len(set(versions)) == 4


def test_changed_limit_makes_promises_void(table: RateTable) -> None:
    table.declare("t", 1 / 3600)
    index = table.find("t")
    assert index is not None
    table.take(index, lambda: 100.0, is_new=True)
    assert table.take(index, lambda: 100.0, is_new=True) > 0

    table.override("t", 10.0)

    assert table.take(index, lambda: 100.0, is_new=True) == 0


def test_more_limits_than_there_is_room_for_are_an_error(
    table: RateTable, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rate_table, "MOST_TYPES", 2)
    table.declare("a", 1.0)
    table.declare("b", 1.0)

    with pytest.raises(ConfigError, match="2 task types of this worker have a rate limit"):
        table.declare("c", 1.0)
    table.declare("b", 2.0)
    assert table.limit("b") == 2.0


def test_table_of_one_process_cannot_be_handed_over() -> None:
    with pytest.raises(ValueError, match="this process alone"):
        pickle.dumps(RateTable())


def test_threads_share_one_rate(table: RateTable) -> None:
    table.declare("t", 1.0)
    index = table.find("t")
    assert index is not None
    holds: list[float] = []
    threads = [
        threading.Thread(
            target=lambda: holds.extend(
                table.take(index, lambda: 5.0, is_new=True) for _ in range(50)
            )
        )
        for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len(holds) == 400
    assert holds.count(0.0) == 1


def test_processes_share_one_rate(shared: RateTable) -> None:
    rate, seconds = 200.0, 1.0
    shared.declare("t", rate)
    pipes = []
    children = []
    for _ in range(3):
        ours, theirs = CONTEXT.Pipe()
        child = CONTEXT.Process(
            target=rate_child.take_for, args=(shared, "t", seconds, theirs), daemon=True
        )
        child.start()
        pipes.append(ours)
        children.append(child)
    for pipe in pipes:
        assert pipe.recv() == "ready"
    for pipe in pipes:
        pipe.send("go")
    starts = sorted(at for pipe in pipes for at in pipe.recv())
    for child in children:
        child.join(30)

    lasted_s = starts[-1] - starts[0]
    assert len(starts) <= rate * (lasted_s + SLACK_S) + 1 + 1e-6
    assert len(starts) >= rate * lasted_s / 4


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="the system has no such signal")
def test_process_killed_with_the_lock_in_its_hands_stops_nobody(shared: RateTable) -> None:
    shared.declare("t", 1000.0)
    index = shared.find("t")
    assert index is not None
    ours, theirs = CONTEXT.Pipe()
    child = CONTEXT.Process(target=rate_child.die_with_the_lock, args=(shared, theirs), daemon=True)
    child.start()
    pid = ours.recv()
    holds: list[float] = []
    waiting = threading.Thread(
        target=lambda: holds.append(shared.take(index, lambda: 5.0, is_new=True)), daemon=True
    )
    waiting.start()
    waiting.join(0.2)
    assert waiting.is_alive()  # the other one has the lock

    os.kill(pid, signal.SIGKILL)
    waiting.join(30)
    child.join(30)

    assert holds == [0.0]
