"""Whose numbers go onto the wire: umbel's, the higher first, or Celery's, 0 first."""

from __future__ import annotations

import json

import pytest

from umbel.errors import ConfigError
from umbel_broker_redis.keys import SEPARATOR
from umbel_testing.samples import message


def received(broker, queue):
    return [each.message.priority for each in broker.receive([queue], max_messages=9, wait_s=0)]


def test_higher_goes_first_and_lies_in_celerys_first_list(broker, redis_server):
    broker.send([message("queue", priority=priority) for priority in (0, 9, 5)])

    assert redis_server.run("LLEN", "queue") == 1
    assert redis_server.run("LLEN", f"queue{SEPARATOR}3") == 1
    assert redis_server.run("LLEN", f"queue{SEPARATOR}9") == 1
    assert received(broker, "queue") == [9, 5, 0]


@pytest.mark.parametrize("place", ["options", "url"])
def test_fleet_may_keep_celerys_numbers(open_broker, redis_server, place):
    if place == "url":
        broker = open_broker(f"{redis_server.url}?priority_order=celery")
    else:
        broker = open_broker(redis_server.url, priority_order="celery")
    broker.send([message("queue", priority=priority) for priority in (5, 9, 0)])

    assert redis_server.run("LLEN", "queue") == 1
    assert received(broker, "queue") == [0, 5, 9]


def test_what_celery_sent_goes_in_celerys_order_under_both(open_broker, redis_server):
    for options in ({}, {"priority_order": "celery"}):
        with redis_server.client() as client:
            for step in (9, 0, 3):
                envelope = {"body": "", "headers": {"id": str(step)}}
                envelope["properties"] = {"priority": step}
                name = f"queue{SEPARATOR}{step}" if step else "queue"
                client.lpush(name, json.dumps(envelope))
        taken = open_broker(redis_server.url, **options).receive(
            ["queue"], max_messages=9, wait_s=0
        )
        assert [each.message.headers["id"] for each in taken] == ["0", "3", "9"]


def test_unknown_order_is_refused(open_broker):
    with pytest.raises(ConfigError, match="priority_order='reverse'"):
        open_broker("redis://127.0.0.1:1/0", priority_order="reverse")
