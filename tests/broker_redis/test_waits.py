"""Waiting in Redis while connections, nodes and threads get in each other's way."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from cutting_proxy import CuttingProxy
from project import wait_for
from tcp_proxy import TcpProxy

from umbel.errors import BrokerUnavailableError
from umbel.messages import Message
from umbel_broker_redis import lingering as linger
from umbel_testing.kit import Running


def message(queue, name="x"):
    return Message(id=name, task="t", body=b"[[], {}, {}]", queue=queue, headers={"id": name})


def waiting_in(server, count):
    """Wait until so many connections wait for messages."""
    wait_for(lambda: server.info("clients")["blocked_clients"] == count)


def started(work):
    """Do `work` in another thread; return once that runs."""
    running = Running(work)
    running.goes_on()
    return running


@pytest.fixture
def lingering(monkeypatch):
    """Let other lanes wait for long while a consumer is away with a message."""
    monkeypatch.setattr(linger, "LINGER_S", 2.0)


def test_a_waiting_connection_that_only_redis_has_lost_is_found_dead(redis_server, open_broker):
    with CuttingProxy(redis_server.port) as proxy:
        broker = open_broker(redis_server.url_of(0, proxy.port))
        receiving = started(lambda: broker.receive(["q"], max_messages=1, wait_s=60))
        waiting_in(redis_server, 4)
        with redis_server.client() as client:
            ports = [each["addr"] for each in client.client_list() if each["cmd"] == "blmove"]
        proxy.forget(int(ports[0].rpartition(":")[2]))
        waiting_in(redis_server, 3)
        broker.interrupt()
        with pytest.raises(BrokerUnavailableError, match="no answer in time"):
            receiving.result(30)
        broker.close()


def test_what_a_consumer_has_not_read_yet_is_not_told_as_held(
    redis_server, broker, lingering, open_broker
):
    broker.join("n", "n/1", lease_s=60)
    receiving = started(lambda: broker.receive(["a", "b"], max_messages=1, wait_s=60))
    waiting_in(redis_server, 8)
    other = open_broker(redis_server.url)
    other.send([message("b", "0")])
    (touching,) = receiving.result(30)
    broker.ack([touching])
    receiving = started(lambda: broker.receive(["a", "b"], max_messages=1, wait_s=60))
    waiting_in(redis_server, 8)
    other.send([message("a", "1")])
    (first,) = receiving.result(30)

    other.send([message("b", "2")])
    wait_for(lambda: other.stats("b").held == 1)
    assert [each.receipt for each in broker.held("n/1")] == [first.receipt]
    broker.nack([first])
    ran = []
    while got := broker.receive(["a", "b"], max_messages=1, wait_s=0.2):
        ran += [each.message.id for each in got]
    assert sorted(ran) == ["1", "2"]


def test_two_threads_that_ask_at_once_are_both_told_what_is_held(broker, monkeypatch):
    broker.send([message("q")])
    (held,) = broker.receive(["q"], max_messages=1, wait_s=0)
    both, ask = threading.Barrier(2), broker._leases.held_of

    def together(*args):
        both.wait(30)
        return ask(*args)

    monkeypatch.setattr(broker._leases, "held_of", together)
    with ThreadPoolExecutor(2) as threads:
        asked = [threads.submit(broker.held, broker._consumer) for _ in range(2)]
        assert [[each.receipt for each in one.result(30)] for one in asked] == [[held.receipt]] * 2


def test_what_was_claimed_in_an_outage_goes_to_others_though_its_claimer_is_away(
    redis_server, open_broker, monkeypatch
):
    monkeypatch.setattr(linger, "LINGER_S", 0.5)
    proxy = TcpProxy(redis_server.port)
    try:
        away = open_broker(redis_server.url_of(0, proxy.port))
        other = open_broker(redis_server.url)
        receiving = started(lambda: away.receive(["a", "b"], max_messages=1, wait_s=60))
        waiting_in(redis_server, 8)
        other.send([message("a", "1")])
        receiving.result(30)
        other.send([message("b", "2")])
        with proxy.broken(TcpProxy.refuse):
            wait_for(lambda: away._watch.is_unsure)
            assert other.stats("b").held == 1
        (got,) = other.receive(["b"], max_messages=1, wait_s=30)
        assert got.message.id == "2"
        away.close()
    finally:
        proxy.close()


def test_a_wait_goes_on_where_its_slot_has_gone_to(redis_cluster, open_broker):
    broker, sender = open_broker(redis_cluster.url), open_broker(redis_cluster.url)
    received = []
    ended = threading.Event()

    def receive():
        while not ended.is_set():
            received.extend(broker.receive(["q"], max_messages=1, wait_s=1.0))

    receiving = started(receive)
    wait_for(lambda: redis_cluster.run("q", "CLIENT", "LIST").count(b"cmd=blmove"))
    target = next(n for n in redis_cluster.nodes if n is not redis_cluster.node_of("q"))
    redis_cluster.move("q", target)
    sender.send([message("q", "moved")])
    wait_for(lambda: received)
    ended.set()
    receiving.result(30)
    assert [each.message.id for each in received] == ["moved"]
