"""What a dead child left is settled, struck or given back, through outages."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from umbel import Umbel
from umbel.canvas.options import RESULTS
from umbel.errors import BackendUnavailableError, BrokerUnavailableError, WorkerLostError
from umbel.interfaces.broker import Broker
from umbel.messages import Delivery
from umbel.outcomes import Failure, Outcome, Rejected, Revoked, Success
from umbel.signatures import Signature
from umbel.worker import recovery as recovery_module
from umbel.worker import strikes as strikes_module
from umbel.worker.board import EarlyAcked, JournalEntry, slot_key
from umbel.worker.planning import Planner
from umbel.worker.recovery import DeadChild, Recovery, describe_exit
from umbel.worker.settle import Settler


@pytest.fixture(autouse=True)
def tasks(app: Umbel) -> None:
    app.task(name="add")(lambda x, y: x + y)
    app.task(name="fragile", reject_on_worker_lost=False)(lambda: 1)
    app.task(name="early", acks_late=False)(lambda: 1)


@pytest.fixture(autouse=True)
def _without_back_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(strikes_module, "BACK_OFF_S", (0.0,))


@pytest.fixture
def broker(app: Umbel) -> Iterator[Broker]:
    made = app.open_broker()
    made.join("node", "node/supervisor", lease_s=60.0)
    yield made
    made.close()


@pytest.fixture
def child(app: Umbel) -> Iterator[Broker]:
    made = app.open_broker()
    made.join("node", "node/0", lease_s=60.0)
    yield made
    made.close()


@pytest.fixture
def recovery(app: Umbel, broker: Broker) -> Recovery:
    settler = Settler(app, broker, app.backend, planner=Planner(app, "w@host"))
    return Recovery(
        app, "w@host", broker=broker, settler=settler, coordinator=app.open_coordinator()
    )


def dead(
    *,
    running: tuple[Delivery, ...] = (),
    finished: dict[str, Outcome] | None = None,
    early: tuple[Delivery, ...] = (),
    doomed: dict[bytes, Outcome] | None = None,
    was_spared: bool = False,
    at: float = 100.0,
) -> DeadChild:
    journal = {
        receipt: JournalEntry(receipt, outcome, 5.0)
        for receipt, outcome in (finished or {}).items()
    }
    for each in early:
        known = journal.get(each.receipt)
        journal[each.receipt] = JournalEntry(
            each.receipt,
            known.outcome if known is not None else None,
            5.0 if known is not None else 0.0,
            EarlyAcked(each.message, each.queue, each.token),
        )
    return DeadChild(
        consumer="node/0",
        pid=4711,
        exitcode=-9,
        running=frozenset(slot_key(each.receipt) for each in running),
        journal=journal,
        doomed=doomed or {},
        was_spared=was_spared,
        died_at=at,
        memory_bytes=50 * 1024 * 1024,
    )


def receive(child: Broker, count: int = 1) -> list[Delivery]:
    return list(child.receive(["celery"], max_messages=count, wait_s=5))


def strikes(broker: Broker) -> dict[str, int]:
    """Return the strikes of all that waits, by task id."""
    got = broker.receive(["celery"], max_messages=100, wait_s=0)
    return {each.message.id: each.strikes for each in got}


def test_the_finished_is_settled_the_running_struck_and_the_rest_given_back(
    app: Umbel, broker: Broker, child: Broker, recovery: Recovery
) -> None:
    results = [app.send_task("add", (i, i)) for i in range(3)]
    finished, running, _waiting = receive(child, 3)

    recovery.add(dead(running=(running,), finished={finished.receipt: Success(b'"made"')}))
    recovery.run()

    assert recovery.is_done
    assert results[0].get(timeout=1) == "made"
    assert strikes(broker) == {results[1].id: 1, results[2].id: 0}


def test_what_follows_from_the_finished_is_sent_though_its_results_cannot_be_read(
    app: Umbel,
    broker: Broker,
    child: Broker,
    recovery: Recovery,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    body = Signature("add", (None, 1), options={RESULTS: "kept", "link": [Signature("add", (2,))]})
    app.broker.send([app.message_for(body)])
    (finished,) = receive(child)

    def get(key: str) -> None:
        raise BackendUnavailableError(f"no {key} now")

    monkeypatch.setattr(app.workflow_store, "get", get)
    recovery.add(dead(finished={finished.receipt: Success(b"3")}))
    recovery.run()

    assert recovery.is_done
    (following,) = broker.receive(["celery"], max_messages=5, wait_s=0)
    assert json.loads(following.message.body)[0] == [3, 2]


def test_what_killed_its_process_waits_before_it_is_delivered_again(
    app: Umbel,
    broker: Broker,
    child: Broker,
    recovery: Recovery,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(strikes_module, "BACK_OFF_S", (3600.0,))
    struck, beside = app.send_task("add", (1, 1)), app.send_task("add", (2, 2))
    running, _waiting = receive(child, 2)

    recovery.add(dead(running=(running,)))
    recovery.run()

    assert strikes(broker) == {beside.id: 0}
    assert app.broker.stats("celery").delayed == 1
    assert struck.state == "PENDING"


def test_the_last_strike_is_a_failure_and_a_dead_letter_that_tells_of_all(
    app: Umbel, broker: Broker, child: Broker, recovery: Recovery
) -> None:
    result = app.send_task("add", (1, 1))
    for number in range(3):
        child.join("node", "node/0", lease_s=60.0)
        recovery.add(dead(running=tuple(receive(child)), at=100.0 + number))
        recovery.run()

    with pytest.raises(WorkerLostError, match=r"died 3 times .*SIGKILL, 50 MiB"):
        result.get(timeout=1)
    (letter,) = broker.dead_letters()
    assert (letter.kind, letter.deliveries) == ("poison", 3)
    assert letter.details["attempts"] == [
        {
            "at": 100.0 + number,
            "exit": None,
            "signal": "SIGKILL",
            "pid": 4711,
            "hostname": "w@host",
            "memory_bytes": 50 * 1024 * 1024,
        }
        for number in range(3)
    ]
    assert app.open_coordinator().scan("attempts/") == {}


def test_the_errback_of_a_task_that_killed_its_processes_is_sent(
    app: Umbel, broker: Broker, child: Broker, recovery: Recovery
) -> None:
    app.conf.update(task_max_deliveries=1)
    recovery = Recovery(app, "w@host", broker=broker, settler=recovery._settler)
    app.send_task("add", (1, 1), link_error=Signature(task="told"))

    recovery.add(dead(running=tuple(receive(child))))
    recovery.run()

    assert [each.message.task for each in receive(child)] == ["told"]


def test_those_beside_a_doomed_task_get_no_strike(
    app: Umbel, broker: Broker, child: Broker, recovery: Recovery
) -> None:
    told: list[Any] = []
    app.events.add("task_failed", lambda *args: told.append(args[2].exc_type))
    doomed_result = app.send_task("add", (1, 1))
    neighbour = app.send_task("add", (2, 2))
    doomed, beside = receive(child, 2)
    failure = Failure(app_error("TimeLimitExceeded"))

    recovery.add(
        dead(
            running=(doomed, beside),
            doomed={slot_key(doomed.receipt): failure},
            was_spared=True,
        )
    )
    recovery.run()

    assert doomed_result.state == "FAILURE"
    assert strikes(broker) == {neighbour.id: 0}
    assert told == ["TimeLimitExceeded"]


def app_error(name: str) -> Any:
    from umbel.outcomes import ErrorInfo

    return ErrorInfo(name, "umbel.errors", ["x"], None, f"{name}('x')")


def test_a_task_that_finished_in_the_last_moment_keeps_its_outcome(
    app: Umbel, child: Broker, recovery: Recovery
) -> None:
    result = app.send_task("add", (1, 1))
    (delivery,) = receive(child)

    recovery.add(
        dead(
            finished={delivery.receipt: Success(b'"made it"')},
            doomed={slot_key(delivery.receipt): Revoked("terminated")},
            was_spared=True,
        )
    )
    recovery.run()

    assert result.get(timeout=1) == "made it"


def test_a_task_that_may_not_run_twice_has_failed(
    app: Umbel, broker: Broker, child: Broker, recovery: Recovery
) -> None:
    result = app.send_task("fragile")
    (delivery,) = receive(child)

    recovery.add(dead(running=(delivery,)))
    recovery.run()

    with pytest.raises(Exception, match="died while running"):
        result.get(timeout=1)
    assert strikes(broker) == {}


@pytest.mark.parametrize("was_finished", [False, True])
def test_a_task_that_was_acknowledged_early_is_told_of(
    app: Umbel, child: Broker, recovery: Recovery, was_finished: bool
) -> None:
    result = app.send_task("early")
    (delivery,) = receive(child)
    child.ack([delivery])
    finished: dict[str, Outcome] = {delivery.receipt: Success(b"1")} if was_finished else {}

    recovery.add(dead(running=(delivery,), early=(delivery,), finished=finished))
    recovery.run()

    assert recovery.is_done
    assert result.state == ("SUCCESS" if was_finished else "FAILURE")


def test_a_task_that_was_about_to_be_acknowledged_early_is_delivered_again(
    app: Umbel, broker: Broker, child: Broker, recovery: Recovery
) -> None:
    result = app.send_task("early")
    (delivery,) = receive(child)

    recovery.add(dead(early=(delivery,)))
    recovery.run()

    assert result.state == "PENDING"
    assert strikes(broker) == {result.id: 0}


@pytest.mark.parametrize("part", ["held", "store", "settle", "recover_consumer"])
@pytest.mark.parametrize("error", [None, TypeError("a plugin's bug")])
def test_an_outage_at_any_step_is_waited_out(
    app: Umbel,
    broker: Broker,
    child: Broker,
    recovery: Recovery,
    fault: Callable[..., Any],
    monkeypatch: pytest.MonkeyPatch,
    part: str,
    error: Exception | None,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(recovery_module, "_FIRST_PAUSE_S", 0.0)
    monkeypatch.setattr(recovery_module, "_LONGEST_PAUSE_S", 0.0)
    results = [app.send_task("add", (i, i)) for i in range(2)]
    finished, running = receive(child, 2)
    outage = fault(app.backend if part == "store" else broker, part, error=error)
    recovery.add(dead(running=(running,), finished={finished.receipt: Success(b"0")}))
    for _ in range(3):
        recovery.run()
    assert not recovery.is_done

    outage.is_on = False
    recovery.run()

    assert recovery.is_done
    assert results[0].get(timeout=1) == 0
    assert strikes(broker) == {results[1].id: 1}
    assert "can't recover what pid 4711 held yet" in caplog.text


def test_an_outage_of_the_backend_alone_holds_up_nothing_that_has_no_outcome(
    app: Umbel, broker: Broker, child: Broker, recovery: Recovery, fault: Callable[..., Any]
) -> None:
    results = [app.send_task("add", (i, i)) for i in range(3)]
    finished, running, _waiting = receive(child, 3)
    outage = fault(app.backend, "store")

    recovery.add(dead(running=(running,), finished={finished.receipt: Success(b'"made"')}))
    recovery.run()
    assert strikes(broker) == {results[2].id: 0}

    outage.is_on = False
    recovery._not_before = 0.0
    recovery.run()
    assert recovery.is_done
    assert results[0].get(timeout=1) == "made"
    assert strikes(broker) == {results[1].id: 1}


def test_what_was_given_back_by_a_try_whose_answer_was_lost_is_not_told_of_as_lost(
    app: Umbel,
    broker: Broker,
    child: Broker,
    recovery: Recovery,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(recovery_module, "_FIRST_PAUSE_S", 0.0)
    result = app.send_task("early")
    (delivery,) = receive(child)
    give_back = broker.recover_consumer

    def lose_the_answer(*args: Any, **kwargs: Any) -> int:
        give_back(*args, **kwargs)
        raise BrokerUnavailableError("the answer is lost")

    recovery.add(dead(early=(delivery,)))
    with monkeypatch.context() as faulty:
        faulty.setattr(broker, "recover_consumer", lose_the_answer)
        recovery.run()
    assert not recovery.is_done
    recovery.run()

    assert recovery.is_done
    assert result.state == "PENDING"
    assert strikes(broker) == {result.id: 0}


def test_what_others_took_over_during_an_outage_is_not_settled(
    app: Umbel,
    broker: Broker,
    child: Broker,
    recovery: Recovery,
    fault: Callable[..., Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(recovery_module, "_FIRST_PAUSE_S", 0.0)
    result = app.send_task("fragile", link_error=[Signature(task="add", args=(1,))])
    (delivery,) = receive(child)
    outage = fault(app.backend, "store")
    recovery.add(dead(running=(delivery,)))
    recovery.run()
    assert not recovery.is_done
    broker.leave("node")  # as if its lease had run out
    outage.is_on = False
    recovery.run()

    assert recovery.is_done
    assert result.state == "PENDING"
    assert [each.id for each in app.broker.peek("celery")] == [result.id]


def test_an_outage_is_not_hammered(
    app: Umbel, broker: Broker, recovery: Recovery, fault: Callable[..., Any]
) -> None:
    outage = fault(broker, "held")
    recovery.add(dead())
    for _ in range(100):
        recovery.run()

    assert outage.calls < 100


def test_what_a_child_was_giving_back_is_given_back(
    app: Umbel, broker: Broker, child: Broker, recovery: Recovery
) -> None:
    result = app.send_task("add", (1, 1))
    (delivery,) = receive(child)
    back = Rejected("its worker had to end", requeue=True)

    recovery.add(dead(running=(delivery,), finished={delivery.receipt: back}))
    recovery.run()

    assert strikes(broker) == {result.id: 0}


def test_exit_codes_are_told_in_words() -> None:
    assert describe_exit(-9) == "signal 9 (SIGKILL)"
    assert describe_exit(-250) == "signal 250"
    assert describe_exit(3) == "exit code 3"
    assert describe_exit(None) == "unknown"
