"""A worker does what a user expects of one, with real processes on SQLite."""

from __future__ import annotations

import time
from collections import Counter

import pytest
from project import Project, wait_for
from stores import every_store

from umbel.errors import ResultTimeoutError

POOLS = [
    ("--pool", "process", "-c", "2"),
    ("--pool", "threads", "-c", "4"),
    ("--pool", "asyncio", "-c", "4"),
    ("--pool", "solo"),
    ("--processes", "2", "--pool", "threads", "-c", "2"),
]


@pytest.mark.parametrize("options", POOLS, ids=" ".join)
def test_every_pool_runs_plain_and_async_tasks(project: Project, options: tuple[str, ...]) -> None:
    project.worker(*options)
    plain = [project.app.send_task("tasks.add", (i, i)) for i in range(20)]
    napping = [project.app.send_task("tasks.nap", (f"n{i}", 0.01)) for i in range(10)]

    assert [result.get(timeout=30) for result in plain] == [2 * i for i in range(20)]
    assert [result.get(timeout=30) for result in napping] == [f"n{i}" for i in range(10)]


@pytest.mark.parametrize("options", POOLS[:4], ids=" ".join)
def test_a_stopped_worker_finishes_what_runs_and_exits_with_zero(
    project: Project, options: tuple[str, ...]
) -> None:
    worker = project.worker(*options)
    running = project.app.send_task("tasks.work", ("long", 1.0))
    wait_for(lambda: project.ledger("begin")["long"])

    assert worker.stop() == 0
    assert running.get(timeout=1) == "long"
    assert project.ledger("begin") == Counter(long=1)


def test_a_failing_task_tells_its_caller(project: Project) -> None:
    project.worker("-c", "1")
    result = project.app.send_task("tasks.fail", ("on purpose",))

    with pytest.raises(ValueError, match="on purpose") as caught:
        result.get(timeout=30)
    assert "Traceback" in (result.traceback or "")
    assert caught.type is ValueError


@every_store
def test_a_task_is_retried_as_often_as_it_asks(project: Project) -> None:
    project.worker("-c", "1")
    result = project.app.send_task("tasks.flaky", ("twice", 2))

    assert result.get(timeout=30) == 2
    assert project.ledger("begin")["twice"] == 3


def test_a_task_that_runs_out_of_retries_fails_with_its_cause(project: Project) -> None:
    project.worker("-c", "1")
    result = project.app.send_task("tasks.flaky", ("always", 99))

    with pytest.raises(ValueError, match="failure 3"):
        result.get(timeout=30)
    assert project.ledger("begin")["always"] == 4


@every_store
def test_a_burst_ends_when_the_queue_is_empty(project: Project) -> None:
    results = [project.app.send_task("tasks.work", (f"k{i}",)) for i in range(200)]
    worker = project.worker("--burst", "-c", "2", wait=False)

    assert worker.wait() == 0, worker.tell()
    assert [result.get(timeout=1) for result in results] == [f"k{i}" for i in range(200)]


@every_store
def test_a_task_with_a_countdown_waits_in_the_broker(project: Project) -> None:
    sent_at = time.time()
    result = project.app.send_task("tasks.work", ("later",), countdown=1.5)
    project.worker("-c", "1")

    result.get(timeout=30)
    (began,) = [float(at) for what, key, _, at in project.lines() if what == "begin"]
    assert began - sent_at >= 1.5


@every_store
def test_an_expired_task_is_revoked_not_run(project: Project) -> None:
    result = project.app.send_task("tasks.work", ("stale",), expires=0.05)
    marker = project.app.send_task("tasks.work", ("fresh",), countdown=0.3)
    time.sleep(0.06)  # the expiry itself
    project.worker("-c", "1")

    marker.get(timeout=30)
    assert result.state == "REVOKED"
    assert "stale" not in project.ledger("begin")


@every_store
def test_a_revoked_task_does_not_run(project: Project) -> None:
    result = project.app.send_task("tasks.work", ("unwanted",))
    result.revoke()
    project.worker("-c", "1")
    project.app.send_task("tasks.work", ("wanted",)).get(timeout=30)

    wait_for(lambda: result.state == "REVOKED")
    assert "unwanted" not in project.ledger("begin")


@every_store
def test_a_running_task_can_be_terminated_and_its_neighbours_go_on(project: Project) -> None:
    worker = project.worker("-c", "2")
    victim = project.app.send_task("tasks.work", ("victim", 60))
    wait_for(lambda: project.ledger("begin")["victim"])
    neighbour = project.app.send_task("tasks.work", ("neighbour", 0.3))

    victim.revoke(terminate=True)

    assert neighbour.get(timeout=30) == "neighbour"
    wait_for(lambda: victim.state == "REVOKED", describe=worker.tell)
    assert project.ledger("begin")["victim"] == 1


@every_store
def test_a_task_over_its_hard_limit_is_ended_and_the_pool_goes_on(project: Project) -> None:
    worker = project.worker("-c", "1")
    hog = project.app.send_task("tasks.work", ("hog", 60), time_limit=0.3)
    good = [project.app.send_task("tasks.work", (f"g{i}",)) for i in range(5)]

    with pytest.raises(Exception, match=r"0\.3") as caught:
        hog.get(timeout=30)
    assert caught.type.__name__ == "TimeLimitExceeded"
    assert [result.get(timeout=30) for result in good] == [f"g{i}" for i in range(5)], worker.tell()
    assert project.ledger("begin")["hog"] == 1


@pytest.mark.parametrize("options", POOLS[:4], ids=" ".join)
def test_a_soft_limit_is_raised_inside_the_task(project: Project, options: tuple[str, ...]) -> None:
    project.rewrite(
        extra="""
@app.task
def careful(key):
    from umbel.errors import SoftTimeLimitExceeded
    try:
        end = time.monotonic() + 60
        while time.monotonic() < end:
            time.sleep(0.01)
    except SoftTimeLimitExceeded:
        return "cleaned up"
"""
    )
    project.worker(*options)
    result = project.app.send_task("tasks.careful", ("k",), soft_time_limit=0.2)

    assert result.get(timeout=30) == "cleaned up"


@every_store
def test_a_higher_priority_goes_first(project: Project) -> None:
    for i in range(3):
        project.app.send_task("tasks.work", (f"low{i}",), priority=1)
    project.app.send_task("tasks.work", ("high",), priority=9)
    worker = project.worker("--burst", "-c", "1", wait=False)
    worker.wait()

    order = [key for what, key, *_ in project.lines() if what == "begin"]
    assert order == ["high", "low0", "low1", "low2"]


def test_a_thousand_sleeping_coroutines_run_at_once(project: Project) -> None:
    project.worker("--pool", "asyncio", "-c", "1000")
    sent = project.app.send_many(("tasks.nap", (f"n{i}", 1.0)) for i in range(1000))

    for result in sent:
        result.get(timeout=60)
    times = [float(at) for _, _, _, at in project.lines()]
    assert max(times) - min(times) < 10  # one after the other would take 1,000


def test_a_missing_result_times_out_with_the_state_named(project: Project) -> None:
    result = project.app.send_task("tasks.add", (1, 2))

    with pytest.raises(ResultTimeoutError, match="PENDING"):
        result.get(timeout=0.05)
