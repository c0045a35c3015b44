"""What is taken in runs, or is settled without a run."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from umbel import Umbel, chain, chord
from umbel.errors import ChordError, DecodeError
from umbel.messages import Delivery
from umbel.outcomes import Failure, Outcome, Success
from umbel.worker.consumer import Consumer
from umbel.worker.execute import run_sync
from umbel.worker.jobs import Job, Settlement
from umbel.worker.limits import DeadlineWatch, ThreadGuard


@pytest.fixture
def ran() -> Counter[str]:
    return Counter()


@pytest.fixture(autouse=True)
def tasks(app: Umbel, ran: Counter[str]) -> None:
    @app.task(name="work")
    def work(key: str) -> str:
        ran[key] += 1
        return key

    @app.task(name="fails")
    def fails(key: str) -> None:
        ran[key] += 1
        raise ValueError(key)

    app.task(name="early", acks_late=False)(lambda: "early")


def receive(consumer: Consumer) -> Delivery:
    (delivery,) = consumer.broker.receive(["celery"], max_messages=1, wait_s=5)
    return delivery


def take(consumer: Consumer) -> list[Job]:
    return consumer.intake.take([receive(consumer)])


def run(consumer: Consumer, job: Job) -> Outcome:
    return run_sync(job, ThreadGuard(DeadlineWatch()), consumer.host.clock.time)


def lose_before_the_ack(consumer: Consumer, job: Job) -> None:
    """Run `job` and store its result; then its process dies, and it is delivered again."""
    settlement = Settlement(job.delivery, run(consumer, job), job, 1.0)
    plan = consumer.planner.plan(settlement)
    if plan.result is not None and consumer.backend is not None:
        consumer.backend.store([plan.result])
    consumer.broker.recover_consumer("node/0", struck={job.delivery.receipt: 0.0})


def held_or_waiting(consumer: Consumer) -> int:
    stats = consumer.broker.stats("celery")
    return stats.held + stats.ready + stats.delayed


# -- delivered again --------------------------------------------------------------------------


@pytest.mark.parametrize("name, state", [("work", "SUCCESS"), ("fails", "FAILURE")])
def test_a_finished_task_that_comes_again_is_settled_not_run(
    app: Umbel, consumer: Consumer, ran: Counter[str], name: str, state: str
) -> None:
    result = app.send_task(name, ("k",))
    lose_before_the_ack(consumer, take(consumer)[0])

    assert take(consumer) == []
    assert consumer.settler.flush()

    assert ran["k"] == 1
    assert result.state == state
    assert held_or_waiting(consumer) == 0


def test_a_task_that_retried_since_is_run(
    app: Umbel, consumer: Consumer, ran: Counter[str], message: Callable[..., Any]
) -> None:
    task_id = app.send_task("work", ("k",)).id
    lose_before_the_ack(consumer, take(consumer)[0])
    receive(consumer)
    again = message("work", "k", headers={"retries": 1, "id": task_id}, id=task_id)
    consumer.broker.send([again])
    delivery = msgspec.structs.replace(receive(consumer), token=2)

    (job,) = consumer.intake.take([delivery])
    assert job.request.retries == 1


@pytest.mark.parametrize("error", [None, TypeError("a plugin's bug")])
def test_a_task_that_comes_again_runs_where_nobody_can_say_whether_it_finished(
    app: Umbel, consumer: Consumer, fault: Callable[..., Any], error: Exception | None
) -> None:
    app.send_task("work", ("k",))
    lose_before_the_ack(consumer, take(consumer)[0])
    fault(consumer.backend, "load", error=error)

    assert len(take(consumer)) == 1


def spoil_result(consumer: Consumer, task_id: str) -> bytes:
    """Make the stored result one that can't be decoded; return it."""
    assert consumer.backend is not None
    found = consumer.backend.load([task_id])[task_id]
    spoilt = msgspec.structs.replace(found, body=b"{" + found.body)
    assert list(consumer.backend.store([spoilt])) == []
    return spoilt.body


@pytest.mark.parametrize("name", ["work", "fails"])
def test_what_comes_after_a_task_whose_stored_outcome_cannot_be_read_fails(
    app: Umbel, consumer: Consumer, ran: Counter[str], name: str
) -> None:
    assert consumer.backend is not None
    work = app.signature("work")
    first = app.signature(name, ("k",), task_id="first")
    header = [chain(first, work.set(task_id="next")), work.clone(("other",), queue="late")]
    result = chord(header, work.set(link_error=work.clone(queue="errbacks"))).apply_async()
    lose_before_the_ack(consumer, take(consumer)[0])
    body = spoil_result(consumer, "first")

    assert take(consumer) == []
    assert consumer.settler.flush()

    assert ran["k"] == 1
    assert consumer.backend.load(["first"])["first"].body == body
    with pytest.raises(DecodeError, match=r"outcome of work\[|fails\[first\] can't be read"):
        app.AsyncResult("next").get(timeout=0)
    with pytest.raises(ChordError, match="Dependency next raised DecodeError"):
        result.get(timeout=0)
    assert app.broker.stats("errbacks").ready == 1
    assert held_or_waiting(consumer) == 0


def test_errback_hears_of_a_failure_that_cannot_be_read_and_not_of_a_success(
    app: Umbel, consumer: Consumer
) -> None:
    errback = app.signature("work", queue="errbacks")
    for name, heard in (("work", 0), ("fails", 1)):
        app.signature(name, ("k",), task_id=name, link_error=errback).apply_async()
        lose_before_the_ack(consumer, take(consumer)[0])
        spoil_result(consumer, name)

        assert take(consumer) == []
        assert consumer.settler.flush()
        assert app.broker.stats("errbacks").ready == heard


def test_every_delivery_runs_where_that_is_wanted(make_app: Callable[..., Umbel]) -> None:
    app = make_app(backend="memory://", worker_deduplicate_successful_tasks=False)
    app.task(name="work")(lambda: 1)
    from umbel.worker.identity import Identity

    identity = Identity(node="node", consumer="node/0", hostname="w@host", lease_s=60.0)
    consumer = Consumer(app, identity, ["celery"])
    app.send_task("work")
    lose_before_the_ack(consumer, take(consumer)[0])

    assert len(take(consumer)) == 1
    consumer.close()


def test_a_task_whose_process_died_too_often_fails_and_is_told_of(
    app: Umbel, consumer: Consumer, caplog: pytest.LogCaptureFixture
) -> None:
    told: list[Any] = []
    app.events.add("task_failed", lambda *args: told.append(args))
    result = app.send_task("work", ("poison",))
    for _ in range(3):
        consumer.broker.recover_consumer("node/0", struck={receive(consumer).receipt: 0.0})

    assert take(consumer) == []
    assert consumer.settler.flush()

    assert result.state == "FAILURE"
    (dead,) = consumer.broker.dead_letters()
    assert "died 3 times" in dead.reason
    ((task, request, error, exception),) = told
    assert (task.name, request.id, error.exc_type, exception) == (
        "work",
        result.id,
        "WorkerLostError",
        None,
    )
    assert any("failed" in text and result.id in text for text in caplog.messages)


# -- right before the run ---------------------------------------------------------------------


def test_a_task_that_expires_between_fetch_and_start_is_revoked(
    make_app: Callable[..., Umbel], clock: Any
) -> None:
    from umbel.worker.identity import Identity

    app = make_app(backend="memory://", clock=clock)
    app.task(name="work")(lambda: 1)
    identity = Identity(node="node", consumer="node/0", hostname="w@host", lease_s=60.0)
    consumer = Consumer(app, identity, ["celery"])
    result = app.send_task("work", expires=10)
    (job,) = take(consumer)

    clock.advance(11)

    assert not consumer.intake.may_begin(job)
    assert consumer.settler.flush()
    assert result.state == "REVOKED"
    consumer.close()


def test_a_task_that_is_revoked_between_fetch_and_start_does_not_run(
    app: Umbel, consumer: Consumer
) -> None:
    result = app.send_task("work", ("k",))
    (job,) = take(consumer)
    assert consumer.intake.may_begin(job)

    result.revoke()
    consumer.revocations.changed()
    consumer.refresh_revocations()

    assert not consumer.intake.may_begin(job)
    assert consumer.settler.flush()
    assert result.state == "REVOKED"


def test_a_revoke_that_comes_while_they_are_read_is_read_next_time(
    app: Umbel, consumer: Consumer, monkeypatch: pytest.MonkeyPatch
) -> None:
    revocations, coordinator = consumer.revocations, consumer.coordinator
    assert coordinator is not None
    scan = coordinator.scan

    def scan_as_another_comes(prefix: str) -> Any:
        found = scan(prefix)
        coordinator.put("revoked/second", b"revoked")
        revocations.changed()
        return found

    monkeypatch.setattr(coordinator, "scan", scan_as_another_comes)
    consumer.refresh_revocations()
    monkeypatch.setattr(coordinator, "scan", scan)
    consumer.refresh_revocations()

    assert "second" in revocations


def test_what_was_known_of_revokes_holds_while_they_cannot_be_read(
    app: Umbel, consumer: Consumer, fault: Callable[..., Any]
) -> None:
    result = app.send_task("work", ("k",))
    result.revoke()
    consumer.refresh_revocations()
    fault(consumer.coordinator, "scan", error=TypeError("a plugin's bug"))
    consumer.revocations.changed()
    consumer.refresh_revocations()

    assert result.id in consumer.revocations


# -- acknowledged early -----------------------------------------------------------------------


@pytest.mark.parametrize("error", [None, TypeError("a plugin's bug")])
def test_a_task_that_cannot_be_acknowledged_first_is_not_run(
    app: Umbel, consumer: Consumer, fault: Callable[..., Any], error: Exception | None
) -> None:
    app.send_task("early")
    (job,) = take(consumer)
    fault(consumer.broker, "ack", error=error)

    assert not consumer.intake.may_begin(job)

    assert consumer.settler.flush(force=True)
    assert receive(consumer).redelivered


def test_a_task_that_somebody_else_has_meanwhile_is_not_run(app: Umbel, consumer: Consumer) -> None:
    app.send_task("early")
    (job,) = take(consumer)
    consumer.broker.recover_consumer("node/0")

    assert not consumer.intake.may_begin(job)


@pytest.mark.parametrize("how", ["reject", "requeue"])
def test_an_acknowledged_task_that_rejects_its_message_has_failed(
    app: Umbel, consumer: Consumer, how: str
) -> None:
    from umbel.errors import Reject

    @app.task(name="rejects", acks_late=False)
    def rejects() -> None:
        raise Reject("not mine", requeue=how == "requeue")

    result = app.send_task("rejects")
    (job,) = take(consumer)
    assert consumer.intake.may_begin(job)
    outcome = run(consumer, job)
    assert isinstance(outcome, Failure)
    consumer.settler.add(Settlement(job.delivery, outcome, job, 1.0, acked=True))
    assert consumer.settler.flush()

    with pytest.raises(Exception, match="acks_late=True"):
        result.get(timeout=1)
    assert held_or_waiting(consumer) == 0


def test_a_held_message_waits_for_its_time(app: Umbel, consumer: Consumer) -> None:
    """A broker that knows nothing of `eta` hands it over at once."""
    app.send_task("work", ("k",))
    delivery = receive(consumer)
    early = msgspec.structs.replace(
        delivery.message, headers={**delivery.message.headers, "eta": "2999-01-01T00:00:00+00:00"}
    )

    assert consumer.intake.take([msgspec.structs.replace(delivery, message=early)]) == []
    assert consumer.settler.flush()

    stats = consumer.broker.stats("celery")
    assert (stats.delayed, stats.held) == (1, 0)


def test_a_promoted_message_runs_at_once(app: Umbel, consumer: Consumer) -> None:
    app.send_task("work", ("k",), countdown=3600)
    assert app.delayed.promote() == 1

    (job,) = take(consumer)
    assert isinstance(run(consumer, job), Success)


def test_a_success_stays_one_when_it_is_settled_again(app: Umbel, consumer: Consumer) -> None:
    result = app.send_task("work", ("value",))
    job = take(consumer)[0]
    lose_before_the_ack(consumer, job)
    take(consumer)
    (pending,) = consumer.settler._pending

    assert isinstance(pending.outcome, Success)
    assert consumer.settler.flush()
    assert result.get(timeout=1) == "value"
