"""Dead letters with the coordinator: what crashes, damage and start-up make of them."""

from __future__ import annotations

import types

import pytest

from umbel import Umbel, hookimpl
from umbel.builtin.memory.broker import MemoryBroker
from umbel.builtin.memory.coordinator import MemoryCoordinator
from umbel.builtin.memory.space import Space
from umbel.clock import SYSTEM_CLOCK
from umbel.dead_letter_store import DeadLetterStore
from umbel.errors import BackendError, BrokerUnavailableError, CapabilityError, ConfigError
from umbel.interfaces.broker import Broker, Capability
from umbel.messages import Burial, Malformed, Message
from umbel.plugins import PluginManager
from umbel.worker.requirements import check_capabilities

SPACE_WIDE = frozenset({Capability.DELAY, Capability.SHARED})


class PlainBroker(MemoryBroker):
    """Four methods, delays, and the claim that other processes see it."""

    capabilities = SPACE_WIDE
    bury, dead_letters = Broker.bury, Broker.dead_letters
    drop_dead, replay = Broker.drop_dead, Broker.replay


@pytest.fixture
def space():
    return Space()


@pytest.fixture
def broker(space):
    return PlainBroker(space, SYSTEM_CLOCK)


@pytest.fixture
def coordinator(space):
    return MemoryCoordinator(space, SYSTEM_CLOCK)


@pytest.fixture
def store(broker, coordinator):
    return DeadLetterStore(broker, coordinator, SYSTEM_CLOCK)


def message(queue="q", task_id="1", **headers):
    return Message(id=task_id, task="t", queue=queue, headers=headers, body=b"[[], {}, {}]")


def held(broker, *messages):
    broker.send(messages)
    return broker.receive(
        sorted({one.queue for one in messages}), max_messages=len(messages), wait_s=0
    )


def test_crash_before_the_ack_leaves_the_message_and_its_letter(store, broker, monkeypatch):
    [delivery] = held(broker, message())

    def crash(deliveries):
        raise BrokerUnavailableError("gone")

    with monkeypatch.context() as patched:
        patched.setattr(broker, "ack", crash)
        with pytest.raises(BrokerUnavailableError):
            store.bury([Burial(delivery, "no such task")])

    assert [letter.message.id for letter in store.dead_letters("q")] == ["1"]
    assert list(broker.ack([delivery])) == []  # it is still held


def test_crash_of_a_replay_before_the_drop_leaves_the_letter(store, broker, coordinator):
    store.bury([Burial(held(broker, message())[0], "failed")])
    [letter] = store.dead_letters()

    def crash(keys):
        raise ConnectionError("gone")

    coordinator.delete = crash
    with pytest.raises(ConnectionError):
        store.replay([(letter.receipt, message(task_id="again"))])
    del coordinator.delete

    assert list(store.dead_letters()) == [letter]
    assert [one.message.id for one in broker.receive(["q"], max_messages=2, wait_s=0)] == ["again"]
    assert list(store.replay([(letter.receipt, message())])) == []  # no lock was left behind


def test_malformed_message_is_kept_byte_for_byte(store, broker):
    broker.send_raw("q", b"\xffnot a message")
    [delivery] = broker.receive(["q"], max_messages=1, wait_s=0)
    store.bury([Burial(delivery, "can't be read")])

    [letter] = store.dead_letters()
    assert isinstance(letter.message, Malformed)
    assert letter.message == delivery.message


def test_damaged_record_is_listed_and_can_be_dropped(store, coordinator):
    coordinator.put("dead/a%2Fb/0000000000000007", b"{damaged")

    [letter] = store.dead_letters("a/b")
    assert (letter.queue, letter.reason) == ("a/b", "its record is damaged")
    assert letter.message.raw == b"{damaged"
    assert store.drop_dead([letter.receipt]) == 1


def test_queues_with_odd_names_are_kept_apart(store, broker):
    queues = ["a", "a/b", "a b", "a%2Fb"]
    for queue in queues:
        store.bury([Burial(each, queue) for each in held(broker, message(queue))])

    assert [[one.reason for one in store.dead_letters(queue)] for queue in queues] == [
        [queue] for queue in queues
    ]


def test_nothing_but_dead_letters_is_dropped(store, coordinator):
    coordinator.put("attempts/1", b"x")

    assert store.drop_dead(["attempts/1", "dead-letters/count"]) == 0
    assert list(store.replay([("attempts/1", message())])) == ["attempts/1"]
    assert coordinator.get(["attempts/1"]) == {"attempts/1": b"x"}


def app_on(broker_kind, **settings):
    space = Space()
    module = types.ModuleType("plain")

    @hookimpl
    def umbel_brokers():
        return {"plain": lambda url, *, options, clock: broker_kind(space, clock)}

    module.umbel_brokers = umbel_brokers
    return Umbel("t", broker="plain://", plugins=PluginManager([module]), **settings)


def test_app_lends_them_to_a_broker_that_others_share(tmp_path):
    with app_on(PlainBroker, backend=f"sqlite:///{tmp_path}/results.db") as app:
        [delivery] = held(app.broker, message())
        app.broker.bury([Burial(delivery, "failed")])
        other = app.open_broker()

        assert [letter.reason for letter in other.dead_letters()] == ["failed"]
        check_capabilities(other, processes=2)
        other.close()


def test_memory_of_one_process_is_no_place_for_dead_letters_of_many():
    with app_on(PlainBroker, backend="memory://") as app:
        with pytest.raises(CapabilityError):
            app.broker.bury([])
        with pytest.raises(ConfigError, match=r"lacks .* dead_letter .* coordinator_url"):
            check_capabilities(app.broker, processes=0)


def test_broker_of_one_process_may_keep_them_in_its_memory():
    class OwnBroker(PlainBroker):
        capabilities = SPACE_WIDE - {Capability.SHARED}

    with app_on(OwnBroker, backend="memory://") as app:
        assert Capability.DEAD_LETTER in app.broker.capabilities


def test_nothing_is_lent_where_there_is_no_coordinator():
    with app_on(PlainBroker, result_backend=None) as app:
        assert app.broker.capabilities == SPACE_WIDE


def test_broker_that_remembers_what_it_sent_must_keep_its_own():
    class UniqueBroker(PlainBroker):
        capabilities = frozenset({*SPACE_WIDE, Capability.UNIQUE})

    with app_on(UniqueBroker, coordinator_url="memory://") as app:
        assert Capability.DEAD_LETTER not in app.broker.capabilities


def test_closing_the_broker_closes_the_coordinator(tmp_path):
    with app_on(PlainBroker, backend=f"sqlite:///{tmp_path}/results.db") as app:
        broker = app.open_broker()
        broker.dead_letters()
        broker.close()
        broker.close()

        with pytest.raises(BackendError, match="closed"):
            broker.dead_letters()
