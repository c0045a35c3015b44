"""A pause outlives the server, and a call that was cut off can be repeated."""

from __future__ import annotations

from umbel_testing.samples import message


def test_pause_outlives_a_restart_of_the_server(open_broker, redis_aof):
    broker = open_broker(redis_aof.url)
    broker.send([message("paused", priority=priority) for priority in (0, 3, 6, 9)])
    broker.pause("paused")
    redis_aof.restart()
    again = open_broker(redis_aof.url)

    assert list(again.paused()) == ["paused"]
    assert list(again.receive(["paused"], max_messages=9, wait_s=0)) == []
    again.resume("paused")
    assert len(again.receive(["paused"], max_messages=9, wait_s=0)) == 4


def test_pause_that_was_cut_off_is_shown_and_can_be_repeated(broker, redis_server):
    broker.pause("paused")
    with redis_server.client() as client:  # as if it had ended before the last lane's turn
        client.delete(broker._keys.lane("paused", 9).paused)
    broker.send([message("paused")])
    assert list(broker.paused()) == ["paused"]
    broker.pause("paused")

    assert list(broker.receive(["paused"], max_messages=1, wait_s=0)) == []


def test_resume_that_was_cut_off_is_shown_and_can_be_repeated(broker, redis_server):
    broker.pause("paused")
    with redis_server.client() as client:
        client.delete(broker._keys.lane("paused", 0).paused)
    broker.send([message("paused")])
    assert list(broker.paused()) == ["paused"]
    broker.resume("paused")

    assert list(broker.paused()) == []
    assert len(broker.receive(["paused"], max_messages=1, wait_s=0)) == 1
