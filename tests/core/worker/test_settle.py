"""Settling in an order in which a crash at any step repeats work and loses none."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest

from umbel import Umbel
from umbel.errors import BackendUnavailableError, BrokerUnavailableError
from umbel.messages import Delivery
from umbel.outcomes import ErrorInfo, Failure, Outcome, Rejected, Revoked, Success
from umbel.worker.consumer import Consumer
from umbel.worker.execute import run_sync
from umbel.worker.jobs import Job, Settlement
from umbel.worker.limits import DeadlineWatch, ThreadGuard

ERROR = ErrorInfo("ValueError", "builtins", ["no"], None, "ValueError('no')")


@pytest.fixture(autouse=True)
def tasks(app: Umbel) -> None:
    app.task(name="add")(lambda x, y: x + y)
    app.task(name="quiet", ignore_result=True)(lambda: 1)

    @app.task(name="fail")
    def fail() -> None:
        raise ValueError("no")

    @app.task(name="again", bind=True, default_retry_delay=3600)
    def again(self: Any) -> None:
        self.retry()


def take(consumer: Consumer) -> Job:
    (delivery,) = consumer.broker.receive(["celery"], max_messages=1, wait_s=5)
    job = consumer.decoder.decode(delivery)
    assert isinstance(job, Job)
    return job


def settle(consumer: Consumer, job: Job, outcome: Outcome | None = None) -> bool:
    if outcome is None:
        outcome = run_sync(job, ThreadGuard(DeadlineWatch()), consumer.host.clock.time)
    consumer.settler.add(Settlement(job.delivery, outcome, job, 1.0, job.early_ack))
    return consumer.settler.flush(force=True)


def held_or_waiting(consumer: Consumer) -> int:
    stats = consumer.broker.stats("celery")
    return stats.held + stats.ready + stats.delayed


def test_a_success_is_stored_and_acknowledged(app: Umbel, consumer: Consumer) -> None:
    result = app.send_task("add", (2, 3))

    assert settle(consumer, take(consumer))

    assert result.get(timeout=1) == 5
    assert held_or_waiting(consumer) == 0


def test_the_result_says_who_ran_what(app: Umbel, consumer: Consumer) -> None:
    result = app.send_task("add", (2, 3))
    settle(consumer, take(consumer))

    assert (result.name, result.args, result.worker, result.retries, result.queue) == (
        "add",
        [2, 3],
        "w@host",
        0,
        "celery",
    )


def test_an_ignored_result_is_not_stored(app: Umbel, consumer: Consumer) -> None:
    result = app.send_task("quiet")
    settle(consumer, take(consumer))

    assert result.state == "PENDING"
    assert held_or_waiting(consumer) == 0


def test_errors_are_stored_even_if_ignored_where_that_is_wanted(
    app: Umbel, consumer: Consumer
) -> None:
    app.task(name="loud", ignore_result=True, store_errors_even_if_ignored=True)(lambda: 1 / 0)
    result = app.send_task("loud")
    settle(consumer, take(consumer))

    assert result.state == "FAILURE"


def test_a_retry_waits_in_the_broker(app: Umbel, consumer: Consumer) -> None:
    result = app.send_task("again")
    settle(consumer, take(consumer))

    stats = consumer.broker.stats("celery")
    assert (stats.ready, stats.held, stats.delayed) == (0, 0, 1)
    assert result.state == "RETRY"


def test_callbacks_and_errbacks_are_sent(app: Umbel, consumer: Consumer) -> None:
    add, fail = app.tasks["add"], app.tasks["fail"]
    add.apply_async((1, 2), link=add.s(10))
    settle(consumer, take(consumer))
    callback = take(consumer)
    fail.apply_async(link_error=add.s(10))
    settle(consumer, callback)
    failed = take(consumer)
    settle(consumer, failed)
    errback = take(consumer)

    assert list(callback.request.args) == [3, 10]
    assert callback.request.parent_id != callback.request.id
    assert list(errback.request.args) == [failed.request.id, 10]
    assert errback.request.root_id == failed.request.id


def test_a_rejected_message_is_a_dead_letter(app: Umbel, consumer: Consumer) -> None:
    app.send_task("add", (1, 2))
    settle(consumer, take(consumer), Rejected("not good"))

    (dead,) = consumer.broker.dead_letters()
    assert dead.reason == "not good"
    assert held_or_waiting(consumer) == 0


def test_a_requeued_message_comes_again(app: Umbel, consumer: Consumer) -> None:
    app.send_task("add", (1, 2))
    settle(consumer, take(consumer), Rejected("later", requeue=True))

    assert take(consumer).delivery.redelivered


def test_a_revoked_task_says_so(app: Umbel, consumer: Consumer) -> None:
    result = app.send_task("add", (1, 2))
    settle(consumer, take(consumer), Revoked("expired"))

    assert result.state == "REVOKED"


def test_an_early_acknowledged_task_is_not_acknowledged_again(
    app: Umbel, consumer: Consumer
) -> None:
    app.task(name="early", acks_late=False)(lambda: 1)
    result = app.send_task("early")
    job = take(consumer)
    assert consumer.intake.may_begin(job)
    assert held_or_waiting(consumer) == 0

    assert settle(consumer, job)
    assert result.get(timeout=1) == 1


STEPS = ["store", "settle"]


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
def test_a_fault_at_any_step_keeps_the_outcome_and_a_later_flush_settles_it(
    app: Umbel,
    consumer: Consumer,
    monkeypatch: pytest.MonkeyPatch,
    step: str,
    after: bool,
) -> None:
    result = app.send_task("add", (2, 3))
    job = take(consumer)
    target: Any = consumer.backend if step == "store" else consumer.broker
    error = BackendUnavailableError if step == "store" else BrokerUnavailableError
    original: Callable[..., Any] = getattr(target, step)

    def broken(*args: Any) -> None:
        if after:
            original(*args)
        raise error("gone")

    monkeypatch.setattr(target, step, broken)
    assert not settle(consumer, job)
    assert consumer.settler.backlog == 1

    monkeypatch.setattr(target, step, original)
    assert consumer.settler.flush(force=True)
    assert result.get(timeout=1) == 5
    assert held_or_waiting(consumer) == 0


def test_a_task_whose_worker_died_before_the_ack_is_not_run_again(
    app: Umbel, consumer: Consumer, monkeypatch: pytest.MonkeyPatch
) -> None:
    ran: list[int] = []
    app.task(name="once")(lambda: ran.append(1))
    add = app.tasks["add"]
    result = app.tasks["once"].apply_async(link=add.s(1))
    job = take(consumer)

    def die(*_: Any) -> None:
        raise BrokerUnavailableError("killed before the ack")

    with monkeypatch.context() as patch:
        patch.setattr(consumer.broker, "settle", die)
        settle(consumer, job)
    consumer.settler._pending.clear()  # the process is gone, and what it knew
    consumer.broker.recover_consumer("node/0", struck=[job.delivery.receipt])

    (again,) = consumer.broker.receive(["celery"], max_messages=5, wait_s=5)
    assert consumer.intake.take([again]) == []
    assert consumer.settler.flush(force=True)

    assert ran == [1]
    assert result.state == "SUCCESS"
    (callback,) = consumer.broker.receive(["celery"], max_messages=5, wait_s=5)
    assert getattr(callback.message, "task", None) == "add"


def test_the_late_outcome_of_a_superseded_delivery_is_refused(
    app: Umbel, consumer: Consumer
) -> None:
    result = app.send_task("add", (2, 3))
    late = take(consumer)
    consumer.broker.recover_consumer("node/0")
    current = take(consumer)
    assert settle(consumer, current, Success(b'"current"'))

    assert settle(consumer, late, Success(b'"late"'))

    assert result.get(timeout=1) == "current"


def test_an_outcome_that_cannot_be_planned_does_not_hold_up_its_neighbours(
    app: Umbel, consumer: Consumer
) -> None:
    bad, good = app.send_task("add", (1, 1)), app.send_task("add", (2, 2))
    jobs = [take(consumer), take(consumer)]
    broken = Failure(ERROR, children=[object()])
    consumer.settler.add(Settlement(jobs[0].delivery, broken, jobs[0], 1.0))

    assert settle(consumer, jobs[1])

    assert good.get(timeout=1) == 4
    assert bad.state == "FAILURE"
    (dead,) = consumer.broker.dead_letters()
    assert "can't be settled" in dead.reason


def test_strays_are_given_back(app: Umbel, consumer: Consumer) -> None:
    app.send_task("add", (1, 1))
    lost: Sequence[Delivery] = consumer.broker.receive(["celery"], max_messages=1, wait_s=5)
    consumer.source._reconciled_at = -1e9

    consumer.source.reconcile(set())

    again = take(consumer)
    assert again.delivery.receipt == lost[0].receipt
    assert again.delivery.redelivered


def test_a_state_of_the_tasks_own_is_stored_for_a_redelivered_run_too(
    app: Umbel, consumer: Consumer
) -> None:
    @app.task(name="tell", bind=True)
    def tell(self: Any, done: int) -> None:
        self.update_state(state="PROGRESS", meta={"done": done})

    result = app.send_task("tell", (1,))
    for done in (1, 2):
        job = take(consumer)
        job.request.args[:] = [done]  # type: ignore[index]
        run_sync(job, ThreadGuard(DeadlineWatch()), consumer.host.clock.time)
        consumer.broker.recover_consumer("node/0")

    assert (result.state, result.info) == ("PROGRESS", {"done": 2})
