"""Delayed messages: many of one time, those of Celery, those that were sent once."""

from __future__ import annotations

import json

from umbel.messages import OnConflict
from umbel_testing.samples import message

WEEK_S = 604_800.0


def test_each_of_many_of_one_time_can_be_named(broker):
    due_at = broker._clock.time() + WEEK_S
    broker.send([message("many", due_at=due_at) for _ in range(350)])
    listed = broker.delayed("many", limit=1000)
    assert len({one.receipt for one in listed}) == 350
    chosen = [listed[n] for n in (0, 5, 99, 100, 250, 349)]

    assert broker.drop_delayed([one.receipt for one in chosen[:3]]) == 3
    assert broker.promote([one.receipt for one in chosen]) == 3
    taken = broker.receive(["many"], max_messages=10, wait_s=0)
    expected = {one.message.id for one in chosen[3:]}
    assert {delivery.message.id for delivery in taken} == expected
    assert broker.promote([one.receipt for one in listed]) == 344


def test_what_celery_sent_with_an_eta_loses_it_when_it_is_promoted(broker, redis_server):
    headers = {"id": "1", "task": "a", "eta": "2999-01-01T00:00:00+00:00", "x": [1, None, "é"]}
    properties = {"priority": 0, "odd": 1, "body_encoding": "base64"}
    envelope = {"body": "W10=", "headers": headers, "properties": properties}
    with redis_server.client() as client:
        client.lpush("foreign", json.dumps(envelope))
    broker.nack(broker.receive(["foreign"], max_messages=1, wait_s=0), delay_s=WEEK_S)
    [delayed] = broker.delayed("foreign")
    assert broker.promote([delayed.receipt]) == 1

    [delivery] = broker.receive(["foreign"], max_messages=1, wait_s=0)
    assert delivery.message.headers == {**headers, "eta": None}
    assert delivery.message.properties == {"odd": 1}
    assert (delivery.message.body, delivery.token) == (b"[]", 2)


def test_what_umbel_sent_keeps_its_headers_when_it_is_promoted(broker):
    due_at = broker._clock.time() + WEEK_S
    headers = {"id": "1", "task": "a", "eta": "2999-01-01T00:00:00+00:00"}
    broker.send([message("ours", id="1", headers=headers, due_at=due_at)])
    [delayed] = broker.delayed("ours")
    broker.promote([delayed.receipt])

    [delivery] = broker.receive(["ours"], max_messages=1, wait_s=0)
    assert delivery.message == delayed.message


def test_promoted_message_can_be_replaced_while_it_waits(open_broker, redis_both):
    broker = open_broker(redis_both.url)
    original = message("once", due_at=broker._clock.time() + WEEK_S)
    broker.send_once([original])
    broker.promote([one.receipt for one in broker.delayed("once")])
    new = message("once", id=original.id, body=b"[[4], {}, {}]")

    assert list(broker.send_once([new], on_conflict=OnConflict.REPLACE)) == [original.id]
    [delivery] = broker.receive(["once"], max_messages=5, wait_s=0)
    assert delivery.message.body == new.body


def test_receipt_of_what_was_put_off_again_names_nothing(broker):
    broker.send([message("again", due_at=broker._clock.time() + WEEK_S)])
    [delayed] = broker.delayed("again")
    broker.promote([delayed.receipt])
    broker.nack(broker.receive(["again"], max_messages=1, wait_s=0), delay_s=WEEK_S)

    assert broker.promote([delayed.receipt]) == 0
    assert broker.drop_delayed([delayed.receipt]) == 0
    assert broker.drop_delayed([one.receipt for one in broker.delayed("again")]) == 1
