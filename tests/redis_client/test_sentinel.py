"""The master is the one that the Sentinels name and that says so itself."""

from __future__ import annotations

import time

import pytest
from project import wait_for

from umbel_redis_client import ConnectionLostError, ReplyError


def test_master_is_found(redis_sentinel, open_client):
    for db in (0, 2):
        open_client(redis_sentinel.url_of(db)).call("key", "SET", "key", db)

    with redis_sentinel.master.client(db=2) as other:
        assert other.get("key") == b"2"


def test_other_sentinels_are_asked_where_one_is_gone(redis_sentinel, open_client):
    gone = redis_sentinel.url.replace("sentinel://", "sentinel://127.0.0.1:1;")
    client = open_client(gone)
    assert client.call("", "PING") == b"PONG"

    # And first the one that knew, from then on.
    assert client._topology._sentinels[0].port == redis_sentinel.sentinels[0].port


def test_master_that_nobody_knows_is_lost(redis_sentinel, open_client):
    url = redis_sentinel.url.partition("?")[0]

    with pytest.raises(ConnectionLostError, match="knows no master 'nobody'"):
        open_client(url, master="nobody").call("", "PING")


def test_replica_is_not_taken_for_the_master(scripted, redis_server, open_client):
    """A Sentinel may be behind."""
    named = b"*2\r\n$9\r\n127.0.0.1\r\n$5\r\n%05d\r\n" % redis_server.port
    behind = scripted(lambda words: b"+PONG\r\n" if words[0] == b"PING" else named)
    client = open_client(f"sentinel://127.0.0.1:{behind.port}/0?master=m")
    redis_server.run("REPLICAOF", "127.0.0.1", 1)
    try:
        with pytest.raises(ConnectionLostError, match="is slave, not master"):
            client.call("key", "SET", "key", "value")
    finally:
        redis_server.run("REPLICAOF", "NO", "ONE")

    assert client.call("key", "SET", "key", "value") == b"OK"


def test_sentinel_that_lets_nobody_in_is_a_denial(redis_password, open_client):
    url = f"sentinel://127.0.0.1:{redis_password.port}/0?master=m"

    with pytest.raises(ReplyError, match=r"^NOAUTH"):
        open_client(url).call("", "PING")
    wrong = {"sentinel_kwargs": {"password": "wr0ng"}}
    with pytest.raises(ReplyError, match=r"^WRONGPASS"):
        open_client(url, **wrong).call("", "PING")


def test_master_that_lets_nobody_in_is_a_denial(scripted, redis_password, open_client):
    named = b"*2\r\n$9\r\n127.0.0.1\r\n$5\r\n%05d\r\n" % redis_password.port
    sentinel = scripted(lambda words: b"+PONG\r\n" if words[0] == b"PING" else named)

    with pytest.raises(ReplyError, match=r"^WRONGPASS"):
        open_client(f"sentinel://:wr0ng@127.0.0.1:{sentinel.port}/0?master=m").call("", "PING")


def test_server_that_is_no_sentinel_is_refused(redis_server, open_client):
    with pytest.raises(ReplyError, match=f"127.0.0.1:{redis_server.port} is no sentinel"):
        open_client(f"sentinel://127.0.0.1:{redis_server.port}/0?master=m").call("", "PING")


def test_new_master_is_found_after_a_fail_over(redis_sentinel, open_client):
    client = open_client(redis_sentinel.url)
    client.call("key", "SET", "key", "before")
    former = redis_sentinel.master
    redis_sentinel.fail_over()
    # What a Sentinel tells a master that it finds beside the new one, in ten seconds or so.
    former.run("REPLICAOF", "127.0.0.1", redis_sentinel.master.port)
    former.run("CLIENT", "KILL", "TYPE", "normal")

    def stored():
        try:
            return client.call("key", "SET", "key", "after") == b"OK"
        except (ReplyError, ConnectionLostError):
            return False

    began_at = time.monotonic()
    wait_for(stored)
    assert time.monotonic() - began_at < 5.0
    assert redis_sentinel.master.run("GET", "key") == b"after"


def test_master_that_does_not_know_yet_that_it_was_replaced_is_left(redis_sentinel, open_client):
    client = open_client(redis_sentinel.url)
    waiting = client.dedicated()
    client.call("key", "SET", "key", "before")
    assert not client.has_moved(waiting.endpoint)
    redis_sentinel.fail_over()

    def leads_to_the_new_one():
        client.call("key", "SET", "key", "after")
        return redis_sentinel.master.run("GET", "key") == b"after"

    began_at = time.monotonic()
    wait_for(leads_to_the_new_one)
    wait_for(lambda: client.has_moved(waiting.endpoint))
    assert time.monotonic() - began_at < 5.0  # it learns of it in ten seconds
    waiting.close()


def test_sentinels_that_are_gone_hold_up_nobody_who_knows_the_master(redis_sentinel, open_client):
    client = open_client(redis_sentinel.url)
    client.call("key", "SET", "key", "before")
    for sentinel in redis_sentinel.sentinels:
        sentinel.pause()
    client._topology._ask_again_at = 0.0
    began_at = time.monotonic()
    client.call("key", "SET", "key", "after")
    client.call("key", "SET", "key", "after")

    assert time.monotonic() - began_at < 3.0
