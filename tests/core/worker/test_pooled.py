"""The lane of many tasks at once, on threads and on an event loop, on ``memory://``."""

from __future__ import annotations

import asyncio
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from project import wait_for

from umbel import Umbel
from umbel.errors import SoftTimeLimitExceeded
from umbel.messages import QueueStats
from umbel.worker import pooled, quarantine
from umbel.worker.consumer import Consumer
from umbel.worker.limits import ShutdownInterrupt
from umbel.worker.pooled import PooledLane

MakeLane = Callable[..., PooledLane]
SLOTS = 4


@pytest.fixture(params=["threads", "asyncio"])
def make_lane(request: pytest.FixtureRequest, app: Umbel, consumer: Consumer) -> MakeLane:
    factory = app.pool(request.param).factory
    assert factory is not None
    return lambda slots=SLOTS, **options: PooledLane(consumer, factory(slots), **options)


class Ledger:
    """What runs now, what ran at most at once, and how often each task ran."""

    def __init__(self) -> None:
        self.gate = threading.Event()
        self.now = self.most = 0
        self.ran: Counter[Any] = Counter()
        self._lock = threading.Lock()

    def begin(self, key: Any) -> None:
        with self._lock:
            self.ran[key] += 1
            self.now += 1
            self.most = max(self.most, self.now)

    def end(self) -> None:
        with self._lock:
            self.now -= 1


@pytest.fixture
def ledger() -> Iterator[Ledger]:
    made = Ledger()
    yield made
    made.gate.set()


@pytest.fixture(autouse=True)
def tasks(app: Umbel, ledger: Ledger) -> None:
    @app.task(name="work")
    def work(key: Any) -> Any:
        ledger.begin(key)
        ledger.end()
        return key

    @app.task(name="wait")
    def wait(key: Any) -> Any:
        ledger.begin(key)
        assert ledger.gate.wait(30)
        ledger.end()
        return key

    @app.task(name="await")
    async def awaits(key: Any) -> Any:
        ledger.begin(key)
        while not ledger.gate.is_set():
            await asyncio.sleep(0.005)
        ledger.end()
        return key


def stats(consumer: Consumer) -> QueueStats:
    return consumer.broker.stats("celery")


def drained(consumer: Consumer) -> bool:
    left = stats(consumer)
    return not (left.ready or left.held or left.delayed)


# -- slots ------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["wait", "await"])
def test_all_slots_are_used_and_never_more(
    app: Umbel,
    consumer: Consumer,
    make_lane: MakeLane,
    start: Callable[..., Any],
    ledger: Ledger,
    kind: str,
) -> None:
    results = app.send_many((kind, (i,)) for i in range(20))
    start(make_lane())
    wait_for(lambda: ledger.now == SLOTS)
    assert (stats(consumer).held, stats(consumer).ready) == (SLOTS, 20 - SLOTS)

    ledger.gate.set()

    assert [result.get(timeout=30) for result in results] == list(range(20))
    assert ledger.most == SLOTS
    assert ledger.ran == Counter(range(20))
    wait_for(lambda: drained(consumer))


def test_plain_and_async_tasks_run_side_by_side(
    app: Umbel, consumer: Consumer, make_lane: MakeLane, start: Callable[..., Any], ledger: Ledger
) -> None:
    kinds = ["wait", "await", "wait", "await"]
    results = [app.send_task(kind, (i,)) for i, kind in enumerate(kinds)]
    start(make_lane())
    wait_for(lambda: ledger.now == SLOTS)
    wait_for(lambda: all(result.state == "STARTED" for result in results))

    ledger.gate.set()

    assert [result.get(timeout=30) for result in results] == [0, 1, 2, 3]


def test_a_broker_that_hands_over_too_many_gets_the_rest_back(
    app: Umbel,
    consumer: Consumer,
    make_lane: MakeLane,
    start: Callable[..., Any],
    ledger: Ledger,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    receive = consumer.broker.receive

    def generous(queues: Any, *, max_messages: int, wait_s: float) -> Any:
        return receive(queues, max_messages=max_messages + 3, wait_s=wait_s)

    monkeypatch.setattr(consumer.broker, "receive", generous)
    results = app.send_many(("wait", (i,)) for i in range(10))
    start(make_lane())
    wait_for(lambda: ledger.now == SLOTS)
    ledger.gate.set()

    assert [result.get(timeout=30) for result in results] == list(range(10))
    assert ledger.most == SLOTS


def test_a_task_that_cannot_be_begun_costs_no_slot(
    app: Umbel,
    consumer: Consumer,
    make_lane: MakeLane,
    start: Callable[..., Any],
    fault: Callable[..., Any],
) -> None:
    broken = fault(consumer.intake, "may_begin", error=TypeError("a bug"))
    app.send_many(("work", (i,)) for i in range(SLOTS * 2))
    start(make_lane())
    wait_for(lambda: broken.calls >= SLOTS * 2)
    wait_for(lambda: stats(consumer).delayed == SLOTS * 2)
    broken.is_on = False

    assert app.send_task("work", ("good",)).get(timeout=30) == "good"


def test_tasks_outlast_what_others_do_to_their_loop(
    app: Umbel, consumer: Consumer, make_lane: MakeLane, start: Callable[..., Any]
) -> None:
    async def leave() -> None:
        raise SystemExit(3)

    @app.task(name="background")
    async def background() -> str:
        waste = asyncio.ensure_future(leave())
        await asyncio.sleep(0.05)
        return f"background of {waste.exception()!r}"

    @app.task(name="stops")
    async def stops() -> str:
        asyncio.get_running_loop().stop()
        await asyncio.sleep(0.01)
        return "stopped"

    start(make_lane())
    results = [app.send_task(name) for name in ("background", "stops", "background")]

    values = [result.get(timeout=30) for result in results]
    assert values == ["background of SystemExit(3)", "stopped", "background of SystemExit(3)"]


# -- limits -----------------------------------------------------------------------------------


def test_a_soft_limit_is_raised_in_the_task_that_has_it(
    app: Umbel, consumer: Consumer, make_lane: MakeLane, start: Callable[..., Any], ledger: Ledger
) -> None:
    @app.task(name="spins", soft_time_limit=0.05)
    def spins() -> str:
        try:
            while True:
                threading.Event().wait(0.001)
        except SoftTimeLimitExceeded:
            return "cleaned up"

    @app.task(name="sleeps", soft_time_limit=0.05)
    async def sleeps() -> str:
        try:
            await asyncio.sleep(60)
        except SoftTimeLimitExceeded:
            return "cleaned up"
        return "never"

    start(make_lane())
    unlimited = app.send_task("await", ("unlimited",))
    limited = [app.send_task(name) for name in ("spins", "sleeps")]

    assert [result.get(timeout=30) for result in limited] == ["cleaned up"] * 2
    ledger.gate.set()
    assert unlimited.get(timeout=30) == "unlimited"


# -- stopping ---------------------------------------------------------------------------------


def test_a_stop_finishes_what_runs_and_begins_nothing_more(
    app: Umbel, consumer: Consumer, make_lane: MakeLane, start: Callable[..., Any], ledger: Ledger
) -> None:
    results = app.send_many(("wait", (i,)) for i in range(6))
    lane = make_lane()
    thread = start(lane)
    wait_for(lambda: ledger.now == SLOTS)

    lane.stop()
    ledger.gate.set()
    thread.join(20)

    assert [result.get(timeout=1) for result in results[:SLOTS]] == list(range(SLOTS))
    assert (stats(consumer).ready, stats(consumer).held) == (2, 0)
    assert ledger.ran == Counter(range(SLOTS))


def test_a_stop_leaves_no_thread_behind(
    app: Umbel, consumer: Consumer, make_lane: MakeLane, start: Callable[..., Any]
) -> None:
    before = threading.active_count()
    lane = make_lane()
    thread = start(lane)
    kinds = ("work", "await")
    app.send_task(kinds[0], (1,)).get(timeout=30)
    lane.stop()
    thread.join(20)

    wait_for(lambda: threading.active_count() == before)


def test_a_soft_stop_gives_the_interrupted_tasks_back(
    app: Umbel, consumer: Consumer, make_lane: MakeLane, start: Callable[..., Any], ledger: Ledger
) -> None:
    @app.task(name="spins")
    def spins() -> None:
        ledger.begin("spins")
        while True:
            threading.Event().wait(0.001)

    app.send_task("spins")
    app.send_task("await", ("awaits",))
    lane = make_lane()
    thread = start(lane)
    wait_for(lambda: ledger.now == 2)

    lane.stop()
    lane.interrupt(ShutdownInterrupt)
    thread.join(20)

    assert not thread.is_alive()
    assert (stats(consumer).ready, stats(consumer).held) == (2, 0)


@pytest.mark.parametrize("kind", ["wait", "await"])
def test_giving_up_gives_back_what_runs_and_drops_its_late_outcome(
    app: Umbel,
    consumer: Consumer,
    make_lane: MakeLane,
    start: Callable[..., Any],
    ledger: Ledger,
    kind: str,
) -> None:
    results = app.send_many((kind, (i,)) for i in range(3))
    lane = make_lane()
    thread = start(lane)
    wait_for(lambda: ledger.now == 3)

    lane.give_up()
    assert (stats(consumer).ready, stats(consumer).held) == (3, 0)
    ledger.gate.set()
    thread.join(20)

    assert not thread.is_alive()
    assert stats(consumer).ready == 3
    assert not any(result.ready() for result in results)


def test_it_ends_after_so_many_tasks(
    app: Umbel, consumer: Consumer, make_lane: MakeLane, ledger: Ledger
) -> None:
    app.send_many(("work", (i,)) for i in range(20))

    make_lane(1, max_tasks=3).run()

    assert ledger.ran == Counter(range(3))
    assert (stats(consumer).ready, stats(consumer).held) == (17, 0)


def test_a_burst_ends_when_the_queue_is_empty(
    app: Umbel, consumer: Consumer, make_lane: MakeLane, ledger: Ledger
) -> None:
    app.send_many(("work", (i,)) for i in range(100))

    make_lane(burst=True).run()

    assert ledger.ran == Counter(range(100))
    assert drained(consumer)


# -- outages ----------------------------------------------------------------------------------


@pytest.mark.parametrize("part", ["broker", "backend"])
def test_an_outage_is_no_end_of_a_burst(
    app: Umbel,
    consumer: Consumer,
    make_lane: MakeLane,
    start: Callable[..., Any],
    fault: Callable[..., Any],
    ledger: Ledger,
    part: str,
) -> None:
    outage = fault(getattr(consumer, part), "receive" if part == "broker" else "store")
    results = app.send_many(("work", (i,)) for i in range(10))
    thread = start(make_lane(burst=True))
    wait_for(lambda: outage.calls >= 2)
    assert thread.is_alive()

    outage.is_on = False
    thread.join(20)

    assert [result.get(timeout=1) for result in results] == list(range(10))
    assert ledger.ran == Counter(range(10))


def test_a_backend_outage_stops_receiving_before_too_much_is_kept(
    app: Umbel,
    consumer: Consumer,
    make_lane: MakeLane,
    start: Callable[..., Any],
    fault: Callable[..., Any],
    ledger: Ledger,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(pooled, "MAX_BACKLOG", 5)
    outage = fault(consumer.backend, "store")
    results = app.send_many(("work", (i,)) for i in range(100))
    start(make_lane())
    wait_for(lambda: consumer.settler.backlog > 5)
    tries = outage.calls
    wait_for(lambda: outage.calls >= tries + 2)
    assert stats(consumer).ready > 0

    outage.is_on = False

    assert [result.get(timeout=30) for result in results] == list(range(100))
    assert ledger.ran == Counter(range(100))


def test_what_is_being_settled_is_no_stray(
    app: Umbel,
    consumer: Consumer,
    make_lane: MakeLane,
    start: Callable[..., Any],
    ledger: Ledger,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    settling, go_on = threading.Event(), threading.Event()
    settle = consumer.broker.settle

    def slow(*args: Any) -> Any:
        settling.set()
        assert go_on.wait(30)
        return settle(*args)

    monkeypatch.setattr(consumer.broker, "settle", slow)
    result = app.send_task("work", ("once",))
    lane = make_lane()
    start(lane)
    assert settling.wait(30)

    consumer.source._reconciled_at = -1e9
    consumer.source.reconcile(lane._known())
    go_on.set()

    assert result.get(timeout=30) == "once"
    wait_for(lambda: drained(consumer))
    assert ledger.ran == Counter(once=1)


# -- errors that should not be ----------------------------------------------------------------


@pytest.mark.parametrize(
    "part, name", [("broker", "receive"), ("intake", "take"), ("settler", "flush")]
)
def test_an_error_of_a_plugin_ends_no_thread(
    app: Umbel,
    consumer: Consumer,
    make_lane: MakeLane,
    start: Callable[..., Any],
    fault: Callable[..., Any],
    monkeypatch: pytest.MonkeyPatch,
    part: str,
    name: str,
) -> None:
    monkeypatch.setattr(pooled, "_MEND_S", 0.01)
    broken = fault(getattr(consumer, part), name, error=TypeError("a plugin's bug"))
    result = app.send_task("work", ("good",))
    start(make_lane())
    wait_for(lambda: broken.calls >= 1)
    broken.is_on = False
    consumer.source._reconciled_at = -1e9

    assert result.get(timeout=30) == "good"


def test_an_early_acknowledgement_does_not_hold_up_the_loop(
    app: Umbel,
    consumer: Consumer,
    make_lane: MakeLane,
    start: Callable[..., Any],
    ledger: Ledger,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    acking, go_on = threading.Event(), threading.Event()
    ack = consumer.broker.ack

    def slow(deliveries: Any) -> Any:
        acking.set()
        assert go_on.wait(30)
        return ack(deliveries)

    @app.task(name="early", acks_late=False)
    async def early() -> str:
        return "early"

    monkeypatch.setattr(consumer.broker, "ack", slow)
    result = app.send_task("early")
    start(make_lane())
    assert acking.wait(30)
    ledger.gate.set()

    assert app.send_task("await", ("meanwhile",)).get(timeout=30) == "meanwhile"
    go_on.set()
    assert result.get(timeout=30) == "early"


# -- what has killed its process --------------------------------------------------------------


def strike(app: Umbel, name: str, keys: list[str]) -> None:
    """Send tasks, and have each be what the process of another consumer died of."""
    other = app.open_broker()
    other.join("node", "node/struck", lease_s=60.0)
    app.send_many((name, (key,)) for key in keys)
    held = other.receive(["celery"], max_messages=len(keys), wait_s=5)
    assert len(held) == len(keys)
    other.recover_consumer("node/struck", struck={each.receipt: 0.0 for each in held})
    other.close()


def test_what_killed_a_process_before_runs_alone(
    app: Umbel,
    consumer: Consumer,
    make_lane: MakeLane,
    start: Callable[..., Any],
    ledger: Ledger,
) -> None:
    beside: dict[str, int] = {}

    @app.task(name="crowd")
    def crowd(key: str) -> None:
        ledger.begin(key)
        ledger.gate.wait(0.02)
        beside[key] = ledger.now
        ledger.end()

    strike(app, "crowd", ["s0", "s1", "s2"])
    app.send_many(("crowd", (f"g{i}",)) for i in range(20))
    start(make_lane())
    wait_for(lambda: len(beside) == 23)
    wait_for(lambda: drained(consumer))

    assert [beside[key] for key in ("s0", "s1", "s2")] == [1, 1, 1]
    assert ledger.most > 1
    assert set(ledger.ran.values()) == {1}


def test_what_is_to_run_alone_does_not_sit_behind_a_long_task(
    app: Umbel,
    consumer: Consumer,
    make_lane: MakeLane,
    start: Callable[..., Any],
    ledger: Ledger,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(quarantine, "_FIRST_PATIENCE_S", 0.05)
    strike(app, "work", ["struck"])
    app.send_task("wait", ("long",))
    start(make_lane())
    wait_for(lambda: ledger.now == 1)
    wait_for(lambda: stats(consumer).held == 1)  # it was given back
    app.send_task("work", ("short",))
    wait_for(lambda: ledger.ran["short"] == 1)
    assert ledger.ran["struck"] == 0

    ledger.gate.set()
    wait_for(lambda: ledger.ran["struck"] == 1)
    wait_for(lambda: drained(consumer))


def test_what_waits_to_run_alone_is_given_back_at_the_end(
    app: Umbel,
    consumer: Consumer,
    make_lane: MakeLane,
    start: Callable[..., Any],
    ledger: Ledger,
) -> None:
    strike(app, "work", ["struck"])
    app.send_task("wait", ("long",))
    lane = make_lane()
    thread = start(lane)
    wait_for(lambda: ledger.now == 1)
    wait_for(lambda: lane._quarantine.waiting)

    lane.stop()
    wait_for(lambda: stats(consumer).held == 1)
    ledger.gate.set()
    thread.join(20)
    assert (stats(consumer).ready, stats(consumer).held) == (1, 0)
    assert ledger.ran["struck"] == 0
