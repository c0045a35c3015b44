"""What the memory broker does beyond the contract of all brokers (tests/contracts)."""

from __future__ import annotations

import pytest

from umbel.builtin.memory.broker import MemoryBroker
from umbel.builtin.memory.space import Space
from umbel.clock import SYSTEM_CLOCK
from umbel.errors import BrokerError
from umbel.messages import Burial, Malformed, Message, QueueStats
from umbel_testing.clock import FakeClock
from umbel_testing.kit import Running

PATIENCE_S = 10.0


@pytest.fixture
def clock():
    return FakeClock()


@pytest.fixture
def space():
    return Space()


@pytest.fixture
def broker(space, clock):
    return MemoryBroker(space, clock)


def message(**changes):
    return Message(**{"id": "1", "task": "add", "headers": {}, "body": b"", **changes})


def take(broker, queue="celery", count=10):
    return broker.receive([queue], max_messages=count, wait_s=0)


@pytest.mark.parametrize(
    "raw",
    [b"", b"\xff", b"garbage", b"[]", b"{}", b'["1", 5]', b'["\xff"]', b"[" * 5000],
)
def test_foreign_bytes_are_delivered_as_malformed(broker, raw):
    broker.send_raw("celery", raw)
    [delivery] = take(broker)

    assert isinstance(delivery.message, Malformed)
    assert delivery.message.raw == raw
    assert "not a message of this broker" in delivery.message.reason
    assert list(broker.ack([delivery])) == []


def test_malformed_message_can_be_peeked_at_and_buried(broker):
    broker.send_raw("celery", b"garbage")
    [seen] = broker.peek("celery")
    [delivery] = take(broker)
    broker.bury([Burial(delivery, seen.reason)])

    [letter] = broker.dead_letters()
    assert letter.message == seen == delivery.message


def test_message_among_garbage_is_delivered(broker):
    broker.send_raw("celery", b"garbage")
    broker.send([message()])
    broker.send_raw("celery", b"more")

    assert [isinstance(one.message, Malformed) for one in take(broker)] == [True, False, True]


@pytest.mark.parametrize(
    "header", [object(), "\ud800", {object(): 1}], ids=["object", "text", "key"]
)
def test_what_cannot_be_encoded_is_refused_with_the_messages_name(broker, header):
    with pytest.raises(BrokerError, match="message '1' of task 'add' can't be sent"):
        broker.send([message(headers={"x": header})])

    assert broker.stats("celery") == QueueStats(name="celery")


def test_endless_header_is_refused(broker):
    endless = []
    endless.append(endless)
    with pytest.raises(BrokerError):
        broker.send([message(headers={"x": endless})])


def test_receive_without_a_queue_or_a_number_is_refused(broker):
    with pytest.raises(ValueError, match="at least one queue"):
        broker.receive([], max_messages=1, wait_s=0)
    with pytest.raises(ValueError, match="max_messages=0"):
        broker.receive(["celery"], max_messages=0, wait_s=0)


def test_moving_the_clock_makes_a_waiting_receive_get_what_is_due(broker, clock):
    broker.send([message(due_at=clock.time() + 7200)])
    running = Running(lambda: broker.receive(["celery"], max_messages=1, wait_s=1e6))
    clock.advance("1h")
    assert running.goes_on()
    clock.advance("1h")

    assert len(running.result(PATIENCE_S)) == 1


def test_handle_that_did_not_join_gives_back_what_it_holds_when_it_closes(broker, space, clock):
    broker.send([message()])
    take(broker)
    clock.advance("1w")
    other = MemoryBroker(space, clock)
    assert other.recover_expired() == 0
    assert take(other) == []
    broker.close()

    assert [one.token for one in take(other)] == [2]


def test_node_that_was_declared_dead_gets_nothing_until_it_renews(space, clock):
    dead, other = MemoryBroker(space, clock), MemoryBroker(space, clock)
    dead.join("node", "consumer", lease_s=10.0)
    clock.advance("11s")
    other.recover_expired()
    dead.send([message()])
    running = Running(lambda: dead.receive(["celery"], max_messages=1, wait_s=1e6))

    assert running.goes_on()
    assert dead.renew("node", lease_s=10.0) is False
    assert len(running.result(PATIENCE_S)) == 1


def test_renewing_after_a_jump_of_the_clock_loses_nothing_while_nobody_looked(broker, clock):
    broker.join("node", "consumer", lease_s=10.0)
    broker.send([message()])
    held = take(broker)
    clock.advance("3h")

    assert broker.renew("node", lease_s=10.0) is True
    assert broker.recover_expired() == 0
    assert list(broker.ack(held)) == []


def test_joining_never_shortens_a_lease(space, clock):
    first, second = MemoryBroker(space, clock), MemoryBroker(space, clock)
    first.join("node", "one", lease_s=100.0)
    second.join("node", "two", lease_s=1.0)
    first.send([message()])
    take(first)
    clock.advance(50)

    assert second.recover_expired() == 0


def test_closing_ends_a_waiting_receive(space):
    broker = MemoryBroker(space, SYSTEM_CLOCK)
    running = Running(lambda: broker.receive(["celery"], max_messages=1, wait_s=1e6))
    assert running.goes_on()
    broker.close()

    assert list(running.result(PATIENCE_S)) == []
