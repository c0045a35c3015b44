"""The connections that wait for Redis to tell something."""

from __future__ import annotations

import pytest
from project import wait_for
from tcp_proxy import TcpProxy

from umbel_broker_redis import links
from umbel_broker_redis.links import Ear
from umbel_redis_client import Client, ConnectionLostError, parse_url


@pytest.fixture
def open_ear(redis_server):
    """Return a function that subscribes through a proxy; and the proxy."""
    proxy = TcpProxy(redis_server.port)
    url = redis_server.url_of(0, proxy.port)
    client = Client(parse_url(url, {}, ignored=frozenset()))
    made = []

    def make():
        made.append(Ear(client, frozenset({"channel"})))
        return made[-1]

    yield make, proxy
    for ear in made:
        ear.connection.close()
    client.close()
    proxy.close()


def test_one_who_was_long_away_asks_and_has_time_to_answer(open_ear, monkeypatch):
    ear = open_ear[0]()
    monkeypatch.setattr(links, "_PING_EVERY_S", -60.0)  # as if it had been silent for that long

    for _ in range(100):
        assert ear.told() == []


def test_a_subscription_that_does_not_answer_is_dead(open_ear, monkeypatch):
    make, proxy = open_ear
    ear = make()
    monkeypatch.setattr(links, "_PING_EVERY_S", 0.01)
    monkeypatch.setattr(links, "LATE_S", 0.2)

    def is_dead():
        try:
            ear.told()
        except ConnectionLostError:
            return True
        return False

    with proxy.broken(TcpProxy.swallow):
        wait_for(is_dead)
