"""Dead letters: many of them, in several lanes and queues; unreadable ones; replays in a Cluster."""

from __future__ import annotations

import pytest

from umbel import Umbel
from umbel.errors import BrokerError, DeadLetterError
from umbel.messages import Burial, DeathKind, Malformed
from umbel_testing.samples import message

RAW = b'\xff\x00 not JSON \n\n{"umbel'
PRIORITIES = (0, 3, 6, 9)


def bury_one(broker, queue, **changes):
    """Bury a message; return its letter."""
    broker.send([message(queue, **changes)])
    broker.bury(
        [Burial(each, "of the test") for each in broker.receive([queue], max_messages=1, wait_s=0)]
    )
    return broker.dead_letters(queue, limit=1)[0]


def test_many_letters_of_several_lanes_come_newest_first_in_pages(broker):
    queues = ["first", "second"]
    broker.send([message(queues[n % 2], priority=PRIORITIES[n % 4]) for n in range(600)])
    held = []
    while taken := broker.receive(queues, max_messages=200, wait_s=0):
        held += taken
    held.sort(key=lambda delivery: delivery.message.id[::-1])  # through all lanes
    for number, delivery in enumerate(held):
        broker.bury([Burial(delivery, str(number))])

    pages = [broker.dead_letters(limit=97, offset=offset) for offset in range(0, 700, 97)]
    reasons = [int(letter.reason) for page in pages for letter in page]
    assert reasons == list(range(599, -1, -1))
    of_one = [int(letter.reason) for letter in broker.dead_letters("first", limit=1000)]
    assert of_one == [n for n in reasons if held[n].queue == "first"]
    assert broker.drop_dead([letter.receipt for page in pages for letter in page]) == 600
    assert list(broker.dead_letters()) == []


def test_letters_that_are_buried_together_come_in_one_order(broker):
    broker.send([message("dead") for _ in range(250)])
    held = broker.receive(["dead"], max_messages=250, wait_s=0)
    broker.bury([Burial(delivery, str(n)) for n, delivery in enumerate(held)])

    pages = [broker.dead_letters("dead", limit=30, offset=offset) for offset in range(0, 250, 30)]
    reasons = [int(letter.reason) for page in pages for letter in page]
    assert reasons == list(range(249, -1, -1))


def test_what_is_no_envelope_is_kept_byte_by_byte_and_not_replayed(broker, redis_server):
    with redis_server.client() as client:
        client.lpush("dead", RAW)
    broker.nack(broker.receive(["dead"], max_messages=1, wait_s=0))
    [delivery] = broker.receive(["dead"], max_messages=1, wait_s=0)
    broker.bury([Burial(delivery, "can't be read")])

    [letter] = broker.dead_letters("dead")
    assert isinstance(letter.message, Malformed)
    assert (letter.message.raw, letter.reason) == (RAW, "can't be read")
    app = Umbel("dead", broker=redis_server.url, result_backend="memory://")
    with app, pytest.raises(DeadLetterError, match="can't be replayed"):
        app.dead_letters.replay(letter.receipt)
    assert list(broker.dead_letters("dead")) == [letter]


@pytest.mark.parametrize("raw", [b"{", b"{}", b"", b'{"umbel":"1:2:zz",}', b'{"umbel":"1:0:",x'])
def test_damaged_entries_come_back_as_they_were(broker, redis_server, raw):
    with redis_server.client() as client:
        client.lpush("dead", raw)
    for _ in range(2):
        broker.nack(broker.receive(["dead"], max_messages=1, wait_s=0))
    held = broker.receive(["dead"], max_messages=1, wait_s=0)
    broker.bury([Burial(each, "damaged") for each in held])

    [letter] = broker.dead_letters("dead")
    assert isinstance(letter.message, Malformed)
    assert broker.drop_dead([letter.receipt]) == 1


def test_equal_bytes_that_were_claimed_in_turn_are_letters_of_their_own(
    broker, redis_server, receiving
):
    for number in range(2):
        waiting = receiving(broker, "dead")
        with redis_server.client() as client:
            client.lpush("dead", RAW)
        [delivery] = waiting.result(10.0)
        broker.bury([Burial(delivery, str(number))])

    letters = broker.dead_letters("dead")
    assert [letter.reason for letter in letters] == ["1", "0"]
    assert broker.drop_dead([letters[1].receipt]) == 1
    assert list(broker.dead_letters("dead")) == letters[:1]


def test_reasons_and_details_keep_what_no_utf8_has(broker):
    broker.send([message("dead")])
    odd = {"name": "file-\udcff", "of": [1, None, {"é": "\ud800"}]}
    reason = "lone \ud800 surrogate\nand a second line"
    held = broker.receive(["dead"], max_messages=1, wait_s=0)
    broker.bury([Burial(held[0], reason, DeathKind.REJECTED, odd)])

    [letter] = broker.dead_letters("dead")
    assert (letter.reason, letter.kind, letter.details) == (reason, "rejected", odd)


def test_details_that_are_no_json_bury_nothing(broker):
    broker.send([message("dead"), message("dead")])
    first, second = broker.receive(["dead"], max_messages=2, wait_s=0)
    with pytest.raises(BrokerError, match="can't be stored as JSON"):
        broker.bury([Burial(first, "fine"), Burial(second, "not", details={"x": object()})])

    assert list(broker.dead_letters("dead")) == []
    assert list(broker.ack([first, second])) == []


def test_record_that_was_damaged_is_shown_as_such(broker, redis_server):
    letter = bury_one(broker, "dead")
    lane = broker._keys.lane("dead", 9)
    with redis_server.client() as client:
        client.hset(lane.dead_records, letter.receipt.split("/")[1], b"junk")

    [damaged] = broker.dead_letters("dead")
    assert damaged.reason == "its record is damaged"
    assert broker.drop_dead([damaged.receipt]) == 1


def test_replay_for_later_wakes_who_waits_for_it(open_broker, redis_both, receiving):
    broker = open_broker(redis_both.url)
    letter = bury_one(broker, "dead")
    waiting = receiving(open_broker(redis_both.url), "after")
    again = message("after", due_at=broker._clock.time() + 0.3)

    assert list(broker.replay([(letter.receipt, again)])) == []
    [delivery] = waiting.result(10.0)
    assert delivery.message.id == again.id


def test_letter_that_is_named_twice_is_replayed_once(open_broker, redis_both):
    broker = open_broker(redis_both.url)
    letter = bury_one(broker, "dead")
    first, second = message("after"), message("after")

    assert list(broker.replay([(letter.receipt, first), (letter.receipt, second)])) == []
    taken = broker.receive(["after"], max_messages=5, wait_s=0)
    assert [delivery.message.id for delivery in taken] == [first.id]


def test_cluster_recognises_a_replay_that_was_cut_off_after_its_sending(open_broker, redis_cluster):
    broker = open_broker(redis_cluster.url)
    letter, again = bury_one(broker, "dead"), message("after")
    target = broker._keys.lane("after", 9)
    redis_cluster.run(target.ready, "SET", f"{target.own}replayed:{letter.receipt}", "1")

    assert list(broker.replay([(letter.receipt, again)])) == []
    assert list(broker.receive(["after"], max_messages=1, wait_s=0)) == []
    assert list(broker.dead_letters("dead")) == []


def test_cluster_leaves_a_letter_to_the_one_who_claimed_it(open_broker, redis_cluster):
    broker = open_broker(redis_cluster.url)
    letter = bury_one(broker, "dead")
    lane = broker._keys.lane("dead", 9)
    claim = f"{lane.own}replaying:{letter.receipt.split('/')[1]}"
    redis_cluster.run(lane.ready, "SET", claim, "1", "PX", 60_000)

    assert list(broker.replay([(letter.receipt, message("after"))])) == [letter.receipt]
    assert list(broker.dead_letters("dead")) == [letter]
    redis_cluster.run(lane.ready, "DEL", claim)
    assert list(broker.replay([(letter.receipt, message("after"))])) == []


def test_refused_replay_leaves_the_letter_to_the_next_one(open_broker, redis_both):
    broker = open_broker(redis_both.url)
    letter, again = bury_one(broker, "dead"), message("after")
    target = broker._keys.lane("after", 9)
    broker._client.call(target.ready, "SET", target.ready, "no list")
    with pytest.raises(BrokerError):
        broker.replay([(letter.receipt, again)])
    broker._client.call(target.ready, "DEL", target.ready)

    assert list(broker.dead_letters("dead")) == [letter]
    assert list(broker.replay([(letter.receipt, again)])) == []
    [delivery] = broker.receive(["after"], max_messages=1, wait_s=0)
    assert delivery.message.id == again.id
