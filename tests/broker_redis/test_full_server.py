"""A server without room takes no more messages, and gives out those that it has."""

from __future__ import annotations

from umbel_testing.samples import message


def test_a_consumer_that_comes_when_the_server_is_full_empties_its_queues(
    open_broker, redis_server
):
    open_broker(redis_server.url).send([message("full") for _ in range(3)])
    redis_server.config_set("maxmemory", 1)
    late = open_broker(redis_server.url)

    late.join("node", "consumer", lease_s=30)
    taken = late.receive(["full"], max_messages=9, wait_s=0)

    assert len(taken) == 3
    assert list(late.ack(taken)) == []
    assert late.stats("full").held == 0
