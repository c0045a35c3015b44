"""The number of children follows the load between its bounds."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from project import wait_for

from umbel import Umbel
from umbel.errors import ConfigError
from umbel.worker.board import Board, slot_key
from umbel.worker.scaling import Bounds, Gauge, Scaling

UP_TO_8 = Bounds(8, 1)


class FixedGauge:
    """Tells what a test says."""

    def __init__(self, ready: int | None, *, can_tell: bool = True):
        self.ready, self.can_tell, self.asked = ready, can_tell, 0

    def take(self) -> int | None:
        return self.ready

    def ask(self) -> None:
        self.asked += 1


class FakeChild:
    """What a scaling sees of a child."""

    def __init__(self, board: Board):
        self.board = board


class Pool:
    """Children of a test, with real boards."""

    def __init__(self, slots: int):
        self.slots = slots
        self.children: list[Any] = []

    def resize(self, size: int) -> None:
        while len(self.children) < size:
            self.children.append(FakeChild(Board.create(self.slots)))
        while len(self.children) > size:
            self.children.pop().board.close()

    def run(self, tasks: int) -> None:
        """Have so many tasks running in all, the first children full."""
        for child in self.children:
            for slot in range(self.slots):
                child.board.end(slot)
                if tasks > 0:
                    child.board.begin(slot, slot_key("r"), 1.0, None)
                tasks -= 1


@pytest.fixture
def pool() -> Iterator[Pool]:
    made = Pool(1)
    yield made
    made.resize(0)


class Driver:
    """Drives a `Scaling` through time; the pool is always as large as it wants."""

    def __init__(self, scaling: Scaling, pool: Pool):
        self.scaling, self.pool, self.now = scaling, pool, 100.0
        pool.resize(scaling.size)

    def run(self, seconds: float, tasks: Callable[[], int] | int) -> list[int]:
        sizes = []
        for _ in range(int(seconds / 0.25)):
            self.now += 0.25
            self.pool.run(tasks() if callable(tasks) else tasks)
            self.scaling.look(self.pool.children, self.now)
            self.pool.resize(self.scaling.size)
            sizes.append(self.scaling.size)
        return sizes


def make(
    pool: Pool, gauge: FixedGauge, *, bounds: Bounds | None = UP_TO_8, size: int = 1
) -> Driver:
    scaling: Any = Scaling(size, bounds, slots=pool.slots, idle_s=30.0, gauge=gauge)
    return Driver(scaling, pool)


def test_without_bounds_the_number_stays(pool: Pool) -> None:
    driver = make(pool, FixedGauge(1000), bounds=None, size=3)

    assert set(driver.run(100, 3)) == {3}


def test_it_begins_with_the_fewest_and_doubles_while_messages_wait(pool: Pool) -> None:
    driver = make(pool, FixedGauge(1000))

    sizes = driver.run(4, lambda: 100)
    assert list(dict.fromkeys(sizes)) == [1, 2, 4, 8]


def test_it_grows_by_no_more_than_what_waits(pool: Pool) -> None:
    driver = make(pool, FixedGauge(1), bounds=Bounds(8, 4))

    assert driver.run(1.0, 100)[-1] == 5


def test_many_slots_take_many_messages(pool: Pool) -> None:
    pool.slots = 10
    driver = make(pool, FixedGauge(15), bounds=Bounds(8, 4))

    assert driver.run(1.0, 100)[-1] == 6


def test_it_does_not_grow_while_nothing_waits(pool: Pool) -> None:
    driver = make(pool, FixedGauge(0))

    assert set(driver.run(100, 100)) == {1}


def test_it_does_not_grow_while_a_child_is_free(pool: Pool) -> None:
    driver = make(pool, FixedGauge(50), bounds=Bounds(8, 2))

    assert set(driver.run(100, 1)) == {2}
    assert driver.scaling._gauge.asked == 0


def test_children_that_run_short_tasks_one_after_the_other_are_busy(pool: Pool) -> None:
    driver, done = make(pool, FixedGauge(50)), 0

    def between_tasks() -> int:
        nonlocal done
        done += 1
        for child in pool.children:
            child.board.count_done(done)
        return 0

    assert driver.run(10, between_tasks)[-1] == 8


def test_a_broker_that_cannot_tell_goes_by_busy_children(pool: Pool) -> None:
    driver = make(pool, FixedGauge(None, can_tell=False))

    assert driver.run(0.5, 100)[-1] == 1  # once is no proof
    assert driver.run(10, 100)[-1] == 8


def test_an_outage_of_the_broker_changes_nothing(pool: Pool) -> None:
    driver = make(pool, FixedGauge(None), bounds=Bounds(8, 2))

    assert set(driver.run(100, 100)) == {2}


def test_it_shrinks_to_what_was_needed_after_a_while(pool: Pool) -> None:
    gauge = FixedGauge(1000)
    driver = make(pool, gauge)
    driver.run(10, 100)
    gauge.ready = 0

    sizes = driver.run(29, 3)
    assert set(sizes) == {8}
    assert driver.run(3, 3)[-1] == 3
    assert driver.run(65, 0)[-1] == 1


def test_it_does_not_shrink_while_all_are_needed_now_and_then(pool: Pool) -> None:
    gauge = FixedGauge(1000)
    driver = make(pool, gauge)
    driver.run(10, 100)
    gauge.ready = 0

    for _ in range(5):
        assert set(driver.run(20, 1)) == {8}
        assert set(driver.run(1, 8)) == {8}


# -- by hand ----------------------------------------------------------------------------------


def test_it_is_grown_and_shrunk_by_hand(pool: Pool) -> None:
    scaling = make(pool, FixedGauge(0), bounds=None, size=2).scaling

    assert scaling.grow(3) == 5
    assert scaling.shrink(1) == 4
    assert scaling.shrink(99) == 1


def test_a_change_by_hand_moves_the_bounds(pool: Pool) -> None:
    scaling = make(pool, FixedGauge(0), bounds=Bounds(3, 2)).scaling

    scaling.grow(4)
    assert (scaling.size, scaling.bounds) == (6, Bounds(6, 2))
    scaling.shrink(5)
    assert (scaling.size, scaling.bounds) == (1, Bounds(6, 1))


@pytest.mark.parametrize("by", [0, -1])
def test_a_change_by_nothing_is_refused(pool: Pool, by: int) -> None:
    scaling = make(pool, FixedGauge(0), bounds=None, size=2).scaling

    for change in (scaling.grow, scaling.shrink):
        with pytest.raises(ConfigError, match="give 1 or more"):
            change(by)
    assert scaling.size == 2


@pytest.mark.parametrize("size,most,fewest,becomes", [(5, 3, 1, 3), (2, 8, 4, 4), (2, 8, 1, 2)])
def test_new_bounds_hold_at_once(
    pool: Pool, size: int, most: int, fewest: int, becomes: int
) -> None:
    scaling = make(pool, FixedGauge(0), bounds=None, size=size).scaling

    assert scaling.set_bounds(most, fewest) == becomes
    assert scaling.bounds == Bounds(most, fewest)


@pytest.mark.parametrize("most,fewest", [(1, 2), (3, 0), (-1, -2)])
def test_bounds_that_contradict_each_other_are_refused(pool: Pool, most: int, fewest: int) -> None:
    scaling = make(pool, FixedGauge(0), bounds=None, size=2).scaling

    with pytest.raises(ConfigError, match="1 <= least <= most"):
        scaling.set_bounds(most, fewest)
    assert scaling.bounds is None


@pytest.mark.parametrize(
    "text,bounds", [(None, None), ("10,3", Bounds(10, 3)), ("4", Bounds(4, 1))]
)
def test_bounds_are_read_from_the_settings(text: str | None, bounds: Bounds | None) -> None:
    with Umbel("tests", broker="memory://", worker_autoscale=text) as app:
        assert Bounds.of(app.conf) == bounds


# -- the gauge --------------------------------------------------------------------------------


def test_a_gauge_counts_what_is_ready_in_all_its_queues(app: Umbel) -> None:
    for queue in ("a", "a", "b", "other"):
        app.send_task("work", queue=queue)
    app.send_task("work", queue="a", countdown=60)
    gauge = Gauge(app.broker, ["a", "b"])
    assert gauge.take() is None

    gauge.ask()
    wait_for(lambda: gauge._ready is not None)
    assert gauge.take() == 3
    assert gauge.take() is None
    gauge.stop()


def test_a_gauge_lives_through_an_outage(app: Umbel, fault: Callable[..., Any]) -> None:
    gauge = Gauge(app.broker, ["a"])
    outage = fault(app.broker, "stats")
    gauge.ask()
    wait_for(lambda: outage.calls)
    assert gauge.take() is None

    outage.is_on = False
    gauge.ask()
    wait_for(lambda: gauge.take() == 0)
    gauge.stop()
