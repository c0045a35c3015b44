"""What strangers may have put into a list costs nobody else a message, and Redis no time."""

from __future__ import annotations

import time

import pytest

from umbel.messages import Malformed, Message
from umbel_broker_redis.entries import read_entry


def message(name, queue="q"):
    # The most urgent one is in the list that is called as the queue is.
    return Message(id=name, task="t", queue=queue, headers={}, body=b"[]", priority=9)


@pytest.fixture
def redis(redis_server):
    with redis_server.client() as client:
        yield client


def names(deliveries):
    return {each.message.id for each in deliveries}


@pytest.mark.parametrize(
    "mark",
    [
        b"0:0::" + b"9" * 400,
        b"9" * 400 + b":0:",
        b"0:" + b"9" * 400 + b":",
        b"0:0:abc",
        b"0:0:ff",
        b"0:0:" + b":1" * 30,
        b"-1:0:",
        b"",
    ],
)
def test_a_forged_mark_costs_no_message_beside_it(broker, redis, mark):
    broker.send([message("a"), message("b")])
    envelope = redis.lindex("q", 0)
    redis.rpush("q", b'{"umbel":"' + mark + b'",' + envelope[1:])
    got = broker.receive(["q"], max_messages=10, wait_s=0)
    assert len(got) == 3
    assert names(got) == {"a", "b"}
    broker.nack(got)
    again = broker.receive(["q"], max_messages=10, wait_s=0)
    assert len(again) == 3
    assert {each.token for each in again} == {2}


def test_numbers_of_a_forged_mark_stay_small():
    entry = read_entry(b'{"umbel":"9999999999999999999:9999999999999999999:","body":""}')
    assert (entry.deliveries, entry.strikes) == (0, 0)


@pytest.mark.parametrize("step", ["nack", "purge"])
def test_a_long_forged_mark_does_not_hold_up_redis(broker, redis, step):
    broker.send([message("a")])
    envelope = redis.rpop("q")
    redis.rpush("q", b'{"umbel":"0:0:' + b"1" * 100_000 + b'"' + envelope)
    began_at = time.monotonic()
    if step == "purge":
        assert broker.purge("q") == 1
    else:
        broker.nack(broker.receive(["q"], max_messages=1, wait_s=0))
    # Where each digit is tried against all others, this takes a minute.
    assert time.monotonic() - began_at < 3


def test_a_large_batch_with_an_early_entry_is_taken_whole(broker, redis):
    broker.send([message(str(number)) for number in range(9000)])
    envelope = redis.lindex("q", 0)
    redis.lpush("q", b'{"umbel":"0:0::1",' + envelope[1:])
    assert len(broker.receive(["q"], max_messages=10_000, wait_s=0)) == 9001


def test_entries_of_the_same_bytes_are_messages_of_their_own(broker, redis, receiving):
    running = receiving(broker, "q")
    redis.lpush("q", b"garbage")
    [first] = running.result(10)
    redis.lpush("umbel:{q}:claimed:" + broker._consumer, b"garbage")
    [second] = broker.receive(["q"], max_messages=10, wait_s=0)
    assert isinstance(second.message, Malformed)
    assert first.receipt != second.receipt
    assert broker.ack([first, second]) == []


def test_the_same_bytes_claimed_twice_are_both_given_back(broker, open_broker, redis_server, redis):
    other = open_broker(redis_server.url)
    other.join("node", "dead", lease_s=30)
    other.receive(["q"], max_messages=1, wait_s=0)
    redis.hset("umbel:{q}:consumers", "dead", "node")
    redis.lpush("umbel:{q}:claimed:dead", b"garbage", b"garbage")
    assert broker.recover_consumer("dead") == 2
    assert redis.lrange("q", 0, -1) == [b"garbage", b"garbage"]


def test_what_a_dead_process_held_is_given_back_where_redis_is_full(
    broker, open_broker, redis_server, redis
):
    dead = open_broker(redis_server.url)
    dead.join("node", "dead", lease_s=30)
    broker.send([message("a")])
    assert names(dead.receive(["q"], max_messages=1, wait_s=0)) == {"a"}
    redis_server.config_set("maxmemory", 1)
    assert broker.recover_consumer("dead") == 1
    assert broker.recover_expired() == 0
    assert names(broker.receive(["q"], max_messages=1, wait_s=0)) == {"a"}


def test_one_of_a_fleet_looks_after_the_ended_processes(open_broker, redis_server, redis):
    first, second = open_broker(redis_server.url), open_broker(redis_server.url)
    first.join("node", "ended", lease_s=30)
    first.send([message("a")])
    first.receive(["q"], max_messages=1, wait_s=0)
    assert second.recover_consumer("ended") == 1
    redis.lpush("umbel:{q}:claimed:ended", b"{}")
    assert second.recover_expired() == 1
    redis.lpush("umbel:{q}:claimed:ended", b"{}")
    assert first.recover_expired() == 0
    redis.delete("umbel:looked")
    assert open_broker(redis_server.url).recover_expired() == 1
