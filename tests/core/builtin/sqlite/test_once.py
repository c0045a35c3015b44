"""What `sent` knows in an SQLite file, and what it forgets."""

from __future__ import annotations

import threading

import pytest

from umbel.builtin.sqlite.broker import SqliteBroker
from umbel.errors import BrokerUnavailableError
from umbel.messages import Burial, OnConflict
from umbel_testing.samples import message


@pytest.fixture
def keys(query):
    """Returns the keys in `sent`."""
    return lambda: sorted(row[0] for row in query("SELECT once_key FROM sent"))


def take(broker, queue="q"):
    return list(broker.receive([queue], max_messages=100, wait_s=0))


def send_another(broker, clock):
    """Send once, as late as a sweep is due."""
    clock.advance(2)
    another = message("other")
    broker.send_once([another])
    return another.once_key


def test_plain_messages_are_not_noted(broker, keys):
    broker.send([message("q") for _ in range(3)])
    broker.settle(take(broker), ())

    assert keys() == []


def test_what_is_finished_is_swept_away_after_the_window(broker, clock, keys):
    once = [message("q") for _ in range(50)]
    broker.send_once(once)
    broker.ack(take(broker))
    clock.advance(590)
    broker.send_once([message("other")])
    before = len(keys())

    clock.advance(11)
    last = send_another(broker, clock)

    assert before == 51
    assert len(keys()) == 2
    assert last in keys()


def test_table_stays_small_under_a_stream_of_follow_ups(broker, clock, keys):
    broker.configure(once_window_s=10.0, bounds={})
    broker.send([message("q")])
    sizes = []
    for _ in range(40):
        clock.advance(1)
        for _ in range(25):
            broker.settle(take(broker), [message("q")])
        sizes.append(len(keys()))

    assert max(sizes) <= 25 * 13


@pytest.mark.parametrize("way", ["purged", "buried", "deleted by hand"])
def test_what_went_in_another_way_is_free_at_once_and_swept_away(broker, clock, keys, query, way):
    gone = message("q")
    broker.send_once([gone])
    if way == "purged":
        broker.purge("q")
    elif way == "buried":
        broker.bury([Burial(take(broker)[0], "because")])
    else:
        query("DELETE FROM messages")

    assert list(broker.send_once([gone], on_conflict=OnConflict.RAISE)) == []
    broker.purge("q")
    last = send_another(broker, clock)
    assert keys() == [last]


def test_row_of_another_message_is_not_taken_for_one_that_went(broker, query):
    gone, other = message("q"), message("q")
    broker.send_once([gone])
    query("DELETE FROM messages")
    broker.send([other])  # takes its seq

    assert list(broker.send_once([gone])) == []


def test_send_that_was_stored_though_it_failed_is_recognised(broker, monkeypatch):
    doubtful, beside = message("q"), message("q", headers={"retries": 2})
    write = broker._store.write_durably

    def fails(*args):
        write(*args)
        raise BrokerUnavailableError("the disk was away for a moment")

    monkeypatch.setattr(broker._store, "write_durably", fails)
    with pytest.raises(BrokerUnavailableError):
        broker.send([doubtful, beside])
    monkeypatch.setattr(broker._store, "write_durably", write)

    assert list(broker.send_once([doubtful, beside])) == [doubtful.id, beside.id]
    assert len(take(broker)) == 2


def test_send_that_failed_and_was_not_stored_is_sent(broker, monkeypatch):
    lost = message("q")
    write = broker._store.write_durably

    def fails(*args):
        raise BrokerUnavailableError("locked")

    monkeypatch.setattr(broker._store, "write_durably", fails)
    with pytest.raises(BrokerUnavailableError):
        broker.send([lost])
    monkeypatch.setattr(broker._store, "write_durably", write)

    assert list(broker.send_once([lost])) == []
    assert [one.message.id for one in take(broker)] == [lost.id]


def test_delivery_may_be_acked_by_another_handle(broker, open_handle, clock):
    once = message("q")
    broker.send_once([once])
    held = take(broker)

    assert open_handle(SqliteBroker, clock).ack(held) == []
    assert list(broker.send_once([once])) == [once.id]


def test_part_of_a_batch_that_was_lost_is_not_finished(broker, clock):
    lost, done = message("q"), message("q")
    broker.configure(once_window_s=0.0, bounds={})
    broker.send_once([lost, done])
    held = take(broker)
    broker.nack(held[:1])

    assert broker.ack(held) == held[:1]
    assert list(broker.send_once([lost, done])) == [lost.id]


def test_new_queue_of_a_follow_up_is_known_by_name(broker):
    broker.send([message("q")])
    broker.settle(take(broker), [message("after")])

    assert list(broker.queues()) == ["after", "q"]


def test_waiting_receiver_is_woken_by_what_is_sent_once(open_handle):
    sender, receiver, found = open_handle(SqliteBroker), open_handle(SqliteBroker), []
    waiting = threading.Thread(
        target=lambda: found.extend(receiver.receive(["q"], max_messages=1, wait_s=30))
    )
    waiting.start()
    sender.send_once([message("q")])
    waiting.join(20)

    assert len(found) == 1
