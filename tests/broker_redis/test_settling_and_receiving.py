"""Settling a batch and taking the next one in one exchange with Redis."""

from __future__ import annotations

import time
from collections.abc import Callable

import msgspec
import pytest
from cutting_proxy import CuttingProxy
from project import wait_for

from umbel.errors import BrokerError, BrokerUnavailableError
from umbel.messages import Message
from umbel_broker_redis import lingering
from umbel_testing.kit import Running


def message(name, queue="q"):
    return Message(id=name, task="t", body=b"[[], {}, {}]", queue=queue, headers={"id": name})


def names(deliveries):
    return [each.message.id for each in deliveries]


def one_held(broker, queue="q"):
    """Return a delivery of a message sent to an empty queue."""
    broker.send([message("a", queue)])
    return broker.receive([queue], max_messages=1, wait_s=0)


@pytest.fixture
def reads(redis_server, open_broker):
    """Return a function that tells how often the server reads something while work is done."""
    warm = open_broker(redis_server.url)  # so that the server knows the scripts
    warm.send([message("warm", "warm")])
    warm.ack(warm.receive(["warm"], max_messages=1, wait_s=0))
    with redis_server.client() as client:

        def count(work: Callable[[], object]) -> int:
            before = client.info("stats")["total_reads_processed"]
            work()
            return client.info("stats")["total_reads_processed"] - before - 1

        yield count


def waits_of(server) -> int:
    return int(server.info("clients")["blocked_clients"])


@pytest.fixture
def stays(monkeypatch):
    """Let other lanes wait for as long as it takes while a consumer is away with a message."""
    monkeypatch.setattr(lingering, "LINGER_S", 3600.0)


@pytest.fixture
def alone(redis_server, open_broker, stays):
    """Return a function: a broker through a port that has received one message by waiting."""

    def make(port):
        broker = open_broker(redis_server.url_of(0, port))
        broker.join("n", "n/1", lease_s=60)
        running = Running(lambda: broker.receive(["q"], max_messages=10, wait_s=60))
        wait_for(lambda: waits_of(redis_server) == 4)
        open_broker(redis_server.url).send([message("first")])
        return broker, running.result(30)

    return make


def test_a_batch_is_settled_and_the_next_one_taken_in_one_exchange(broker, reads):
    broker.send([message(str(number)) for number in range(5)])
    first = broker.receive(["q"], max_messages=2, wait_s=0)
    taken = []

    def both():
        taken.append(broker.settle_and_receive(first, [], ["q"], max_messages=2))

    assert reads(both) == 1
    [(lost, second)] = taken
    assert (lost, names(second)) == ([], ["2", "3"])
    assert broker.ack(second) == []
    assert names(broker.receive(["q"], max_messages=10, wait_s=0)) == ["4"]


def test_one_who_gets_messages_one_by_one_settles_and_waits_again_in_one_exchange(
    redis_server, open_broker, alone, reads
):
    broker, first = alone(redis_server.port)
    settled = []

    def both():
        settled.append(broker.settle_and_receive(first, [], ["q"], max_messages=10))

    assert reads(both) == 1
    assert settled == [([], [])]
    wait_for(lambda: waits_of(redis_server) == 4)
    open_broker(redis_server.url).send([message("second")])
    assert names(broker.receive(["q"], max_messages=10, wait_s=60)) == ["second"]


def test_a_message_that_comes_together_with_the_answer_is_received_at_once(
    redis_server, open_broker, alone
):
    broker, held = alone(redis_server.port)
    other = open_broker(redis_server.url)
    began = time.monotonic()
    for number in range(20):
        other.send([message(str(number))])
        lost, taken = broker.settle_and_receive(held, [], ["q"], max_messages=10)
        held = taken or broker.receive(["q"], max_messages=10, wait_s=60)
        assert (lost, names(held)) == ([], [str(number)])
    assert time.monotonic() - began < 8.0  # not by the end of a wait in Redis


def test_who_settles_and_does_not_come_back_sits_on_nothing(redis_server, open_broker, alone):
    broker, first = alone(redis_server.port)
    lingering.LINGER_S = 0.005  # the fixture puts it back
    broker._watch._lingering.close()
    broker.settle_and_receive(first, [], ["q"], max_messages=10)
    wait_for(lambda: waits_of(redis_server) == 0)
    other = open_broker(redis_server.url)
    other.send([message("second")])
    assert names(other.receive(["q"], max_messages=10, wait_s=0)) == ["second"]


@pytest.mark.parametrize("kind", ["batch", "alone"])
def test_a_server_that_knows_no_scripts_settles_all_the_same(redis_server, broker, alone, kind):
    if kind == "alone":
        broker, held = alone(redis_server.port)
    else:
        broker.send([message("first")])
        held = broker.receive(["q"], max_messages=1, wait_s=0)
    with redis_server.client() as client:
        client.script_flush()
    assert list(broker.settle_and_receive(held, [], ["q"], max_messages=1)[0]) == []
    assert list(broker.ack(held)) == held


def test_while_another_thread_waits_it_settles_alone(redis_server, broker):
    broker.send([message("first")])
    held = broker.receive(["q"], max_messages=1, wait_s=0)
    waiting = Running(lambda: broker.receive(["q"], max_messages=1, wait_s=60))
    wait_for(lambda: waits_of(redis_server) == 4)
    assert broker.settle_and_receive(held, [], ["q"], max_messages=1) == ([], [])
    broker.send([message("second")])
    assert names(waiting.result(30)) == ["second"]
    assert list(broker.ack(held)) == held


@pytest.mark.parametrize("answered", [0, 3, 5, 40, 900])
def test_a_lost_answer_loses_and_strands_nothing_of_a_batch(redis_server, open_broker, answered):
    with CuttingProxy(redis_server.port) as proxy:
        broker = open_broker(redis_server.url_of(0, proxy.port))
        broker.join("n", "n/1", lease_s=60)
        broker.send([message(f"{number}" * 300) for number in range(4)])
        first = broker.receive(["q"], max_messages=2, wait_s=0)
        proxy.cut_after(answered=answered)
        with pytest.raises(BrokerUnavailableError):
            broker.settle_and_receive(first, [], ["q"], max_messages=2)

        strays = [each for each in broker.held("n/1") if each not in first]
        assert sorted(names(strays)) == ["2" * 300, "3" * 300]
        broker.nack(strays)
        assert list(broker.ack(first)) == first
        back = broker.receive(["q"], max_messages=9, wait_s=0)
        assert names(back) == ["2" * 300, "3" * 300]
        broker.close()


@pytest.mark.parametrize("sent", [0, 10, 200])
def test_a_request_that_is_cut_off_can_be_repeated(redis_server, open_broker, sent):
    with CuttingProxy(redis_server.port) as proxy:
        broker = open_broker(redis_server.url_of(0, proxy.port))
        broker.join("n", "n/1", lease_s=60)
        broker.send([message("0"), message("1")])
        first = broker.receive(["q"], max_messages=1, wait_s=0)
        proxy.cut_after(sent=sent)
        with pytest.raises(BrokerUnavailableError):
            broker.settle_and_receive(first, [], ["q"], max_messages=1)

        broker.ack(first)  # done, or not: a part of it was read, perhaps
        assert names(broker.held("n/1")) == []
        assert names(broker.receive(["q"], max_messages=9, wait_s=0)) == ["1"]
        broker.close()


def test_a_lost_answer_loses_nothing_that_comes_one_by_one(redis_server, open_broker, alone):
    with CuttingProxy(redis_server.port) as proxy:
        broker, first = alone(proxy.port)
        proxy.cut_after(answered=0)
        with pytest.raises(BrokerUnavailableError):
            broker.settle_and_receive(first, [], ["q"], max_messages=10)
        open_broker(redis_server.url).send([message("second")])
        got = []

        def received():
            broker.nack([each for each in broker.held("n/1") if each not in got])
            got.extend(broker.receive(["q"], max_messages=10, wait_s=0.2))
            return got

        wait_for(received)
        assert names(got) == ["second"]
        assert list(broker.ack([*first, *got])) == first
        broker.close()


def test_a_tasks_only_follow_up_is_taken_in_the_same_step(broker, redis_server, open_broker, reads):
    other = open_broker(redis_server.url)
    broker.join("n", "n/1", lease_s=60)
    other.join("m", "m/1", lease_s=60)
    broker.send([message("a"), message("warm", "warm")])
    warm = broker.receive(["warm"], max_messages=1, wait_s=0)  # so that the server knows the script
    _, warm = broker.settle_and_receive(warm, [message("w", "warm")], ["warm"], max_messages=1)
    broker.ack(warm)
    taken = broker.receive(["q"], max_messages=10, wait_s=0)
    waiting = Running(lambda: other.receive(["q"], max_messages=10, wait_s=60))
    wait_for(lambda: waits_of(redis_server) == 4)

    found = []
    told = reads(
        lambda: found.extend(
            broker.settle_and_receive(taken, [message("b")], ["q"], max_messages=10)
        )
    )

    lost, more = found
    assert (lost, names(more)) == ([], ["b"])
    assert told == 1
    assert broker.held("n/1") == more
    broker.settle(more, [message("c")])
    assert names(waiting.result(30)) == ["c"]


def test_what_waits_longer_goes_before_a_follow_up(broker):
    broker.send([message("a"), message("b")])
    taken = broker.receive(["q"], max_messages=1, wait_s=0)

    _, more = broker.settle_and_receive(taken, [message("c")], ["q"], max_messages=1)

    assert names(more) == ["b"]


def test_a_follow_up_that_is_known_is_not_sent_again(broker):
    broker.send([message("a"), message("b")])
    first, second = broker.receive(["q"], max_messages=2, wait_s=0)

    _, once = broker.settle_and_receive([first], [message("c")], ["q"], max_messages=5)
    _, again = broker.settle_and_receive([second], [message("c")], ["q"], max_messages=5)

    assert (names(once), again) == (["c"], [])


def test_a_server_that_knows_no_scripts_goes_on_with_a_follow_up(redis_server, broker):
    broker.send([message("a")])
    taken = broker.receive(["q"], max_messages=10, wait_s=0)
    with redis_server.client() as client:
        client.script_flush()

    lost, more = broker.settle_and_receive(taken, [message("b")], ["q"], max_messages=10)

    more = more or broker.receive(["q"], max_messages=10, wait_s=10)
    assert (lost, names(more)) == ([], ["b"])


@pytest.mark.parametrize("answered", [0, 3, 7])
def test_a_lost_answer_loses_and_doubles_no_follow_up(redis_server, open_broker, answered):
    warm = open_broker(redis_server.url)  # so that the server knows the script
    _, taken = warm.settle_and_receive(one_held(warm), [message("w")], ["q"], max_messages=1)
    warm.ack(taken)
    with CuttingProxy(redis_server.port) as proxy:
        broker = open_broker(redis_server.url_of(0, proxy.port))
        broker.join("n", "n/1", lease_s=60)
        broker.send([message("a")])
        taken = broker.receive(["q"], max_messages=10, wait_s=0)
        proxy.cut_after(answered=answered)
        with pytest.raises(BrokerUnavailableError):
            broker.settle_and_receive(taken, [message("b" * 300)], ["q"], max_messages=10)

        broker.settle(taken, [message("b" * 300)])
        assert names(broker.held("n/1")) == ["b" * 300]
        assert broker.stats("q").ready == 0
        broker.close()


def test_a_follow_up_that_was_taken_at_once_is_found_after_its_consumer_died(
    broker, redis_server, open_broker
):
    other = open_broker(redis_server.url)
    broker.join("n", "n/1", lease_s=60)
    other.join("m", "m/1", lease_s=60)
    _, taken = broker.settle_and_receive(one_held(broker), [message("b")], ["q"], max_messages=1)
    assert names(taken) == ["b"]

    assert other.recover_consumer("n/1") == 1
    (back,) = other.receive(["q"], max_messages=5, wait_s=0)
    assert (back.message.id, back.token) == ("b", 2)
    assert list(broker.ack(taken)) == taken


def test_a_follow_up_to_a_paused_queue_is_sent_and_not_taken(broker):
    held = one_held(broker)
    broker.pause("q")
    assert broker.settle_and_receive(held, [message("b")], ["q"], max_messages=1) == ([], [])
    broker.resume("q")
    assert names(broker.receive(["q"], max_messages=5, wait_s=0)) == ["b"]


def test_a_follow_up_to_a_queue_that_is_not_asked_for_is_only_sent(broker):
    held = one_held(broker)
    follow_ups = [message("b", "elsewhere")]
    assert broker.settle_and_receive(held, follow_ups, ["q"], max_messages=1) == ([], [])
    assert names(broker.receive(["elsewhere"], max_messages=5, wait_s=0)) == ["b"]


def test_a_follow_up_for_later_is_only_sent(broker):
    held = one_held(broker)
    later = msgspec.structs.replace(message("b"), due_at=time.time() + 3600)
    assert broker.settle_and_receive(held, [later], ["q"], max_messages=1) == ([], [])
    stats = broker.stats("q")
    assert (stats.ready, stats.delayed) == (0, 1)


def test_what_is_due_goes_before_a_follow_up_of_a_lower_priority(broker):
    held = one_held(broker)
    urgent = msgspec.structs.replace(message("urgent"), priority=9, due_at=time.time() + 0.05)
    broker.send([urgent])
    wait_for(lambda: time.time() > urgent.due_at)
    _, taken = broker.settle_and_receive(held, [message("b")], ["q"], max_messages=1)
    assert names(taken) == ["urgent"]
    _, taken = broker.settle_and_receive(taken, [message("c")], ["q"], max_messages=5)
    assert names(taken) == ["b", "c"]


def test_a_step_from_what_was_sent_once_keeps_that_known(broker):
    broker.once_window_s = 60
    assert broker.send_once([message("a")]) == []
    held = broker.receive(["q"], max_messages=1, wait_s=0)
    _, taken = broker.settle_and_receive(held, [message("b")], ["q"], max_messages=1)
    assert names(taken) == ["b"]
    assert broker.send_once([message("a")]) == ["a"]


def test_a_step_tells_which_of_several_were_lost(broker, redis_server, open_broker):
    broker.join("n", "n/1", lease_s=60)
    broker.send([message(str(number)) for number in range(3)])
    held = broker.receive(["q"], max_messages=3, wait_s=0)
    broker.nack(held[1:2])
    other = open_broker(redis_server.url)
    other.ack(other.receive(["q"], max_messages=1, wait_s=0))
    lost, _ = broker.settle_and_receive(held, [message("b")], ["q"], max_messages=5)
    assert names(lost) == ["1"]


def test_a_backlog_is_noticed_by_what_comes_with_the_answers(redis_server, open_broker, alone):
    broker, held = alone(redis_server.port)
    open_broker(redis_server.url).send([message(str(number)) for number in range(20)])
    sizes = []
    while sum(sizes) < 20:
        _, taken = broker.settle_and_receive(held, [], ["q"], max_messages=50)
        held = taken or broker.receive(["q"], max_messages=50, wait_s=60)
        sizes.append(len(held))
    assert len(sizes) < 6


@pytest.mark.parametrize("follow_up", [message("b", "r"), message("b")])
def test_a_follow_up_in_another_lane_that_was_taken_at_once_is_held(broker, follow_up):
    broker.join("n", "n/1", lease_s=60)
    broker.send([msgspec.structs.replace(message("a"), priority=9)])
    held = broker.receive(["q", "r"], max_messages=1, wait_s=0)
    _, taken = broker.settle_and_receive(held, [follow_up], ["q", "r"], max_messages=1)
    assert names(taken) == names(broker.held("n/1")) == ["b"]


@pytest.mark.parametrize("what", ["ready", "consumers", "pending"])
def test_a_follow_up_that_could_not_be_stored_is_sent_by_the_repeat(redis_server, broker, what):
    broker.join("n", "n/1", lease_s=60)
    held = one_held(broker)
    lane = broker._keys.lane("r", 9)
    key = {"ready": lane.ready, "consumers": lane.consumers, "pending": lane.pending("n/1")}[what]
    follow_up = message("b", "r")
    with redis_server.client() as client:
        if what == "ready":  # looked at, and so found not to be empty
            client.set(key, "not a list")
        else:
            client.set(key, "not a hash")
        with pytest.raises(BrokerError):
            broker.settle_and_receive(held, [follow_up], ["q", "r"], max_messages=1)
        client.delete(key)
    assert list(broker.settle(held, [follow_up])) == []
    assert names(broker.receive(["r"], max_messages=5, wait_s=0)) == ["b"]


def test_a_consumer_of_many_queues_takes_a_follow_up(broker):
    queues = ["q", *map(str, range(600))]
    broker.send([message("a")])
    held = broker.receive(queues, max_messages=1, wait_s=0)
    _, taken = broker.settle_and_receive(held, [message("b")], queues, max_messages=1)
    assert names(taken) == ["b"]


def test_a_step_that_may_take_nothing_takes_nothing(broker):
    held = one_held(broker)
    assert broker.settle_and_receive(held, [message("b")], ["q"], max_messages=0) == ([], ())
    assert names(broker.receive(["q"], max_messages=5, wait_s=0)) == ["b"]


@pytest.mark.parametrize("count", [1, 2, 30])
def test_whatever_follows_a_batch_is_settled_and_the_next_one_taken_in_one_exchange(
    broker, reads, count
):
    later = [
        msgspec.structs.replace(message(f"b{number}"), due_at=time.time() + 3600)
        for number in range(count + 1)
    ]
    broker.send([message(str(number)) for number in range(3)])
    first, *held = broker.receive(["q"], max_messages=2, wait_s=0)
    broker.settle([first], [later.pop()])  # so that it knows the queue
    taken = []

    def both():
        taken.append(broker.settle_and_receive(held, later, ["q"], max_messages=5))

    assert reads(both) == 1
    [(lost, more)] = taken
    assert (lost, names(more)) == ([], ["2"])
    assert broker.stats("q").delayed == count + 1
