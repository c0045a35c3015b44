"""A replayed task runs, and what comes of it takes the place of what came of it before."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from umbel import Umbel
from umbel.errors import BackendUnavailableError
from umbel.messages import Message
from umbel.outcomes import Outcome
from umbel.worker.consumer import Consumer
from umbel.worker.jobs import Job, Settlement
from umbel.worker.strikes import poison

Run = Callable[[Job], Outcome]


@pytest.fixture
def broken() -> list[str]:
    """What is broken: tasks fail while there is something."""
    return ["all"]


@pytest.fixture(autouse=True)
def tasks(app: Umbel, broken: list[str]) -> None:
    app.conf.update(task_dead_letter="failed")
    app.task(name="told")(lambda task_id: task_id)

    @app.task(name="work", bind=True, max_retries=1, default_retry_delay=0)
    def work(self: Any) -> int:
        if broken:
            raise self.retry(exc=ValueError("no"))
        return int(self.request.retries)

    @app.task(name="long", bind=True)
    def long(self: Any) -> None:
        self.update_state(state="PROGRESS", meta=50)
        if broken:
            raise ValueError("no")


def take(consumer: Consumer) -> Job:
    (job,) = consumer.intake.take(consumer.broker.receive(["celery"], max_messages=1, wait_s=5))
    return job


def work_off(consumer: Consumer, run: Run) -> list[Job]:
    """Run and settle what waits, to the end."""
    ran = []
    while consumer.broker.stats("celery").ready:
        job = take(consumer)
        consumer.settler.add(Settlement(job.delivery, run(job), job, 1.0))
        assert consumer.settler.flush()
        ran.append(job)
    return ran


def test_the_new_result_takes_the_place_of_the_old_failure(
    app: Umbel, consumer: Consumer, run: Run, broken: list[str]
) -> None:
    result = app.send_task("work")
    assert [job.request.retries for job in work_off(consumer, run)] == [0, 1]
    assert result.state == "FAILURE"
    broken.clear()
    app.dead_letters.replay(result.id)
    assert app.AsyncResult(result.id).state == "RETRY"
    work_off(consumer, run)

    again = app.AsyncResult(result.id)
    assert (again.state, again.get(timeout=1), again.retries) == ("SUCCESS", 0, 0)
    assert app.dead_letters.count() == 0


def test_a_replay_has_all_its_retries_again_and_may_die_again(
    app: Umbel, consumer: Consumer, run: Run, broken: list[str]
) -> None:
    result = app.send_task("work")
    work_off(consumer, run)
    app.dead_letters.replay(result.id)
    ran = work_off(consumer, run)

    assert [(job.request.retries, job.request.attempt) for job in ran] == [(0, 2), (1, 3)]
    assert app.AsyncResult(result.id).state == "FAILURE"
    (letter,) = app.dead_letters
    assert isinstance(letter.message, Message)
    assert (letter.message.id, letter.message.attempt) == (result.id, 3)
    broken.clear()
    app.dead_letters.replay(result.id)
    (last,) = work_off(consumer, run)
    assert last.request.attempt == 4
    assert last.request.headers["umbel_replays"] == 2
    assert app.AsyncResult(result.id).get(timeout=1) == 0


def test_a_replay_that_comes_again_is_run_though_the_attempt_before_failed(
    app: Umbel, consumer: Consumer, run: Run, broken: list[str]
) -> None:
    result = app.send_task("work")
    work_off(consumer, run)
    app.dead_letters.replay(result.id)
    broken.clear()
    consumer.broker.recover_consumer("node/0", struck={take(consumer).delivery.receipt: 0.0})

    assert len(work_off(consumer, run)) == 1
    assert app.AsyncResult(result.id).get(timeout=1) == 0


def test_a_replay_that_finished_and_comes_again_is_not_run(
    app: Umbel, consumer: Consumer, run: Run, broken: list[str]
) -> None:
    result = app.send_task("work")
    work_off(consumer, run)
    app.dead_letters.replay(result.id)
    broken.clear()
    job = take(consumer)
    plan = consumer.planner.plan(Settlement(job.delivery, run(job), job, 1.0))
    assert plan.result is not None
    app.backend.store([plan.result])  # type: ignore[union-attr]
    consumer.broker.recover_consumer("node/0")
    deliveries = consumer.broker.receive(["celery"], max_messages=1, wait_s=5)

    assert consumer.intake.take(deliveries) == []


def test_a_state_of_the_task_s_own_is_stored_in_a_replay(
    app: Umbel, consumer: Consumer, run: Run, broken: list[str]
) -> None:
    result = app.send_task("long")
    work_off(consumer, run)
    app.dead_letters.replay(result.id)
    broken.clear()
    run(take(consumer))

    again = app.AsyncResult(result.id)
    assert (again.state, again.info) == ("PROGRESS", 50)


def test_errbacks_of_a_replay_are_other_tasks_than_those_before(
    app: Umbel, consumer: Consumer, run: Run
) -> None:
    told = app.tasks["told"]
    result = app.tasks["work"].apply_async(link_error=told.s())
    before = [job.request.id for job in work_off(consumer, run) if job.request.task == "told"]
    app.dead_letters.replay(result.id)
    after = [job.request.id for job in work_off(consumer, run) if job.request.task == "told"]

    assert len(before) == len(after) == 1
    assert before != after


def test_an_outage_of_the_backend_keeps_no_task_from_being_replayed(
    app: Umbel, consumer: Consumer, run: Run, broken: list[str], fault: Callable[..., Any]
) -> None:
    result = app.send_task("work")
    work_off(consumer, run)
    broken.clear()
    away = fault(app.backend, "load", error=BackendUnavailableError("away"))
    assert app.dead_letters.replay(result.id).replayed == 1
    away.is_on = False
    assert app.AsyncResult(result.id).state == "FAILURE"
    work_off(consumer, run)

    assert app.AsyncResult(result.id).get(timeout=1) == 0


def test_poison_whose_burial_was_cut_off_is_buried_in_the_end(
    app: Umbel, consumer: Consumer
) -> None:
    app.send_task("work")
    job = take(consumer)
    plan = consumer.planner.plan(Settlement(job.delivery, poison(3), job, 1.0))
    assert plan.result is not None
    app.backend.store([plan.result])  # type: ignore[union-attr]
    consumer.broker.recover_consumer("node/0")
    deliveries = consumer.broker.receive(["celery"], max_messages=1, wait_s=5)
    assert consumer.intake.take(deliveries) == []
    consumer.settler.flush()

    (letter,) = app.dead_letters
    assert letter.kind == "poison"
    assert "died 3 times" in letter.reason
