"""One handle used from several sides: threads, sets of queues, forks, lost connections."""

from __future__ import annotations

import os
import threading
import time
from collections import Counter
from contextlib import suppress

import msgspec
import pytest
from project import wait_for
from server_process import free_port

from umbel.errors import BrokerUnavailableError
from umbel.messages import Message
from umbel_testing.kit import Running


def message(name, queue="q"):
    # The most urgent one is in the list that is called as the queue is.
    return Message(id=name, task="t", queue=queue, headers={}, body=b"[]", priority=9)


def names(deliveries):
    return [each.message.id for each in deliveries]


@pytest.fixture
def redis(redis_server):
    with redis_server.client() as client:
        yield client


def test_a_thread_that_looks_takes_nothing_from_one_that_waits(broker, open_broker, redis_server):
    sender = open_broker(redis_server.url)
    got, stopping = Counter(), threading.Event()

    def take(wait_s):
        found = []
        while not stopping.is_set():
            deliveries = broker.receive(["q"], max_messages=1, wait_s=wait_s)
            found += names(deliveries)
            broker.ack(deliveries)
        return found

    running = [Running(lambda: take(1.5)), Running(lambda: take(0))]
    for number in range(200):
        sender.send([message(str(number))])
    wait_for(lambda: broker.stats("q").ready + broker.stats("q").held == 0, 20)
    stopping.set()
    broker.interrupt()
    for each in running:
        got.update(each.result(10))
    assert set(got) == set(map(str, range(200)))
    assert set(got.values()) == {1}


def test_looking_at_another_queue_does_not_forget_what_was_delivered(broker, receiving, redis):
    running = receiving(broker, "q")
    broker.send([message("a")])
    [delivery] = running.result(10)
    assert broker.receive(["other"], max_messages=10, wait_s=0) == []
    assert broker.receive(["q"], max_messages=10, wait_s=0) == []
    assert broker.ack([delivery]) == []


def test_what_is_claimed_of_a_queue_that_is_not_asked_for_any_more_is_given_back(
    broker, open_broker, redis_server, monkeypatch
):
    monkeypatch.setattr("umbel_broker_redis.lingering.LINGER_S", 3600.0)
    sender = open_broker(redis_server.url)
    monkeypatch.setattr("umbel_broker_redis.waiting._LONG_S", 0.0)
    assert broker.receive(["a", "b"], max_messages=1, wait_s=0.2) == []
    sender.send([message("b", "b")])  # claimed in a wait that goes on
    assert broker.stats("b").held == 1
    sender.send([message("a", "a")])
    assert names(broker.receive(["a"], max_messages=1, wait_s=10)) == ["a"]
    assert broker.stats("b").ready == 1


def test_what_comes_over_a_lost_connection_goes_to_others_while_its_consumer_is_busy(
    broker, open_broker, redis_server, redis
):
    other = open_broker(redis_server.url)
    running = Running(lambda: broker.receive(["a", "b"], max_messages=1, wait_s=60))
    wait_for(lambda: sum(each["cmd"] == "blmove" for each in redis.client_list()) == 8, 10)
    links = {(link.lane.queue, link.lane.step): link for link in broker._watch._lines.waiting()}
    # Redis is never told of the end of one connection; another one is told of.
    left_open = os.dup(links["a", 0].connection.fileno())
    try:
        redis.client_kill_filter(_id=links["b", 0].id)
        with pytest.raises(BrokerUnavailableError):
            running.result(10)
        other.send([message("first", "b")])
        assert names(broker.receive(["a", "b"], max_messages=1, wait_s=10)) == ["first"]
        wait_for(lambda: time.monotonic() > broker._watch._lingering.since + 0.1, 10)
        other.send([message("late", "a")])
        assert names(other.receive(["a"], max_messages=1, wait_s=15)) == ["late"]
    finally:
        os.close(left_open)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="forks")
def test_a_handle_can_be_closed_in_a_child_that_was_forked_while_a_thread_waits(broker, receiving):
    running = receiving(broker, "q")
    pid = os.fork()
    if not pid:
        code = 1
        with suppress(BaseException):
            broker.close()
            code = 0
        os._exit(code)
    ended = Running(lambda: os.waitpid(pid, 0)[1])
    try:
        assert ended.result(10) == 0
    except AssertionError:
        os.kill(pid, 9)
        raise
    broker.send([message("a")])
    assert names(running.result(10)) == ["a"]


def test_what_an_outage_leaves_in_doubt_takes_little_memory(open_broker):
    broker = open_broker(f"redis://127.0.0.1:{free_port()}/0")
    large = Message(id="a", task="t", queue="q", headers={}, body=b"x" * 3_000_000)
    for number in range(12):
        with pytest.raises(BrokerUnavailableError):
            broker.send([msgspec.structs.replace(large, id=str(number))])
    kept = broker._sender._doubted.values()
    assert 4_000_000 <= sum(len(envelope) for envelope, _ in kept) <= 32 << 20


def test_what_was_settled_is_not_remembered(broker, receiving):
    for number in range(3):
        running = receiving(broker, "q")
        broker.send([message(str(number))])
        assert broker.ack(running.result(10)) == []
        assert not broker._taken.all_delivered()
