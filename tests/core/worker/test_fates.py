"""Over a broker without leases: who receives a task learns what it did to its last process."""

from __future__ import annotations

import time
import types
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from umbel import Umbel, hookimpl
from umbel.builtin.memory.broker import MemoryBroker
from umbel.builtin.memory.coordinator import MemoryCoordinator
from umbel.builtin.memory.space import Space
from umbel.clock import SYSTEM_CLOCK
from umbel.error_info import error_info
from umbel.errors import TimeLimitExceeded, WorkerLostError
from umbel.interfaces.broker import Broker, Capability
from umbel.messages import Delivery
from umbel.outcomes import Failure, Revoked, Success
from umbel.plugins import PluginManager
from umbel.signatures import Signature
from umbel.worker import strikes as strikes_module
from umbel.worker.board import Board, EarlyAcked, JournalEntry, slot_key
from umbel.worker.consumer import Consumer
from umbel.worker.fates import Fates
from umbel.worker.jobs import Job, Settlement
from umbel.worker.planning import Planner
from umbel.worker.recovery import DeadChild, Recovery, running_among
from umbel.worker.settle import Settler
from umbel.worker.slot_names import slot_name
from umbel.worker.strikes import Attempt

OVER_LIMIT = Failure(error_info(TimeLimitExceeded(0.5), with_traceback=False), 0.5)


class PlainBroker(MemoryBroker):
    """A broker that doesn't know who holds what."""

    capabilities = frozenset({Capability.DELAY, Capability.DEAD_LETTER, Capability.INSPECT})
    held = Broker.held


@pytest.fixture
def app(tmp_path: Path) -> Iterator[Umbel]:
    space, module = Space(), types.ModuleType("plain")

    @hookimpl
    def umbel_brokers() -> dict[str, Any]:
        return {"plain": lambda url, *, options, clock: PlainBroker(space, clock)}

    module.umbel_brokers = umbel_brokers  # type: ignore[attr-defined]
    backend = f"sqlite:///{tmp_path}/results.db"
    plugins = PluginManager([module])
    with Umbel("tests", broker="plain://", backend=backend, plugins=plugins) as made:
        made.task(name="add")(lambda x, y: x + y)
        made.task(name="fragile", reject_on_worker_lost=False)(lambda: 1)
        made.task(name="early", acks_late=False)(lambda: 1)
        yield made


@pytest.fixture(autouse=True)
def _without_back_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(strikes_module, "BACK_OFF_S", (0.0,))


@pytest.fixture
def recovery(app: Umbel) -> Recovery:
    broker = app.open_broker()
    settler = Settler(app, broker, app.backend, planner=Planner(app, "w@host"))
    return Recovery(app, "w@host", broker=broker, settler=settler, coordinator=app.coordinator)


def fates(app: Umbel) -> dict[str, bytes]:
    """Return what is known of tasks whose process died."""
    assert app.coordinator is not None
    return dict(app.coordinator.scan("fate/"))


def receive(consumer: Consumer) -> Delivery:
    (delivery,) = consumer.broker.receive(["celery"], max_messages=1, wait_s=5)
    return delivery


def take(consumer: Consumer) -> list[Job]:
    return consumer.intake.take([receive(consumer)])


def key_of(delivery: Delivery) -> bytes:
    return slot_key(slot_name(delivery.message))


def dead(*running: Delivery, at: float = 100.0, **changes: Any) -> DeadChild:
    """Return a child that died while it ran these; its number follows from the time."""
    values: dict[str, Any] = {
        "consumer": f"node/{at}",
        "pid": 4711,
        "exitcode": -9,
        "running": frozenset(key_of(each) for each in running),
        "journal": {},
        "doomed": {},
        "was_spared": False,
        "died_at": at,
        **changes,
    }
    return DeadChild(**values)


def die(consumer: Consumer, recovery: Recovery, child: DeadChild, *held: Delivery) -> None:
    """Let a child die: the broker has at once again what it held."""
    consumer.broker.nack(held)
    recovery.add(child)
    recovery.run()
    assert recovery.is_done


def doomed(delivery: Delivery, at: float = 100.0) -> DeadChild:
    """Return a child that was ended for the sake of this one."""
    return dead(delivery, at=at, was_spared=True, doomed={key_of(delivery): OVER_LIMIT})


# -- strikes ----------------------------------------------------------------------------------


def test_what_a_dead_process_ran_comes_again_with_a_strike_and_the_rest_without(
    app: Umbel, consumer: Consumer, recovery: Recovery
) -> None:
    for number in range(2):
        app.send_task("add", (number, 0))
    running, waiting = receive(consumer), receive(consumer)

    die(consumer, recovery, dead(running), running, waiting)

    found = {job.request.id: job.delivery.strikes for _ in range(2) for job in take(consumer)}
    assert found == {running.message.id: 1, waiting.message.id: 0}


def test_the_last_strike_is_a_failure_and_a_dead_letter_that_tells_of_all(
    app: Umbel, consumer: Consumer, recovery: Recovery
) -> None:
    result = app.send_task("add", (1, 1), link_error=Signature(task="told"))
    for at in (100.0, 101.0, 102.0):
        (job,) = take(consumer)
        die(consumer, recovery, dead(job.delivery, at=at), job.delivery)

    assert take(consumer) == []
    assert consumer.settler.flush()

    with pytest.raises(WorkerLostError, match=r"died 3 times .*SIGKILL"):
        result.get(timeout=1)
    (letter,) = consumer.broker.dead_letters()
    assert (letter.message.id, letter.kind) == (result.id, "poison")
    assert [each["at"] for each in letter.details["attempts"]] == [100.0, 101.0, 102.0]
    assert receive(consumer).message.task == "told"
    assert fates(app) == {}


def test_what_killed_its_process_waits_before_it_runs_again(
    app: Umbel, consumer: Consumer, recovery: Recovery, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(strikes_module, "BACK_OFF_S", (3600.0,))
    app.send_task("add", (1, 1))
    running = receive(consumer)
    die(consumer, recovery, dead(running, at=time.time()), running)

    assert take(consumer) == []
    assert consumer.settler.flush()

    assert consumer.broker.stats("celery").delayed == 1
    assert len(fates(app)) == 1


def test_a_clock_that_is_ahead_holds_a_task_up_for_its_pause_and_no_longer(
    app: Umbel, consumer: Consumer, recovery: Recovery, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(strikes_module, "BACK_OFF_S", (60.0,))
    app.send_task("add", (1, 1))
    running = receive(consumer)
    die(consumer, recovery, dead(running, at=time.time() + 9000), running)

    (fate,) = Fates(app.coordinator).of([receive(consumer)]).values()

    assert fate.wait_s(time.time()) == 60.0


def test_a_task_that_ends_well_at_last_leaves_nothing_behind(
    app: Umbel, consumer: Consumer, recovery: Recovery
) -> None:
    result = app.send_task("add", (1, 1))
    running = receive(consumer)
    die(consumer, recovery, dead(running), running)
    (job,) = take(consumer)

    consumer.settler.add(Settlement(job.delivery, Success(b"2"), job, 1.0))
    assert consumer.settler.flush()

    assert result.get(timeout=1) == 2
    assert fates(app) == {}


def test_a_task_that_is_given_back_keeps_its_strikes(
    app: Umbel, consumer: Consumer, recovery: Recovery
) -> None:
    app.send_task("add", (1, 1))
    running = receive(consumer)
    die(consumer, recovery, dead(running), running)

    for _ in range(2):
        (job,) = take(consumer)
        assert job.delivery.strikes == 1
        consumer.give_back([job.delivery])


def test_a_task_that_must_not_run_again_is_poison_at_once(
    app: Umbel, consumer: Consumer, recovery: Recovery
) -> None:
    result = app.send_task("fragile")
    running = receive(consumer)
    die(consumer, recovery, dead(running), running)

    assert take(consumer) == []
    assert consumer.settler.flush()

    with pytest.raises(WorkerLostError, match="its process died while running it"):
        result.get(timeout=1)


def test_a_child_that_was_spared_strikes_nothing(
    app: Umbel, consumer: Consumer, recovery: Recovery
) -> None:
    app.send_task("add", (1, 1))
    running = receive(consumer)

    die(consumer, recovery, dead(running, was_spared=True), running)

    assert fates(app) == {}
    assert [job.delivery.strikes for job in take(consumer)] == [0]


def test_a_retry_begins_without_the_strikes_of_the_attempt_before(
    app: Umbel, consumer: Consumer, recovery: Recovery, message: Callable[..., Any]
) -> None:
    app.send_task("add", (1, 1), task_id="the-id")
    running = receive(consumer)
    die(consumer, recovery, dead(running), running)
    receive(consumer)
    retry = message("add", 1, 1, headers={"retries": 1, "id": "the-id"}, id="the-id")
    consumer.broker.send([retry])
    consumer.broker.nack([receive(consumer)])

    assert [job.delivery.strikes for job in take(consumer)] == [0]


# -- verdicts ---------------------------------------------------------------------------------


def test_a_task_that_its_process_was_ended_for_is_settled_and_not_run(
    app: Umbel, consumer: Consumer, recovery: Recovery
) -> None:
    result = app.send_task("add", (1, 1))
    running = receive(consumer)
    die(consumer, recovery, doomed(running), running)

    assert take(consumer) == []
    assert len(fates(app)) == 1
    assert consumer.settler.flush()

    with pytest.raises(TimeLimitExceeded):
        result.get(timeout=1)
    assert fates(app) == {}
    assert consumer.broker.stats("celery").ready == 0
    assert consumer.broker.dead_letters() == []


def test_a_verdict_outlives_a_crash_before_its_settlement(
    app: Umbel, consumer: Consumer, recovery: Recovery
) -> None:
    result = app.send_task("add", (1, 1))
    running = receive(consumer)
    die(consumer, recovery, doomed(running), running)
    first = receive(consumer)
    assert consumer.intake.take([first]) == []
    consumer.settler.forget({(first.receipt, first.token)})  # its process dies
    consumer.broker.nack([first])

    assert take(consumer) == []
    assert consumer.settler.flush()

    assert result.state == "FAILURE"


def test_a_task_that_ended_before_its_process_did_has_no_verdict(
    app: Umbel, consumer: Consumer, recovery: Recovery
) -> None:
    app.send_task("add", (1, 1))
    ended = receive(consumer)
    Fates(app.coordinator).judge(slot_name(ended.message), OVER_LIMIT)

    child = dead(was_spared=True, doomed={key_of(ended): OVER_LIMIT})
    die(consumer, recovery, child, ended)

    assert fates(app) == {}
    assert len(take(consumer)) == 1


def test_an_early_acknowledged_task_is_settled_by_the_supervisor(
    app: Umbel, consumer: Consumer, recovery: Recovery
) -> None:
    result = app.send_task("early")
    (job,) = take(consumer)
    assert consumer.intake.may_begin(job)
    each = job.delivery
    entry = JournalEntry(each.receipt, None, 0.0, EarlyAcked(each.message, each.queue, each.token))

    child = doomed(each)
    die(consumer, recovery, dead(each, journal={each.receipt: entry}, doomed=child.doomed))

    with pytest.raises(TimeLimitExceeded):
        result.get(timeout=1)
    assert fates(app) == {}


# -- outages ----------------------------------------------------------------------------------


def test_strikes_are_written_once_the_coordinator_is_back(
    app: Umbel, consumer: Consumer, recovery: Recovery, fault: Callable[..., Any]
) -> None:
    app.send_task("add", (1, 1))
    running = receive(consumer)
    outage = fault(app.coordinator, "put")
    consumer.broker.nack([running])
    recovery.add(dead(running))
    recovery.run()
    assert not recovery.is_done

    outage.is_on = False
    ends_at = time.monotonic() + 10
    while not recovery.is_done and time.monotonic() < ends_at:
        recovery.run()
        time.sleep(0.01)

    assert [job.delivery.strikes for job in take(consumer)] == [1]


def test_a_death_that_is_told_twice_is_one_strike(app: Umbel, consumer: Consumer) -> None:
    known = Fates(app.coordinator)
    attempt = Attempt(at=1.0, exit=3, signal=None, pid=1, hostname="h", memory_bytes=None)

    assert [known.strike("id/0", attempt) for _ in range(2)] == [1, 1]


def test_redelivered_tasks_run_where_their_fates_cannot_be_looked_up(
    app: Umbel, consumer: Consumer, recovery: Recovery, fault: Callable[..., Any]
) -> None:
    app.send_task("add", (1, 1))
    running = receive(consumer)
    die(consumer, recovery, dead(running), running)
    fault(consumer.coordinator, "get")

    assert len(take(consumer)) == 1


@pytest.mark.parametrize("record", [b"of another version", b"\x93\x01\x91\xa1\xff", b'["\xff"]'])
def test_a_fate_that_cannot_be_read_is_none(
    app: Umbel, consumer: Consumer, recovery: Recovery, record: bytes
) -> None:
    app.send_task("add", (1, 1))
    running = receive(consumer)
    die(consumer, recovery, dead(running), running)
    assert app.coordinator is not None
    app.coordinator.put(next(iter(fates(app))), record)

    assert len(take(consumer)) == 1


def test_a_first_delivery_asks_nothing(
    app: Umbel, consumer: Consumer, fault: Callable[..., Any]
) -> None:
    asked = fault(consumer.coordinator, "get")
    app.send_task("add", (1, 1))

    assert len(take(consumer)) == 1
    assert asked.calls == 0


# -- where there are none ---------------------------------------------------------------------


def test_there_are_no_fates_beside_leases_nor_without_a_shared_coordinator(app: Umbel) -> None:
    space = Space()
    leased = MemoryBroker(space, SYSTEM_CLOCK)

    assert Fates.beside(leased, app.coordinator) is None
    assert Fates.beside(app.broker, None) is None
    assert Fates.beside(app.broker, MemoryCoordinator(space, SYSTEM_CLOCK)) is None
    assert Fates.beside(app.broker, app.coordinator) is not None


# -- names ------------------------------------------------------------------------------------


@pytest.mark.parametrize("task_id", ["plain", "x" * 300, "with/stroke", "naïve"])
def test_what_a_child_runs_is_found_by_the_ids_of_tasks(
    app: Umbel, message: Callable[..., Any], task_id: str
) -> None:
    board = Board.create(2)
    for slot, each in enumerate((task_id, "another")):
        sent = message("add", headers={"id": each, "retries": 3}, id=each)
        board.begin(slot, slot_key(slot_name(sent)), time.monotonic(), None)

    found = running_among([task_id, "third"], app.broker, "node/0", board)

    assert list(found.values()) == [task_id]
    assert set(found) < {slot.key for slot in board.running()}
    board.close()


def test_a_terminated_task_is_revoked_when_it_comes_again(
    app: Umbel, consumer: Consumer, recovery: Recovery
) -> None:
    result = app.send_task("add", (1, 1))
    running = receive(consumer)
    ended = {key_of(running): Revoked("terminated")}
    die(consumer, recovery, dead(running, was_spared=True, doomed=ended), running)

    assert take(consumer) == []
    assert consumer.settler.flush()

    assert result.state == "REVOKED"
