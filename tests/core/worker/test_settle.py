"""Settling in an order in which a crash at any step repeats work and loses none."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest
from project import wait_for

from umbel import Umbel
from umbel.errors import (
    BackendUnavailableError,
    BrokerError,
    BrokerUnavailableError,
    QueueFullError,
    WorkerLostError,
)
from umbel.messages import Delivery
from umbel.outcomes import ErrorInfo, Failure, Outcome, Rejected, Revoked, StoredResult, Success
from umbel.signatures import Signature
from umbel.worker.board import Board
from umbel.worker.consumer import Consumer
from umbel.worker.execute import run_sync
from umbel.worker.identity import Identity
from umbel.worker.jobs import Job, Settlement
from umbel.worker.lease import Lease
from umbel.worker.limits import DeadlineWatch, ThreadGuard
from umbel_testing import FakeClock

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
    consumer.broker.recover_consumer("node/0", struck={job.delivery.receipt: 0.0})

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


def test_a_dead_letter_of_what_cannot_be_planned_tells_as_much_as_any_and_no_password(
    app: Umbel, consumer: Consumer, monkeypatch: pytest.MonkeyPatch
) -> None:
    result = app.send_task("add", (1, 1))
    job = take(consumer)

    def refuse(*_: object) -> None:
        raise ValueError("no route to amqp://me:secret@host//")

    with monkeypatch.context() as patched:
        patched.setattr("umbel.worker.planning.follow_ups", refuse)
        consumer.settler.add(Settlement(job.delivery, Success(b"2"), job, 1_900_000_000.0))
        assert consumer.settler.flush()

    (dead,) = consumer.broker.dead_letters()
    assert dead.kind == "undeliverable"
    assert "secret" not in dead.reason
    assert dead.details["hostname"]
    (stored,) = consumer.backend.load([result.id]).values()
    assert b'"date_done":"2030-03-17' in stored.body


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


# -- what is refused, and by whom ---------------------------------------------------------------


@pytest.mark.parametrize(
    "error", [BrokerError("too large to be stored"), TypeError("a plugin's bug")]
)
def test_an_outcome_that_is_refused_fails_alone(
    app: Umbel,
    consumer: Consumer,
    monkeypatch: pytest.MonkeyPatch,
    error: Exception,
) -> None:
    bad, good = app.send_task("add", (1, 1)), app.send_task("add", (2, 2))
    jobs = [take(consumer), take(consumer)]
    assert consumer.backend is not None
    store = consumer.backend.store

    def picky(results: Sequence[Any]) -> Any:
        if any(each.task_id == bad.id and each.state == "SUCCESS" for each in results):
            raise error
        return store(results)

    monkeypatch.setattr(consumer.backend, "store", picky)
    consumer.settler.add(Settlement(jobs[0].delivery, Success(b"2"), jobs[0], 1.0))

    settle(consumer, jobs[1], Success(b"4"))

    assert good.get(timeout=1) == 4
    wait_for(lambda: consumer.settler.flush(force=True))
    assert bad.state == "FAILURE"
    (dead,) = consumer.broker.dead_letters()
    assert str(error) in dead.reason
    assert held_or_waiting(consumer) == 0


@pytest.mark.parametrize("error", [BrokerError("damaged"), TypeError("a bug"), OSError("reset")])
def test_what_nobody_takes_in_any_form_is_kept_until_it_is_taken(
    app: Umbel,
    consumer: Consumer,
    fault: Callable[..., Any],
    error: Exception,
    caplog: pytest.LogCaptureFixture,
) -> None:
    broken = fault(consumer.backend, "store", error=error)
    results = [app.send_task("add", (i, i)) for i in range(3)]
    jobs = [take(consumer) for _ in range(3)]
    for job in jobs[:2]:
        consumer.settler.add(Settlement(job.delivery, Success(b"1"), job, 1.0))

    assert not settle(consumer, jobs[2], Success(b"1"))
    assert not consumer.settler.flush(force=True)
    assert consumer.settler.backlog == 3
    broken.is_on = False

    assert consumer.settler.flush(force=True)
    assert [result.get(timeout=1) for result in results] == [1, 1, 1]
    assert len([text for text in caplog.messages if "can't settle" in text]) == 1


def test_an_error_of_a_plugin_that_passes_makes_no_failure(
    app: Umbel, consumer: Consumer, fault: Callable[..., Any]
) -> None:
    broken = fault(consumer.backend, "store", error=TypeError("once"))
    result = app.send_task("add", (2, 2))

    assert not settle(consumer, take(consumer))
    broken.is_on = False
    assert consumer.settler.flush(force=True)

    assert result.get(timeout=1) == 4


@pytest.mark.parametrize("away", ["broker", "backend"])
def test_a_store_that_refuses_everything_is_an_outage_and_makes_no_failure(
    app: Umbel, consumer: Consumer, fault: Callable[..., Any], away: str
) -> None:
    gone = BrokerError("its folder is gone")
    handle = getattr(consumer, away)
    broken = fault(handle, "settle" if away == "broker" else "store", "check", error=gone)
    result = app.send_task("add", (2, 2))
    states = []
    if away == "broker":
        stored = consumer.backend.store
        consumer.backend.store = lambda results: (
            states.extend(each.state for each in results) or stored(results)
        )

    assert not settle(consumer, take(consumer))
    broken.is_on = False
    assert consumer.settler.flush(force=True)

    assert "FAILURE" not in states
    assert result.get(timeout=1) == 4


def test_a_store_that_is_back_when_it_is_asked_takes_the_outcome(
    app: Umbel, consumer: Consumer, fault: Callable[..., Any]
) -> None:
    broken = fault(consumer.backend, "store", error=BrokerError("its folder is gone"))
    result = app.send_task("add", (2, 2))
    job = take(consumer)
    check = consumer.backend.check

    def heal() -> None:
        broken.is_on = False
        check()

    consumer.backend.check = heal  # type: ignore[union-attr, method-assign]

    assert settle(consumer, job)
    assert result.get(timeout=1) == 4


def test_an_exit_in_the_middle_of_settling_loses_nothing(
    app: Umbel, consumer: Consumer, fault: Callable[..., Any]
) -> None:
    broken = fault(consumer.broker, "settle", error=SystemExit(3))
    result = app.send_task("add", (2, 2))
    job = take(consumer)
    with pytest.raises(SystemExit):
        settle(consumer, job)
    broken.is_on = False

    assert consumer.settler.pending_receipts() == {job.delivery.receipt}
    assert consumer.settler.flush(force=True)
    assert result.get(timeout=1) == 4


def test_a_full_queue_holds_up_only_those_who_send_to_it(
    app: Umbel, consumer: Consumer, monkeypatch: pytest.MonkeyPatch
) -> None:
    add = app.tasks["add"]
    sends = add.apply_async((1, 2), link=add.s(10).set(queue="full"))
    quiet = app.send_task("add", (2, 2))
    jobs = [take(consumer), take(consumer)]
    original = consumer.broker.settle

    def full(deliveries: Any, follow_ups: Any) -> Any:
        if follow_ups:
            raise QueueFullError("no room")
        return original(deliveries, follow_ups)

    monkeypatch.setattr(consumer.broker, "settle", full)
    consumer.settler.add(Settlement(jobs[0].delivery, Success(b"3"), jobs[0], 1.0))

    assert not settle(consumer, jobs[1], Success(b"4"))
    assert quiet.get(timeout=1) == 4
    assert held_or_waiting(consumer) == 1
    monkeypatch.setattr(consumer.broker, "settle", original)

    assert consumer.settler.flush(force=True)
    assert sends.get(timeout=1) == 3
    assert consumer.broker.stats("full").ready == 1


def test_a_retry_that_cannot_be_sent_has_failed(app: Umbel, consumer: Consumer) -> None:
    @app.task(name="odd", bind=True)
    def odd(self: Any) -> None:
        self.retry(headers={"x": object()}, countdown=0)

    result = app.send_task("odd")

    assert settle(consumer, take(consumer))
    assert result.state == "FAILURE"
    assert held_or_waiting(consumer) == 0


def test_what_is_in_the_middle_of_being_settled_counts_as_pending(
    app: Umbel, consumer: Consumer, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[tuple[set[str], int]] = []
    original = consumer.broker.settle

    def look(*args: Any) -> Any:
        seen.append((consumer.settler.pending_receipts(), consumer.settler.backlog))
        return original(*args)

    monkeypatch.setattr(consumer.broker, "settle", look)
    app.send_task("add", (1, 1))
    job = take(consumer)

    assert settle(consumer, job)
    assert seen == [({job.delivery.receipt}, 1)]
    assert (consumer.settler.pending_receipts(), consumer.settler.backlog) == (set(), 0)


def test_a_result_of_an_earlier_message_of_the_same_id_holds_nothing_up(
    app: Umbel, consumer: Consumer
) -> None:
    assert consumer.backend is not None
    first = app.send_task("add", (1, 1), task_id="again")
    consumer.backend.store([StoredResult(task_id="again", state="FAILURE", body=b"{}", retries=3)])
    add = app.tasks["add"]
    second = take(consumer)

    assert settle(consumer, second)

    assert held_or_waiting(consumer) == 0
    assert first.id == second.request.id
    assert add.name == second.request.task


def test_many_are_given_back_in_one_go(
    app: Umbel, consumer: Consumer, fault: Callable[..., Any]
) -> None:
    app.send_many(("add", (i, i)) for i in range(10))
    nacks = fault(consumer.broker, "nack")
    nacks.is_on = False
    for delay_s in [0.0, 3600.0] * 5:
        job = take(consumer)
        outcome = Rejected("later", requeue=True, delay_s=delay_s)
        consumer.settler.add(Settlement(job.delivery, outcome, job, 1.0))

    assert consumer.settler.flush()

    stats = consumer.broker.stats("celery")
    assert (nacks.calls, stats.ready, stats.delayed, stats.held) == (2, 5, 5, 0)


# -- under a lease ------------------------------------------------------------------------------


@pytest.fixture
def lease() -> Lease:
    made = Lease()
    made.set_lease(time.monotonic() - 10.0, time.monotonic() + 3600.0)
    return made


@pytest.fixture
def leased(app: Umbel, lease: Lease) -> Iterator[Consumer]:
    identity = Identity(node="leased", consumer="leased/0", hostname="w@host", lease_s=60.0)
    made = Consumer(app, identity, ["celery"], lease=lease)
    yield made
    made.close()


@pytest.fixture
def driven() -> Iterator[tuple[Consumer, FakeClock, Lease]]:
    """Consume by a clock that the test moves, under a lease of a minute."""
    clock, lease = FakeClock(), Lease()
    lease.set_lease(clock.monotonic(), clock.monotonic() + 60.0)
    with Umbel("driven", broker="memory://", backend="memory://", clock=clock) as app:
        app.task(name="task")(lambda: 1)
        app.send_task("task")
        identity = Identity(node="driven", consumer="driven/0", hostname="w@host", lease_s=60.0)
        made = Consumer(app, identity, ["celery"], lease=lease)
        yield made, clock, lease
        made.close()


@pytest.mark.parametrize("seconds, asked", [(59, 0), (60, 1)])
def test_lease_runs_out_by_the_clock_of_the_app(
    driven: tuple[Consumer, FakeClock, Lease],
    monkeypatch: pytest.MonkeyPatch,
    seconds: float,
    asked: int,
) -> None:
    consumer, clock, _ = driven
    job = take(consumer)
    held, questions = consumer.broker.held, list[str]()
    monkeypatch.setattr(consumer.broker, "held", lambda who: [questions.append(who), held(who)][1])
    clock.advance(seconds)

    assert settle(consumer, job)
    assert len(questions) == asked


def test_pause_of_an_outage_is_over_when_the_clock_of_the_app_says_so(
    driven: tuple[Consumer, FakeClock, Lease], fault: Callable[..., Any]
) -> None:
    consumer, clock, _ = driven
    job = take(consumer)
    outage = fault(consumer.backend, "store")
    assert not settle(consumer, job)
    calls = outage.calls
    consumer.settler._machine_not_before += 3600.0
    assert not consumer.settler.flush()
    assert outage.calls == calls
    outage.is_on = False
    clock.advance(5)

    assert consumer.settler.flush()


def test_under_a_lease_that_holds_nobody_is_asked(
    app: Umbel, leased: Consumer, fault: Callable[..., Any]
) -> None:
    asked = fault(leased.broker, "held")
    app.send_task("add", (1, 1))

    assert settle(leased, take(leased))
    assert asked.calls == 0


@pytest.mark.parametrize("how", ["ran out", "began anew since"])
def test_where_the_lease_ran_out_only_what_is_still_held_is_settled(
    app: Umbel, leased: Consumer, lease: Lease, how: str, caplog: pytest.LogCaptureFixture
) -> None:
    add = app.tasks["add"]
    lost = add.apply_async((1, 1), link=add.s(10))
    kept = add.apply_async((2, 2))
    jobs = [take(leased), take(leased)]
    leased.broker.recover_consumer("leased/0")
    other = app.open_broker()
    other.join("other", "other/0", lease_s=60.0)
    (taken,) = other.receive(["celery"], max_messages=1, wait_s=5)
    again = take(leased)
    now = time.monotonic()
    if how == "ran out":
        lease.set_lease(now - 20.0, now - 1.0)
    else:
        lease.set_lease(now, now + 3600.0)
    leased.settler.add(Settlement(jobs[0].delivery, Success(b"2"), jobs[0], 1.0))

    assert settle(leased, again, Success(b"4"))

    assert getattr(taken.message, "id", None) == lost.id
    assert lost.state == "PENDING"
    assert kept.get(timeout=1) == 4
    stats = leased.broker.stats("celery")
    assert (stats.ready, stats.held) == (0, 1)  # no callback was sent; `other` holds its own
    assert "1 outcomes are refused" in caplog.text


def test_in_an_outage_that_outlasts_the_lease_nothing_is_settled_unasked(
    app: Umbel, leased: Consumer, lease: Lease, fault: Callable[..., Any]
) -> None:
    result = app.send_task("add", (1, 1))
    job = take(leased)
    lease.set_lease(0.0, time.monotonic() - 1.0)
    outage = fault(leased.broker, "held")

    assert not settle(leased, job)
    assert result.state == "PENDING"
    outage.is_on = False
    assert leased.settler.flush(force=True)
    assert result.get(timeout=1) == 2


# -- the journal --------------------------------------------------------------------------------


@pytest.fixture
def board() -> Iterator[Board]:
    made = Board.create(1)
    made.set_lease(0.0, time.monotonic() + 3600.0)
    yield made
    made.close()


@pytest.fixture
def supervised(app: Umbel, board: Board) -> Iterator[Consumer]:
    identity = Identity(node="node", consumer="node/0", hostname="w@host", lease_s=60.0)
    made = Consumer(app, identity, ["celery"], board=board)
    yield made
    made.close()


def test_the_journal_holds_what_is_not_settled_yet(
    app: Umbel, supervised: Consumer, board: Board, fault: Callable[..., Any]
) -> None:
    outage = fault(supervised.backend, "store")
    app.send_task("add", (1, 1))
    job = take(supervised)

    assert not settle(supervised, job, Success(b"2"))
    assert [each.outcome for each in board.journal()] == [Success(b"2")]
    outage.is_on = False
    assert supervised.settler.flush(force=True)

    assert board.journal() == []


def test_the_journal_tells_of_what_was_acknowledged_early(
    app: Umbel, supervised: Consumer, board: Board, fault: Callable[..., Any]
) -> None:
    app.task(name="early", acks_late=False)(lambda: 1)
    app.send_task("early")
    app.send_task("add", (1, 1))
    early, late = take(supervised), take(supervised)
    assert supervised.intake.may_begin(early)

    assert settle(supervised, late)
    (will,) = board.journal()
    assert will.early is not None
    assert (will.outcome, will.early.message) == (None, early.delivery.message)

    outage = fault(supervised.backend, "store")
    assert not settle(supervised, early, Success(b"1"))
    assert [each.outcome for each in board.journal()][-1] == Success(b"1")
    assert board.journal()[-1].early is not None
    outage.is_on = False
    assert supervised.settler.flush(force=True)
    assert board.journal() == []


def test_what_could_not_be_acknowledged_early_is_given_back_and_leaves_no_trace(
    app: Umbel, supervised: Consumer, board: Board, fault: Callable[..., Any]
) -> None:
    app.task(name="early", acks_late=False)(lambda: 1)
    app.send_task("early")
    early = take(supervised)
    fault(supervised.broker, "ack")

    assert not supervised.intake.may_begin(early)
    assert [(each.outcome, bool(each.early)) for each in board.journal()][-1] == (None, True)
    assert supervised.settler.flush(force=True)
    assert board.journal() == []
    assert app.broker.stats("celery").delayed == 1


@pytest.mark.parametrize("lease_is_over", [False, True])
def test_what_was_acknowledged_early_without_an_answer_has_failed(
    app: Umbel,
    supervised: Consumer,
    board: Board,
    monkeypatch: pytest.MonkeyPatch,
    lease_is_over: bool,
) -> None:
    app.task(name="early", acks_late=False)(lambda: 1)
    app.task(name="told")(lambda task_id: None)
    result = app.send_task("early", link_error=[Signature(task="told")])
    early = take(supervised)
    ack = supervised.broker.ack

    def ack_and_lose_the_answer(deliveries: Sequence[Delivery]) -> Sequence[Delivery]:
        ack(deliveries)
        raise BrokerUnavailableError("the answer is lost")

    monkeypatch.setattr(supervised.broker, "ack", ack_and_lose_the_answer)
    assert not supervised.intake.may_begin(early)
    if lease_is_over:
        board.set_lease(0.0, 0.0)
    assert supervised.settler.flush(force=True)

    with pytest.raises(WorkerLostError, match="early acknowledgement"):
        result.get(timeout=0)
    # Where another node may have it, its errback is that one's to send.
    assert app.broker.stats("celery").ready == (0 if lease_is_over else 1)
    assert board.journal() == []


def test_a_drain_lasts_through_an_outage_or_until_it_is_given_up(
    app: Umbel, consumer: Consumer, fault: Callable[..., Any]
) -> None:
    outage = fault(consumer.backend, "store")
    result = app.send_task("add", (1, 1))
    job = take(consumer)
    consumer.settler.add(Settlement(job.delivery, Success(b"2"), job, 1.0))
    given_up = threading.Event()
    given_up.set()
    consumer.settler.drain(given_up)
    assert consumer.settler.backlog == 1

    thread = threading.Thread(target=consumer.settler.drain, args=(threading.Event(),))
    thread.start()
    tries = outage.calls
    wait_for(lambda: outage.calls > tries)
    outage.is_on = False
    thread.join(20)

    assert result.get(timeout=1) == 2


def test_a_drain_waits_for_what_another_thread_is_settling(
    app: Umbel, consumer: Consumer, monkeypatch: pytest.MonkeyPatch
) -> None:
    app.send_task("add", (1, 1))
    job = take(consumer)
    begun, go_on, store = threading.Event(), threading.Event(), consumer.backend.store

    def fails_late(_results: Sequence[StoredResult]) -> Sequence[str]:
        monkeypatch.setattr(consumer.backend, "store", store)
        begun.set()
        go_on.wait(20)
        raise BackendUnavailableError("away")

    monkeypatch.setattr(consumer.backend, "store", fails_late)
    consumer.settler.add(Settlement(job.delivery, Success(b"2"), job, 1.0))
    other = threading.Thread(target=consumer.settler.flush)
    other.start()
    assert begun.wait(20)
    drain = threading.Thread(target=consumer.settler.drain, args=(threading.Event(),))
    drain.start()
    drain.join(0.05)  # it must not be over yet
    go_on.set()
    other.join(20)
    drain.join(20)

    assert consumer.settler.backlog == 0
    assert held_or_waiting(consumer) == 0


def test_a_call_may_want_the_result_of_a_task_that_ignores_it(
    app: Umbel, consumer: Consumer
) -> None:
    wanted = app.tasks["quiet"].apply_async(ignore_result=False)
    settle(consumer, take(consumer))
    unwanted = app.tasks["add"].apply_async((1, 2), ignore_result=True)
    settle(consumer, take(consumer))
    by_name = app.send_task("quiet")
    settle(consumer, take(consumer))

    assert wanted.get(timeout=1) == 1
    assert (unwanted.state, by_name.state) == ("PENDING", "PENDING")
