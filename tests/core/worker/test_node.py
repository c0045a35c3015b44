"""A node's lease, its look after dead ones, its janitor and its ear for commands."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import msgspec
import pytest
from project import wait_for

from umbel import Umbel
from umbel.errors import BrokerError, BrokerUnavailableError
from umbel.interfaces.broker import Broker
from umbel.messages import Delivery, Message
from umbel.worker import node as node_module
from umbel.worker.identity import Identity
from umbel.worker.node import CONTROL_CHANNEL, ControlMessage, Node
from umbel_testing import FakeClock

LEASE_S = 0.3


class Watched:
    """A running node, and what it told."""

    def __init__(self, app: Umbel, broker: Broker, **handles: Any):
        self.leases: list[tuple[float, float]] = []
        self.heard: list[ControlMessage] = []
        self.fails = False
        self.identity = Identity(
            node="this", consumer="this/0", hostname="this@host", lease_s=LEASE_S
        )
        handles.setdefault("backend", None)
        handles.setdefault("coordinator", None)
        self.node = Node(
            self.identity,
            broker=broker,
            on_lease=self.on_lease,
            on_control=self.on_control,
            **handles,
        )

    def on_lease(self, since: float, until: float) -> None:
        self.leases.append((since, until))

    def on_control(self, message: ControlMessage) -> None:
        self.heard.append(message)
        if self.fails:
            raise TypeError("a bug")


@pytest.fixture
def broker(app: Umbel) -> Iterator[Broker]:
    made = app.open_broker()
    yield made
    made.close()


@pytest.fixture
def watch(app: Umbel, broker: Broker) -> Iterator[Callable[..., Watched]]:
    made: list[Watched] = []

    def make(start: bool = True, **handles: Any) -> Watched:
        made.append(Watched(app, broker, **handles))
        if start:
            made[-1].node.start()
        return made[-1]

    yield make
    for each in made:
        each.node.stop()


# -- the lease --------------------------------------------------------------------------------


def test_the_lease_is_renewed_and_those_are_told_who_settle_under_it(
    watch: Callable[..., Watched],
) -> None:
    one = watch()
    wait_for(lambda: len(one.leases) >= 3)

    untils = [until for _, until in one.leases]
    assert untils == sorted(untils)
    assert {since for since, _ in one.leases} == {one.leases[0][0]}
    assert untils[-1] <= time.monotonic() + LEASE_S


@pytest.mark.parametrize("error", [None, TypeError("a plugin's bug")])
def test_a_renewal_that_fails_is_tried_again_and_told_once(
    watch: Callable[..., Watched],
    broker: Broker,
    fault: Callable[..., Any],
    error: Exception | None,
    caplog: pytest.LogCaptureFixture,
) -> None:
    outage = fault(broker, "renew", error=error)
    outage.is_on = False
    one = watch()
    outage.is_on = True
    tries, told = outage.calls, len(one.leases)
    wait_for(lambda: outage.calls >= tries + 4)
    assert len(one.leases) <= told + 1

    outage.is_on = False

    known = len(one.leases)
    wait_for(lambda: len(one.leases) > known)
    assert len([text for text in caplog.messages if "can't renew" in text]) == 1


def test_a_lease_that_was_lost_begins_anew(
    watch: Callable[..., Watched],
    broker: Broker,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    one = watch()
    first, _ = one.leases[0]
    renew = broker.renew

    def lost(node: str, *, lease_s: float) -> bool:
        monkeypatch.setattr(broker, "renew", renew)
        renew(node, lease_s=lease_s)
        return False

    before = time.monotonic()
    monkeypatch.setattr(broker, "renew", lost)

    wait_for(lambda: one.leases[-1][0] > first)
    since, _ = one.leases[-1]
    assert since >= before
    assert "had run out" in caplog.text


def test_it_starts_during_an_outage_and_takes_its_lease_later(
    watch: Callable[..., Watched], broker: Broker, fault: Callable[..., Any]
) -> None:
    outage = fault(broker, "join", "renew")
    one = watch()
    assert one.leases == []

    outage.is_on = False

    wait_for(lambda: one.leases)


def test_a_broker_that_refuses_stops_the_start(
    watch: Callable[..., Watched], broker: Broker, fault: Callable[..., Any]
) -> None:
    fault(broker, "join", error=BrokerError("not yours"))

    with pytest.raises(BrokerError, match="not yours"):
        watch(start=False).node.start()


class Plain(Broker):
    """A broker whose connection is its lease."""

    def send(self, messages: Sequence[Message]) -> None:
        raise NotImplementedError

    def receive(
        self, queues: Sequence[str], *, max_messages: int, wait_s: float
    ) -> Sequence[Delivery]:
        return ()

    def ack(self, deliveries: Sequence[Delivery]) -> Sequence[Delivery]:
        return ()

    def nack(self, deliveries: Sequence[Delivery], *, delay_s: float = 0.0) -> None:
        return


def test_without_leases_nothing_runs_out(app: Umbel) -> None:
    one = Watched(app, Plain())
    one.node.start()
    one.node.stop()

    assert one.leases == [(-float("inf"), float("inf"))]


def test_its_end_gives_back_what_its_processes_hold(
    app: Umbel, watch: Callable[..., Watched], broker: Broker
) -> None:
    app.task(name="t")(lambda: 1)
    one = watch()
    consumer = app.open_broker()
    consumer.join("this", "this/1", lease_s=LEASE_S)
    app.send_task("t")
    assert consumer.receive(["celery"], max_messages=1, wait_s=5)

    one.node.stop()
    one.node.stop()

    assert (broker.stats("celery").ready, broker.stats("celery").held) == (1, 0)


def test_an_outage_at_its_end_is_no_error(
    watch: Callable[..., Watched],
    broker: Broker,
    fault: Callable[..., Any],
    caplog: pytest.LogCaptureFixture,
) -> None:
    one = watch()
    fault(broker, "leave", error=BrokerUnavailableError("gone"))

    one.node.stop()

    assert "others will take over" in caplog.text


# -- dead nodes, the janitor ------------------------------------------------------------------


def test_what_a_dead_node_held_is_given_back(
    app: Umbel, watch: Callable[..., Watched], broker: Broker, caplog: pytest.LogCaptureFixture
) -> None:
    app.task(name="t")(lambda: 1)
    dead = app.open_broker()
    dead.join("dead", "dead/0", lease_s=0.1)
    app.send_task("t")
    assert dead.receive(["celery"], max_messages=1, wait_s=5)

    watch()

    wait_for(lambda: broker.stats("celery").ready == 1)
    wait_for(lambda: "gave back 1 messages of nodes that are gone" in caplog.text)


def test_after_an_outage_others_get_to_renew_their_leases_first(
    watch: Callable[..., Watched], broker: Broker, fault: Callable[..., Any]
) -> None:
    clock = FakeClock()
    looks = fault(broker, "recover_expired")
    node = watch(start=False, clock=clock).node
    node.join()
    node.beat()
    assert looks.calls == 1
    fails = fault(broker, "renew", error=BrokerUnavailableError("gone"))
    clock.advance(LEASE_S * 1.1)
    node.beat()
    fails.is_on = False
    node.beat()
    assert looks.calls == 1
    clock.advance(LEASE_S * 0.6)
    node.beat()

    assert looks.calls == 2


def test_a_failing_look_for_dead_nodes_does_not_end_the_renewals(
    watch: Callable[..., Watched], broker: Broker, fault: Callable[..., Any]
) -> None:
    broken = fault(broker, "recover_expired", error=TypeError("a plugin's bug"))
    one = watch()

    wait_for(lambda: broken.calls >= 3)
    assert len(one.leases) >= 3


def test_a_slow_janitor_does_not_hold_up_the_renewals(
    app: Umbel, watch: Callable[..., Watched], monkeypatch: pytest.MonkeyPatch
) -> None:
    backend = app.open_backend()
    assert backend is not None
    began, go_on = threading.Event(), threading.Event()

    def slow(*, limit: int) -> int:
        began.set()
        assert go_on.wait(30)
        return 0

    monkeypatch.setattr(backend, "expire", slow)
    one = watch(backend=backend)
    assert began.wait(30)
    known = len(one.leases)

    wait_for(lambda: len(one.leases) >= known + 2)
    go_on.set()


def test_the_janitor_goes_on_until_nothing_is_left_and_after_errors(
    app: Umbel, watch: Callable[..., Watched], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(node_module, "_JANITOR_EVERY_S", 0.01)
    backend = app.open_backend()
    assert backend is not None
    answers: list[Any] = [5000, 5000, TypeError("a plugin's bug"), 5000, 3, 0]
    asked: list[int] = []

    def expire(*, limit: int) -> int:
        asked.append(limit)
        answer = answers.pop(0) if answers else 0
        if isinstance(answer, Exception):
            raise answer
        return int(answer)

    monkeypatch.setattr(backend, "expire", expire)
    watch(backend=backend)

    wait_for(lambda: not answers)
    assert set(asked) == {5000}


# -- remote control ---------------------------------------------------------------------------


def publish(app: Umbel, payload: bytes) -> None:
    assert app.coordinator is not None
    app.coordinator.publish(CONTROL_CHANNEL, payload)


def command(method: str, destination: list[str] | None = None) -> bytes:
    return msgspec.json.encode(
        {"method": method, "arguments": {"a": 1}, "destination": destination}
    )


def test_commands_for_this_node_and_for_all_are_heard(
    app: Umbel, watch: Callable[..., Watched]
) -> None:
    one = watch(coordinator=app.open_coordinator())
    wait_for(lambda: [each.method for each in one.heard] == ["refresh"])

    publish(app, command("others", ["that@host"]))
    publish(app, command("mine", ["that@host", "this@host"]))
    publish(app, command("everybody"))

    wait_for(lambda: [each.method for each in one.heard] == ["refresh", "mine", "everybody"])
    assert one.heard[-1].arguments == {"a": 1}


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"not json",
        b"[]",
        b"{}",
        b'{"method": 3}',
        b'{"method": "x", "destination": "me"}',
        b"\xff\xfe",
        b"[" * 5000,
    ],
    ids=lambda payload: repr(payload[:40]),
)
def test_malformed_commands_are_passed_over(
    app: Umbel, watch: Callable[..., Watched], payload: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    one = watch(coordinator=app.open_coordinator())
    wait_for(lambda: one.heard)

    publish(app, payload)
    publish(app, command("good"))

    wait_for(lambda: one.heard[-1].method == "good")
    assert "malformed control message" in caplog.text


def test_a_command_that_fails_is_not_the_last_one(
    app: Umbel, watch: Callable[..., Watched]
) -> None:
    one = watch(coordinator=app.open_coordinator())
    wait_for(lambda: one.heard)
    one.fails = True
    publish(app, command("first"))
    publish(app, command("second"))

    wait_for(lambda: one.heard[-1].method == "second")


def test_an_outage_of_remote_control_is_told_once_and_what_was_missed_is_looked_up(
    app: Umbel,
    watch: Callable[..., Watched],
    fault: Callable[..., Any],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(node_module, "_RETRY_S", 0.01)
    coordinator = app.open_coordinator()
    outage = fault(coordinator, "subscribe")
    one = watch(coordinator=coordinator)
    wait_for(lambda: outage.calls >= 4)

    outage.is_on = False

    wait_for(lambda: [each.method for each in one.heard] == ["refresh"])
    told = [each for each in caplog.records if "out of reach" in each.message]
    assert [each.levelno for each in told if each.levelno > logging.DEBUG] == [logging.WARNING]
