from collections.abc import Callable

import pytest

from umbel import Umbel
from umbel.messages import DeathKind, Delivery
from umbel.outcomes import Failure, Outcome, Rejected
from umbel.worker.unknown_tasks import UnknownTasks
from umbel_testing import FakeClock


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


def decided(
    app: Umbel, clock: FakeClock, deliver: Callable[..., Delivery]
) -> Callable[..., Outcome]:
    unknown = UnknownTasks(app.conf, clock.monotonic)
    return lambda token=1, task_id="i": unknown.outcome(deliver("new", token=token), "new", task_id)


def test_a_task_is_held_with_growing_delays_until_its_time_is_over(
    app: Umbel, clock: FakeClock, deliver: Callable[..., Delivery]
) -> None:
    decide = decided(app, clock, deliver)
    delays = []
    while isinstance(outcome := decide(), Rejected):
        assert outcome.requeue
        delays.append(outcome.delay_s)
        clock.advance(outcome.delay_s)

    assert delays[:8] == [1, 2, 4, 8, 16, 32, 60, 60]
    assert sum(delays) == pytest.approx(300)
    assert isinstance(outcome, Failure)
    assert outcome.death is DeathKind.UNKNOWN
    assert outcome.dead_letter == "unknown task 'new': no worker that got it knows it"
    assert outcome.details == {"held_s": 300.0, "deliveries": 1}


def test_deliveries_that_others_had_before_shorten_no_hold(
    app: Umbel, clock: FakeClock, deliver: Callable[..., Delivery]
) -> None:
    outcome = decided(app, clock, deliver)(token=40)

    assert isinstance(outcome, Rejected)
    assert outcome.delay_s == 1


def test_a_task_that_comes_without_end_is_a_dead_letter_in_the_end(
    app: Umbel, clock: FakeClock, deliver: Callable[..., Delivery]
) -> None:
    assert isinstance(decided(app, clock, deliver)(token=1000), Failure)


def test_each_task_has_its_own_time(
    app: Umbel, clock: FakeClock, deliver: Callable[..., Delivery]
) -> None:
    app.conf.update(worker_unknown_task_hold_s=10)
    decide = decided(app, clock, deliver)
    decide(task_id="a")
    clock.advance(10)

    assert isinstance(decide(task_id="b"), Rejected)
    assert isinstance(decide(task_id="a"), Failure)


def test_without_hold_it_is_a_dead_letter_at_once(
    app: Umbel, clock: FakeClock, deliver: Callable[..., Delivery]
) -> None:
    app.conf.update(worker_unknown_task="dead_letter")

    assert isinstance(decided(app, clock, deliver)(), Failure)


def test_the_oldest_are_forgotten_so_that_memory_is_bounded(
    app: Umbel, clock: FakeClock, deliver: Callable[..., Delivery]
) -> None:
    unknown = UnknownTasks(app.conf, clock.monotonic)
    delivery = deliver("new")
    for number in range(10_050):
        unknown.outcome(delivery, "new", str(number))

    assert len(unknown._holds) == 10_000
