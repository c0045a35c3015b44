"""What Redis refuses in a transaction, and what it may have taken though nobody said so."""

from __future__ import annotations

import time

import pytest

from umbel.errors import BrokerError
from umbel.messages import Message


def messages(count, queue="q"):
    return [
        Message(id=f"{i}", task="t", body=b"[[], {}, {}]", queue=queue, headers={"id": f"{i}"})
        for i in range(count)
    ]


def test_a_list_that_refuses_within_a_transaction_is_no_success(redis_server, broker):
    redis_server.run("SET", "b\x06\x169", "no list")
    with pytest.raises(BrokerError, match="WRONGTYPE"):
        broker.send([*messages(1, "a"), *messages(1, "b")])


def test_a_batch_in_doubt_is_looked_for_once_in_a_long_queue(redis_server, broker):
    broker.send(messages(5000))
    doubted = messages(1000)
    broker._sender._doubt([broker._sender._draft(each, time.time()) for each in doubted])
    redis_server.run("CONFIG", "RESETSTAT")
    broker.send_once(doubted)
    commands = redis_server.info("commandstats")

    assert commands["cmdstat_lpos"]["calls"] == 1
    assert broker.stats("q").ready == 6000


def test_a_batch_that_was_stored_is_known_even_where_its_first_ones_were_taken(broker):
    sent = messages(5)
    drafts = [broker._sender._draft(each, time.time()) for each in sent]
    broker._sender._push(drafts)
    broker._sender._doubt(drafts)
    held = broker.receive(["q"], max_messages=2, wait_s=0)

    assert broker.send_once(sent) == [each.id for each in sent]
    assert broker.stats("q").ready == 3
    assert len(held) == 2


def test_a_batch_that_was_taken_whole_is_known_while_it_is_held(broker, open_broker, redis_server):
    sent = messages(3)
    drafts = [broker._sender._draft(each, time.time()) for each in sent]
    broker._sender._push(drafts)
    broker._sender._doubt(drafts)
    other = open_broker(redis_server.url)
    held = other.receive(["q"], max_messages=3, wait_s=0)
    other.nack(held)
    assert len(other.receive(["q"], max_messages=3, wait_s=0)) == 3

    assert broker.send_once(sent) == [each.id for each in sent]
    assert broker.stats("q").ready == 0


def test_a_batch_that_was_taken_and_given_back_is_known(broker, open_broker, redis_server):
    sent = messages(3)
    drafts = [broker._sender._draft(each, time.time()) for each in sent]
    broker._sender._push(drafts)
    broker._sender._doubt(drafts)
    other = open_broker(redis_server.url)
    first, *others = other.receive(["q"], max_messages=3, wait_s=0)
    other.nack([first], delay_s=60)
    other.nack(others)

    assert broker.send_once(sent) == [each.id for each in sent]
    assert (broker.stats("q").ready, broker.stats("q").delayed) == (2, 1)
