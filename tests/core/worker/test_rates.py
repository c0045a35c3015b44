"""Tasks with a rate limit in a consumer: begun, or given back until they may."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator

import pytest

from umbel import Umbel
from umbel.messages import Delivery
from umbel.outcomes import Rejected, Revoked
from umbel.worker.consumer import Consumer
from umbel.worker.identity import Identity
from umbel.worker.jobs import Job
from umbel.worker.pooled import PooledLane
from umbel.worker.rates import OVER_LIMIT
from umbel.worker.solo import SoloLane
from umbel_testing.clock import FakeClock


@pytest.fixture
def make_consumer(clock: FakeClock) -> Iterator[Callable[..., Consumer]]:
    made: list[tuple[Umbel, Consumer]] = []

    def make(**settings: object) -> Consumer:
        app = Umbel("tests", broker="memory://", backend="memory://", clock=clock, **settings)
        app.task(name="slow", rate_limit="1/s")(lambda: None)
        app.task(name="early", rate_limit="1/s", acks_late=False)(lambda: None)
        app.task(name="free")(lambda: None)
        identity = Identity(node="node", consumer="node/0", hostname="w@host", lease_s=60.0)
        consumer = Consumer(app, identity, ["celery"])
        consumer.source.receive(max_messages=1, wait_s=0)
        made.append((app, consumer))
        return consumer

    yield make
    for app, consumer in made:
        consumer.close()
        app.close()


@pytest.fixture
def consumer(make_consumer: Callable[..., Consumer]) -> Consumer:
    return make_consumer()


def send(consumer: Consumer, *names: str, **options: object) -> None:
    for name in names:
        consumer.host.send_task(name, **options)  # type: ignore[attr-defined]


def receive(consumer: Consumer) -> list[Delivery]:
    return list(consumer.broker.receive(["celery"], max_messages=100, wait_s=0))


def begin(consumer: Consumer) -> Counter[str]:
    """Receive what is there; return which tasks may begin, and settle these."""
    begun: list[Job] = [
        job for job in consumer.intake.take(receive(consumer)) if consumer.intake.may_begin(job)
    ]
    consumer.broker.ack([job.delivery for job in begun if not job.early_ack])
    consumer.settler.flush()
    return Counter(job.runner.name for job in begun)


def outcomes(consumer: Consumer) -> list[object]:
    return [settlement.outcome for settlement in consumer.settler._pending]


def test_what_is_over_the_limit_goes_back_and_what_stands_behind_it_begins(
    consumer: Consumer,
) -> None:
    send(consumer, "slow", "slow", "slow", "free", "free")

    assert begin(consumer) == {"slow": 1, "free": 2}
    stats = consumer.broker.stats("celery")
    assert (stats.held, stats.delayed, stats.ready) == (0, 2, 0)


def test_all_of_them_begin_in_their_time(consumer: Consumer, clock: FakeClock) -> None:
    send(consumer, *["slow"] * 6)
    begun = [begin(consumer)["slow"]]
    for _ in range(60):
        clock.advance(0.1)
        begun.append(begin(consumer)["slow"])

    assert sum(begun) == 6
    assert sum(begun[:51]) >= 5  # what is 5 seconds' worth
    assert max(sum(begun[at : at + 9]) for at in range(len(begun))) == 1


def test_task_without_a_limit_asks_for_nothing(make_consumer: Callable[..., Consumer]) -> None:
    consumer = make_consumer()
    consumer.rates.refresh()

    assert set(consumer.rates.limited) == {"slow", "early"}


def test_what_is_given_back_unstarted_has_used_up_no_start(consumer: Consumer) -> None:
    send(consumer, "slow")
    (job,) = consumer.intake.take(receive(consumer))
    consumer.give_back([job.delivery])  # since a long task runs

    assert begin(consumer) == {"slow": 1}


def test_expired_task_uses_up_no_start(consumer: Consumer, clock: FakeClock) -> None:
    send(consumer, "slow", expires=5)
    (job,) = consumer.intake.take(receive(consumer))
    clock.advance(6)
    assert not consumer.intake.may_begin(job)

    assert outcomes(consumer) == [Revoked("expired")]
    send(consumer, "slow")
    assert begin(consumer) == {"slow": 1}


def test_task_revoked_while_it_was_held_does_not_begin(
    consumer: Consumer, clock: FakeClock
) -> None:
    send(consumer, "slow")
    assert begin(consumer) == {"slow": 1}
    send(consumer, "slow", task_id="unwanted")
    assert begin(consumer) == {}
    consumer.host.control.revoke("unwanted")  # type: ignore[attr-defined]
    consumer.revocations.changed()
    consumer.refresh_revocations()
    clock.advance(5)

    assert begin(consumer) == {}
    assert consumer.host.AsyncResult("unwanted").state == "REVOKED"  # type: ignore[attr-defined]


def test_early_acknowledged_task_is_held_before_it_is_acknowledged(
    consumer: Consumer, clock: FakeClock
) -> None:
    send(consumer, "early", "early")

    assert begin(consumer) == {"early": 1}
    assert consumer.broker.stats("celery").delayed == 1
    clock.advance(1)
    assert begin(consumer) == {"early": 1}


def test_task_that_is_held_gets_no_strike(consumer: Consumer, clock: FakeClock) -> None:
    send(consumer, "slow", "slow")
    begin(consumer)
    for _ in range(3):
        clock.advance(0.5)
        begin(consumer)
        send(consumer, "slow")
    clock.advance(0.5)

    assert {delivery.strikes for delivery in receive(consumer)} <= {0}


def test_retry_asks_again(consumer: Consumer) -> None:
    send(consumer, "slow")
    assert begin(consumer) == {"slow": 1}
    send(consumer, "slow", retries=1)

    assert begin(consumer) == {}
    assert consumer.broker.stats("celery").delayed == 1


def test_limit_that_is_set_while_it_runs_acts_on_the_next_batch(
    consumer: Consumer, clock: FakeClock
) -> None:
    send(consumer, "free", "free")
    assert begin(consumer) == {"free": 2}

    consumer.rates.table.override("free", 1.0)
    send(consumer, "free", "free")
    assert begin(consumer) == {"free": 1}

    consumer.rates.table.override("free", None)
    clock.advance(1)
    send(consumer, "free", "free")
    assert begin(consumer) == {"free": 3}


def test_raised_limit_is_felt_within_seconds(consumer: Consumer, clock: FakeClock) -> None:
    consumer.rates.table.override("slow", 5 / 3600)
    send(consumer, *["slow"] * 20)
    assert begin(consumer) == {"slow": 1}

    consumer.rates.table.override("slow", 1000.0)
    begun = 0
    for _ in range(30):
        clock.advance(0.1)
        begun += begin(consumer)["slow"]

    assert begun == 19


def test_task_that_is_defined_later_has_its_limit(consumer: Consumer) -> None:
    begin(consumer)
    app = consumer.host
    app.task(name="late", rate_limit="1/m")(lambda: None)  # type: ignore[attr-defined]
    send(consumer, "late", "late")

    assert begin(consumer) == {"late": 1}


def test_limits_can_be_disabled(make_consumer: Callable[..., Consumer]) -> None:
    consumer = make_consumer(worker_disable_rate_limits=True)
    send(consumer, *["slow"] * 5)

    assert begin(consumer) == {"slow": 5}


def test_default_of_the_settings_limits_each_type(make_consumer: Callable[..., Consumer]) -> None:
    consumer = make_consumer(task_default_rate_limit="1/s")
    send(consumer, "free", "free", "slow", "slow")

    assert begin(consumer) == {"free": 1, "slow": 1}


def test_held_one_is_given_back_with_a_delay(consumer: Consumer) -> None:
    send(consumer, "slow", "slow")
    one, other = consumer.intake.take(receive(consumer))
    assert consumer.intake.may_begin(one)
    assert not consumer.intake.may_begin(other)

    (outcome,) = outcomes(consumer)
    assert isinstance(outcome, Rejected)
    assert (outcome.reason, outcome.requeue) == (OVER_LIMIT, True)
    assert 0 < outcome.delay_s <= 1


@pytest.mark.parametrize("kind", ["solo", "threads"])
def test_held_ones_count_for_no_task_that_a_process_has_run(
    make_consumer: Callable[..., Consumer],
    start: Callable[[object], object],
    kind: str,
) -> None:
    from project import wait_for

    from umbel.worker.limits import DeadlineWatch, ThreadGuard

    consumer = make_consumer()
    lane: SoloLane | PooledLane
    if kind == "solo":
        lane = SoloLane(consumer, guard=ThreadGuard(DeadlineWatch()), max_tasks=3)
    else:
        factory = consumer.host.pool("threads").factory
        assert factory is not None
        lane = PooledLane(consumer, factory(4), max_tasks=3)
    send(consumer, *["slow"] * 20)
    start(lane)
    wait_for(lambda: consumer.broker.stats("celery").delayed == 19)
    assert lane.done == 1
    assert not consumer.stopping.is_set()
    send(consumer, "free", "free")

    wait_for(consumer.stopping.is_set)
    assert lane.done == 3
