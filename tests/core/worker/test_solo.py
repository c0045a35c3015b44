"""The lane of one task at a time, driven in a thread on ``memory://``."""

from __future__ import annotations

import asyncio
import contextvars
import logging
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from project import wait_for

from umbel import Umbel
from umbel.errors import SoftTimeLimitExceeded
from umbel.messages import QueueStats
from umbel.worker import solo
from umbel.worker.consumer import Consumer
from umbel.worker.limits import DeadlineWatch, ShutdownInterrupt, ThreadGuard
from umbel.worker.solo import SoloLane

MakeLane = Callable[..., SoloLane]


@pytest.fixture
def make_lane(consumer: Consumer) -> Iterator[MakeLane]:
    watch = DeadlineWatch()
    yield lambda **options: SoloLane(consumer, guard=ThreadGuard(watch), **options)
    watch.stop()


@pytest.fixture
def ran() -> Counter[Any]:
    """How often each task ran, by its argument."""
    return Counter()


@pytest.fixture
def gate() -> Iterator[threading.Event]:
    """What the task ``long`` waits for."""
    made = threading.Event()
    yield made
    made.set()


@pytest.fixture(autouse=True)
def tasks(app: Umbel, ran: Counter[Any], gate: threading.Event) -> None:
    @app.task(name="work")
    def work(key: Any) -> Any:
        ran[key] += 1
        return key

    @app.task(name="long")
    def long(key: Any) -> Any:
        ran[key] += 1
        assert gate.wait(30)
        return key


def expect_short_tasks(consumer: Consumer) -> None:
    """Let the next receive take many."""
    consumer.prefetch.observe(count=100, elapsed_s=0.0001)


def stats(consumer: Consumer) -> QueueStats:
    return consumer.broker.stats("celery")


def drained(consumer: Consumer) -> bool:
    left = stats(consumer)
    return not (left.ready or left.held or left.delayed)


# -- batches ----------------------------------------------------------------------------------


def test_a_batch_is_settled_as_one(
    app: Umbel,
    consumer: Consumer,
    make_lane: MakeLane,
    fault: Callable[..., Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(solo, "SETTLE_AFTER_S", 60.0)
    results = app.send_many(("work", (i,)) for i in range(50))
    batch = consumer.source.receive(max_messages=100, wait_s=5)
    settles = fault(consumer.broker, "settle")
    settles.is_on = False

    make_lane()._work(batch)

    assert settles.calls == 1
    assert [result.get(timeout=1) for result in results] == list(range(50))
    assert drained(consumer)


def test_many_tasks_run_once_each(
    app: Umbel,
    consumer: Consumer,
    make_lane: MakeLane,
    start: Callable[..., Any],
    ran: Counter[Any],
) -> None:
    start(make_lane())
    results = app.send_many(("work", (i,)) for i in range(500))

    assert [result.get(timeout=30) for result in results] == list(range(500))
    assert ran == Counter(range(500))
    wait_for(lambda: drained(consumer))


def test_a_long_task_holds_up_neither_results_nor_messages(
    app: Umbel,
    consumer: Consumer,
    make_lane: MakeLane,
    start: Callable[..., Any],
    gate: threading.Event,
) -> None:
    expect_short_tasks(consumer)
    quick = app.send_task("work", ("quick",))
    long = app.send_task("long", ("long",))
    behind = [app.send_task("work", (f"behind-{i}",)) for i in range(3)]

    start(make_lane())

    assert quick.get(timeout=30) == "quick"
    wait_for(lambda: (stats(consumer).ready, stats(consumer).held) == (3, 1))
    wait_for(lambda: long.state == "STARTED")
    gate.set()
    assert [result.get(timeout=30) for result in behind] == [f"behind-{i}" for i in range(3)]


def test_what_cannot_be_given_back_at_once_is_given_back_while_the_task_still_runs(
    app: Umbel,
    consumer: Consumer,
    make_lane: MakeLane,
    start: Callable[..., Any],
    fault: Callable[..., Any],
    gate: threading.Event,
    caplog: pytest.LogCaptureFixture,
) -> None:
    expect_short_tasks(consumer)
    outage = fault(consumer.broker, "nack")
    app.send_task("long", ("long",))
    app.send_task("work", ("behind",))

    start(make_lane())
    wait_for(lambda: outage.calls >= 2)
    assert stats(consumer).ready == 0
    outage.is_on = False

    wait_for(lambda: stats(consumer).ready == 1)
    gate.set()
    assert [record for record in caplog.messages if "give" in record] == [
        "can't give 1 unstarted messages back yet: gone"
    ]


# -- stopping ---------------------------------------------------------------------------------


def test_a_stop_gives_the_unstarted_back_and_finishes_what_runs(
    app: Umbel,
    consumer: Consumer,
    make_lane: MakeLane,
    start: Callable[..., Any],
    ran: Counter[Any],
    gate: threading.Event,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(solo, "LOOK_EVERY_S", 0.5)  # so that the helper isn't first
    expect_short_tasks(consumer)
    long = app.send_task("long", ("long",))
    app.send_many(("work", (i,)) for i in range(3))
    lane = make_lane()
    thread = start(lane)
    wait_for(lambda: ran["long"])

    lane.stop()
    gate.set()
    thread.join(20)

    assert long.get(timeout=1) == "long"
    assert ran == Counter(long=1)
    assert (stats(consumer).ready, stats(consumer).held) == (3, 0)


def test_a_stop_while_it_waits_for_messages_ends_at_once(
    consumer: Consumer, make_lane: MakeLane, start: Callable[..., Any]
) -> None:
    lane = make_lane()
    thread = start(lane)
    lane.stop()

    thread.join(4)  # a receive waits for 5 s
    assert not thread.is_alive()


def test_a_stop_during_an_outage_waits_with_the_finished_until_it_is_over(
    app: Umbel,
    consumer: Consumer,
    make_lane: MakeLane,
    start: Callable[..., Any],
    fault: Callable[..., Any],
    ran: Counter[Any],
) -> None:
    outage = fault(consumer.backend, "store")
    result = app.send_task("work", ("kept",))
    lane = make_lane()
    thread = start(lane)
    wait_for(lambda: outage.calls >= 1)
    lane.stop()
    tries = outage.calls
    wait_for(lambda: outage.calls > tries)
    assert thread.is_alive()

    outage.is_on = False
    thread.join(20)

    assert result.get(timeout=1) == "kept"
    assert ran["kept"] == 1


def test_a_soft_stop_gives_the_interrupted_task_back(
    app: Umbel,
    consumer: Consumer,
    make_lane: MakeLane,
    start: Callable[..., Any],
) -> None:
    began = threading.Event()

    @app.task(name="spin")
    def spin() -> None:
        began.set()
        while True:
            threading.Event().wait(0.001)

    app.send_task("spin")
    lane = make_lane()
    thread = start(lane)
    assert began.wait(30)

    lane.stop()
    lane.interrupt(ShutdownInterrupt)
    thread.join(20)

    assert not thread.is_alive()
    assert (stats(consumer).ready, stats(consumer).held) == (1, 0)


def test_giving_up_gives_back_what_runs_and_drops_its_late_outcome(
    app: Umbel,
    consumer: Consumer,
    make_lane: MakeLane,
    start: Callable[..., Any],
    ran: Counter[Any],
    gate: threading.Event,
) -> None:
    result = app.send_task("long", ("stuck",))
    lane = make_lane()
    thread = start(lane)
    wait_for(lambda: ran["stuck"])

    lane.give_up()
    assert (stats(consumer).ready, stats(consumer).held) == (1, 0)
    gate.set()
    thread.join(20)

    assert result.state in ("PENDING", "STARTED")
    assert stats(consumer).ready == 1


def test_giving_up_fails_a_task_that_was_acknowledged_early(
    app: Umbel,
    consumer: Consumer,
    make_lane: MakeLane,
    start: Callable[..., Any],
    gate: threading.Event,
) -> None:
    began = threading.Event()

    @app.task(name="early", acks_late=False)
    def early() -> None:
        began.set()
        gate.wait(30)

    result = app.send_task("early")
    lane = make_lane()
    start(lane)
    assert began.wait(30)

    lane.give_up()
    gate.set()

    assert result.state == "FAILURE"
    with pytest.raises(Exception, match="had to end"):
        result.get(timeout=1)


def test_it_ends_after_so_many_tasks_and_gives_the_rest_back(
    app: Umbel,
    consumer: Consumer,
    make_lane: MakeLane,
    ran: Counter[Any],
) -> None:
    expect_short_tasks(consumer)
    app.send_many(("work", (i,)) for i in range(10))

    make_lane(max_tasks=3).run()

    assert ran == Counter(range(3))
    assert (stats(consumer).ready, stats(consumer).held) == (7, 0)


# -- bursts -----------------------------------------------------------------------------------


def test_a_burst_ends_when_the_queue_is_empty(
    app: Umbel, consumer: Consumer, make_lane: MakeLane, ran: Counter[Any]
) -> None:
    app.send_many(("work", (i,)) for i in range(100))

    make_lane(burst=True).run()

    assert ran == Counter(range(100))
    assert drained(consumer)


@pytest.mark.parametrize("part", ["broker", "backend"])
def test_an_outage_is_no_end_of_a_burst(
    app: Umbel,
    consumer: Consumer,
    make_lane: MakeLane,
    start: Callable[..., Any],
    fault: Callable[..., Any],
    ran: Counter[Any],
    part: str,
) -> None:
    name = "receive" if part == "broker" else "store"
    outage = fault(getattr(consumer, part), name)
    result = app.send_task("work", ("late",))
    thread = start(make_lane(burst=True))
    wait_for(lambda: outage.calls >= 2)
    assert thread.is_alive()

    outage.is_on = False
    thread.join(20)

    assert result.get(timeout=1) == "late"
    assert ran["late"] == 1


# -- outages ----------------------------------------------------------------------------------


def test_it_receives_again_after_an_outage(
    app: Umbel,
    consumer: Consumer,
    make_lane: MakeLane,
    start: Callable[..., Any],
    fault: Callable[..., Any],
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO, "umbel.worker")
    outage = fault(consumer.broker, "receive")
    start(make_lane())
    wait_for(lambda: outage.calls >= 3)
    result = app.send_task("work", ("after",))
    outage.is_on = False

    assert result.get(timeout=30) == "after"
    told = [text for text in caplog.messages if "receiv" in text]
    assert [text.partition(",")[0] for text in told] == [
        "can't receive from the broker",
        told[1].partition(",")[0],
    ]
    assert told[1].startswith("receiving again after")


def test_a_backend_outage_stops_receiving_before_too_much_is_kept(
    app: Umbel,
    consumer: Consumer,
    make_lane: MakeLane,
    start: Callable[..., Any],
    fault: Callable[..., Any],
    ran: Counter[Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(solo, "MAX_BACKLOG", 5)
    outage = fault(consumer.backend, "store")
    results = app.send_many(("work", (i,)) for i in range(1000))
    start(make_lane())
    wait_for(lambda: consumer.settler.backlog > 5)
    tries = outage.calls
    wait_for(lambda: outage.calls >= tries + 2)
    assert stats(consumer).ready > 0

    outage.is_on = False

    assert [result.get(timeout=30) for result in results] == list(range(1000))
    assert ran == Counter(range(1000))


# -- errors that should not be ----------------------------------------------------------------


@pytest.mark.parametrize("part, name", [("broker", "receive"), ("intake", "take")])
def test_an_error_of_a_plugin_does_not_end_the_lane(
    app: Umbel,
    consumer: Consumer,
    make_lane: MakeLane,
    start: Callable[..., Any],
    fault: Callable[..., Any],
    monkeypatch: pytest.MonkeyPatch,
    part: str,
    name: str,
) -> None:
    monkeypatch.setattr(solo, "_MEND_S", 0.01)
    consumer.source._reconciled_at = -1e9
    broken = fault(getattr(consumer, part), name, error=TypeError("a plugin's bug"))
    result = app.send_task("work", ("good",))
    start(make_lane())
    wait_for(lambda: broken.calls >= 1)
    broken.is_on = False
    consumer.source._reconciled_at = -1e9

    assert result.get(timeout=30) == "good"


def test_an_error_in_the_helper_does_not_end_it(
    app: Umbel,
    consumer: Consumer,
    make_lane: MakeLane,
    start: Callable[..., Any],
    fault: Callable[..., Any],
    gate: threading.Event,
) -> None:
    broken = fault(consumer.settler, "flush", error=TypeError("a bug"))
    expect_short_tasks(consumer)
    app.send_task("long", ("long",))
    app.send_task("work", ("behind",))

    start(make_lane())

    wait_for(lambda: broken.calls >= 2)
    broken.is_on = False
    gate.set()


# -- async tasks ------------------------------------------------------------------------------


def test_async_tasks_outlast_what_others_do_to_the_loop(
    app: Umbel, consumer: Consumer, make_lane: MakeLane, start: Callable[..., Any]
) -> None:
    async def leave() -> None:
        raise SystemExit(3)

    @app.task(name="background")
    async def background() -> str:
        waste = asyncio.ensure_future(leave())
        await asyncio.sleep(0.05)
        return f"background of {waste.exception()!r}"

    @app.task(name="cancels-itself")
    async def cancels_itself() -> str:
        task = asyncio.current_task()
        assert task is not None
        task.cancel()
        return "done all the same"

    @app.task(name="closes")
    def closes() -> None:
        asyncio.get_event_loop_policy().get_event_loop().close()

    start(make_lane())
    names = ("background", "cancels-itself", "closes", "background")
    results = [app.send_task(name) for name in names]

    values = [result.get(timeout=30) for result in results]
    exited = "background of SystemExit(3)"
    assert values == [exited, "done all the same", None, exited]


def test_a_soft_limit_is_raised_in_an_async_task(
    app: Umbel, consumer: Consumer, make_lane: MakeLane, start: Callable[..., Any]
) -> None:
    @app.task(name="sleeps", soft_time_limit=0.05)
    async def sleeps() -> str:
        try:
            await asyncio.sleep(60)
        except SoftTimeLimitExceeded:
            async with asyncio.timeout(5):  # knows that it isn't being cancelled
                await asyncio.sleep(0)
            task = asyncio.current_task()
            return f"cleaned up, {task.cancelling() if task else '?'} cancellations"
        return "never"

    start(make_lane())

    assert app.send_task("sleeps").get(timeout=30) == "cleaned up, 0 cancellations"


def test_context_variables_end_with_their_task(
    app: Umbel, consumer: Consumer, make_lane: MakeLane, start: Callable[..., Any]
) -> None:
    variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable", default="unset")

    @app.task(name="look")
    def look() -> str:
        found = variable.get()
        variable.set("set")
        return found

    @app.task(name="alook")
    async def alook() -> str:
        found = variable.get()
        variable.set("set")
        return found

    start(make_lane())
    names = ("look", "look", "alook", "alook", "look")

    assert [app.send_task(name).get(timeout=30) for name in names] == ["unset"] * 5
