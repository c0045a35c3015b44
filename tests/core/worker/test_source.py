"""A consumer's way to its broker, through outages."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from umbel import Umbel
from umbel.errors import BrokerError, BrokerUnavailableError
from umbel.interfaces.broker import Broker, Capability
from umbel.messages import Delivery, Message
from umbel.worker.consumer import Consumer
from umbel.worker.identity import Identity
from umbel.worker.source import Source

IDENTITY = Identity(node="node", consumer="node/0", hostname="w@host", lease_s=60.0)


class Scripted(Broker):
    """Answers what it is told to; an exception is raised."""

    capabilities = frozenset({Capability.LEASE})

    def __init__(self, *answers: Any) -> None:
        self.answers = list(answers)
        self.asked: list[Sequence[str]] = []
        self.joined: list[str] = []
        self.join_errors: list[Exception] = []
        self.held_now: list[Delivery] = []
        self.given_back: list[Delivery] = []

    def join(self, node: str, consumer: str, *, lease_s: float) -> None:
        if self.join_errors:
            raise self.join_errors.pop(0)
        self.joined.append(consumer)

    def receive(
        self, queues: Sequence[str], *, max_messages: int, wait_s: float
    ) -> Sequence[Delivery]:
        self.asked.append(list(queues))
        answer = self.answers.pop(0) if self.answers else ()
        if isinstance(answer, Exception):
            raise answer
        return answer

    def held(self, consumer: str) -> Sequence[Delivery]:
        return self.held_now

    def send(self, messages: Sequence[Message]) -> None:
        raise NotImplementedError

    def ack(self, deliveries: Sequence[Delivery]) -> Sequence[Delivery]:
        return ()

    def nack(self, deliveries: Sequence[Delivery], *, delay_s: float = 0.0) -> None:
        self.given_back += deliveries


@pytest.fixture
def stopping() -> threading.Event:
    """Set, so that no outage is waited for."""
    event = threading.Event()
    event.set()
    return event


@pytest.fixture
def source(clock: Any, stopping: threading.Event) -> Callable[..., Source]:
    def make(broker: Broker, queues: Sequence[str] = ("celery",)) -> Source:
        return Source(broker, queues, IDENTITY, clock, stopping)

    return make


def receive(source: Source) -> Sequence[Delivery]:
    return source.receive(max_messages=1, wait_s=0)


@pytest.mark.parametrize(
    "error", [BrokerUnavailableError("gone"), BrokerError("odd"), TypeError("a plugin's bug")]
)
def test_an_outage_is_told_once_and_its_end_too(
    source: Callable[..., Source], error: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "umbel.worker")
    one = source(Scripted(error, error, error, (), ()))

    states = []
    for _ in range(5):
        assert receive(one) == ()
        states.append(one.is_down)

    assert states == [True, True, True, False, False]
    first, second = caplog.messages
    assert first.startswith("can't receive from the broker, trying again until it is back")
    assert second.startswith("receiving again after")


def test_a_new_outage_is_told_anew(
    source: Callable[..., Source], caplog: pytest.LogCaptureFixture
) -> None:
    gone = BrokerUnavailableError("gone")
    one = source(Scripted(gone, (), gone, ()))
    for _ in range(4):
        receive(one)

    assert len([text for text in caplog.messages if text.startswith("can't receive")]) == 2


def test_pauses_of_an_outage_grow_to_their_bound_and_are_jittered(
    clock: Any, stopping: threading.Event
) -> None:
    pauses: list[float] = []
    broker = Scripted(*[BrokerUnavailableError("gone")] * 7)
    one = Source(
        broker, ["celery"], IDENTITY, clock, stopping, pause=pauses.append, jitter=lambda: 0.0
    )
    for _ in range(7):
        receive(one)

    assert pauses == pytest.approx([0.05, 0.1, 0.2, 0.4, 0.8, 1.0, 1.0])


def test_joining_waits_for_the_broker(source: Callable[..., Source]) -> None:
    joined: list[bool] = []
    broker = Scripted()
    broker.join_errors = [BrokerUnavailableError("gone")] * 2
    one = source(broker)
    one.when_joined(lambda: joined.append(True))
    assert one.is_down

    receive(one)
    assert (broker.joined, joined) == ([], [])
    receive(one)

    assert (broker.joined, joined) == (["node/0"], [True])
    assert not one.is_down
    receive(one)
    assert broker.joined == ["node/0"]


def test_who_asks_after_it_joined_is_told_at_once(source: Callable[..., Source]) -> None:
    joined: list[bool] = []
    source(Scripted()).when_joined(lambda: joined.append(True))

    assert joined == [True]


def test_a_broker_that_refuses_stops_the_start(source: Callable[..., Source]) -> None:
    broker = Scripted()
    broker.join_errors = [BrokerError("not yours")]

    with pytest.raises(BrokerError, match="not yours"):
        source(broker)


def test_a_broker_that_was_used_before_may_refuse_for_a_while(
    clock: Any, stopping: threading.Event
) -> None:
    broker = Scripted()
    broker.join_errors = [BrokerError("its folder is gone")]
    one = Source(broker, ["celery"], IDENTITY, clock, stopping, is_proved=True)
    assert one.is_down

    receive(one)
    assert not one.is_down


def test_no_queue_starves_behind_another(source: Callable[..., Source]) -> None:
    broker = Scripted()
    one = source(broker, ["a", "b", "c"])
    for _ in range(6):
        receive(one)

    assert {queues[0] for queues in broker.asked[:3]} == {"a", "b", "c"}
    assert all(sorted(queues) == ["a", "b", "c"] for queues in broker.asked)


def test_strays_are_looked_for_every_few_seconds(
    source: Callable[..., Source], deliver: Callable[..., Delivery], app: Umbel, clock: Any
) -> None:
    app.task(name="t")(lambda: 1)
    stray = deliver("t")
    broker = Scripted()
    one = source(broker)
    broker.held_now = [stray]
    one.reconcile(set())
    assert broker.given_back == []

    clock.advance(6)
    one.reconcile({stray.receipt})
    assert broker.given_back == []

    clock.advance(6)
    one.reconcile(set())
    one.reconcile(set())
    assert broker.given_back == [stray]


def test_strays_are_looked_for_once_an_answer_got_lost_before_more_is_taken(
    source: Callable[..., Source], deliver: Callable[..., Delivery], app: Umbel, fault: Any
) -> None:
    app.task(name="t")(lambda: 1)
    stray = deliver("t")
    broker = Scripted()
    one = source(broker)
    fault(broker, "receive", error=BrokerUnavailableError("the answer got lost"))
    assert one.receive(max_messages=1, wait_s=0) == ()
    broker.held_now = [stray]

    one.reconcile(set())
    assert broker.given_back == [stray]


def test_an_error_while_strays_are_looked_for_is_passed_over(
    consumer: Consumer, fault: Callable[..., Any]
) -> None:
    fault(consumer.broker, "held", error=TypeError("a plugin's bug"))
    consumer.source._reconciled_at = -1e9

    consumer.source.reconcile(set())
    assert consumer.source._reconciled_at > 0
