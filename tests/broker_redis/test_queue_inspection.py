"""Looking into queues that others use too, and emptying large ones."""

from __future__ import annotations

import json

from umbel.messages import Malformed
from umbel_broker_redis.keys import SEPARATOR
from umbel_broker_redis.receipts import read_receipt
from umbel_testing.samples import message

WEEK_S = 604_800.0
RAW = b'\xff\x00 not JSON \n\n{"umbel'


def calls_of(server, command):
    return server.info("commandstats").get(f"cmdstat_{command}", {}).get("calls", 0)


def test_large_queue_is_purged_in_chunks(broker, redis_server):
    broker.send([message("large", priority=3, due_at=broker._clock.time() + WEEK_S)])
    with redis_server.client() as client:
        for _ in range(20):
            client.rpush("large", *[b'{"headers": {}, "body": "%04d"}' % n for n in range(10_000)])
    before = calls_of(redis_server, "evalsha")

    assert broker.stats("large").ready == 200_000
    assert broker.purge("large") == 200_001
    assert broker.stats("large").ready == broker.stats("large").delayed == 0
    assert calls_of(redis_server, "evalsha") - before >= 100


def test_purge_takes_little_at_once_where_messages_are_large(broker, redis_server):
    with redis_server.client() as client:
        client.rpush("large", *[b"x" * 1_000_000] * 20)
    before = calls_of(redis_server, "evalsha")

    assert broker.purge("large") == 20
    assert calls_of(redis_server, "evalsha") - before >= 4


def test_what_was_purged_can_be_sent_once_again(open_broker, redis_both):
    broker = open_broker(redis_both.url)
    original = message("once", id="ümläut:{}")
    later = message("once", due_at=broker._clock.time() + WEEK_S)
    broker.send_once([original, later])
    assert list(broker.send_once([original, later])) == [original.id, later.id]

    assert broker.purge("once") == 2
    assert list(broker.send_once([original, later])) == []


def test_queues_that_only_celery_has_bound_are_named(broker, redis_server):
    with redis_server.client() as client:
        for exchange, queue in (
            ("media", "media"),
            ("media", "video"),
            ("celery.pidbox", "w1@host.celery.pidbox"),
            ("reply.celery.pidbox", "0b3c.reply.celery.pidbox"),
            ("celeryev", "celeryev.da34"),
        ):
            client.sadd(f"_kombu.binding.{exchange}", f"key{SEPARATOR}{SEPARATOR}{queue}")
        client.set("_kombu.binding.no-set", "?")
    broker.send([message("ours")])

    assert list(broker.queues()) == ["media", "ours", "video"]


def test_message_of_a_foreign_sender_is_counted_without_an_age(broker, redis_server):
    envelope = {"body": "W10=", "headers": {"id": "1", "task": "a"}, "properties": {}}
    with redis_server.client() as client:
        client.lpush(f"foreign{SEPARATOR}3", json.dumps(envelope))

    stats = broker.stats("foreign")
    assert (stats.ready, stats.oldest_age_s) == (1, None)
    [seen] = broker.peek("foreign")
    assert (seen.id, seen.task) == ("1", "a")


def test_age_of_what_was_delayed_counts_from_its_time(virtual):
    broker, clock = virtual
    broker.send([message("aged", due_at=clock.time() + WEEK_S)])
    clock.advance(WEEK_S + 5)
    assert broker.stats("aged").oldest_age_s == 5.0

    [delivery] = broker.receive(["aged"], max_messages=1, wait_s=0)
    broker.nack([delivery])
    clock.advance(2)
    assert broker.stats("aged").oldest_age_s == 7.0


def test_peek_shows_what_is_due_in_the_order_in_which_it_will_come(virtual):
    broker, clock = virtual
    given_back = [message("due", priority=3) for _ in range(3)]
    broker.send(given_back)
    broker.nack(broker.receive(["due"], max_messages=3, wait_s=0), delay_s=10)
    due = [message("due", priority=3, due_at=clock.time() + n) for n in (2, 1)]
    ready = [message("due", priority=priority) for priority in (3, 9, 3)]
    later = message("due", priority=9, due_at=clock.time() + WEEK_S)
    broker.send([*due, *ready, later])
    clock.advance(20)

    whole = broker.peek("due", limit=20)
    pages = [broker.peek("due", limit=2, offset=offset) for offset in range(0, 10, 2)]
    assert [one for page in pages for one in page] == list(whole)
    taken = broker.receive(["due"], max_messages=20, wait_s=0)
    assert [*(delivery.message for delivery in taken), later] == list(whole)


def test_what_is_no_envelope_is_peeked_as_it_is(broker, redis_server):
    with redis_server.client() as client:
        client.lpush("broken", RAW)

    [seen] = broker.peek("broken")
    assert isinstance(seen, Malformed)
    assert seen.raw == RAW
    assert broker.stats("broken").ready == 1


def test_what_is_claimed_counts_as_held(broker, redis_server):
    broker.send([message("claimed")])
    [delivery] = broker.receive(["claimed"], max_messages=1, wait_s=0)
    consumer = read_receipt(delivery.receipt).consumer
    lane = broker._keys.lane("claimed", 9)
    with redis_server.client() as client:
        client.lpush(lane.claimed(consumer), b"{}")

    assert broker.stats("claimed").held == 2


def test_prefixes_keep_everything_apart(open_broker, redis_server):
    ours = open_broker(redis_server.url, global_keyprefix="a[1]*:")
    theirs = open_broker(redis_server.url, global_keyprefix="b:")
    with redis_server.client() as client:
        for prefix in ("a[1]*:", "a1:", "b:"):
            member = f"key{SEPARATOR}{SEPARATOR}bound-by-{prefix[0:2]}"
            client.sadd(f"{prefix}_kombu.binding.media", member)
    later = ours._clock.time() + WEEK_S
    ours.send([message("same"), message("same", due_at=later)])
    ours.pause("other")

    assert list(ours.queues()) == ["bound-by-a[", "same"]
    assert list(theirs.queues()) == ["bound-by-b:"]
    assert (ours.stats("same").ready, theirs.stats("same").ready) == (1, 0)
    assert (len(ours.delayed()), len(theirs.delayed())) == (1, 0)
    assert (list(ours.paused()), list(theirs.paused())) == (["other"], [])
    assert theirs.purge("same") == 0
    assert ours.purge("same") == 2


def test_queues_of_one_hash_tag_are_kept_apart(open_broker, redis_both):
    broker = open_broker(redis_both.url)
    later = broker._clock.time() + WEEK_S
    names = ["{shop}.mail", "{shop}.news"]
    broker.send([message(name, due_at=later, priority=9 * n) for n, name in enumerate(names)])
    broker.pause(names[1])
    for name in names:
        [delayed] = broker.delayed(name)
        assert delayed.queue == delayed.message.queue == name
        assert broker.promote([delayed.receipt]) == 1

    [delivery] = broker.receive(names, max_messages=5, wait_s=0)
    assert delivery.queue == names[0]
    assert [broker.stats(name).held for name in names] == [1, 0]
