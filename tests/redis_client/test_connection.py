"""What one connection gives and takes, whoever keeps its timeouts: the kernel, Python, TLS."""

from __future__ import annotations

import time

import pytest
from project import wait_for

from umbel_redis_client import ConnectionLostError, connection, pack


@pytest.fixture(params=["kernel", "python", "tls"])
def connect(request, redis_servers, open_client, monkeypatch):
    """Return a function that makes a connection with a timeout; the server in an attribute."""
    if request.param == "kernel" and not connection._KERNEL_WAITS:
        pytest.skip("the kernel can't be told a timeout here")
    if request.param != "kernel":
        monkeypatch.setattr(connection, "_KERNEL_WAITS", False)
    server = redis_servers.get("tls" if request.param == "tls" else "plain")
    made = []

    def make(**options):
        made.append(open_client(server.url, **options).dedicated())
        return made[-1]

    yield make
    for each in made:
        each.close()


def test_nothing_arrives_until_something_does(connect):
    one = connect()
    assert one.arrived() == []
    one.send(pack(("PING",)))
    got = []
    wait_for(lambda: got.extend(one.arrived()) or got)
    assert got == [b"PONG"]
    assert one.arrived() == []


def test_a_reply_larger_than_a_read_arrives_whole(connect):
    one = connect()
    large = b"x" * 1_000_000
    one.send(pack(("ECHO", large)) + pack(("PING",)))
    got = []
    wait_for(lambda: got.extend(one.arrived()) or len(got) == 2)
    assert got == [large, b"PONG"]


def test_what_came_with_another_reply_is_told_of(scripted, open_client):
    server = scripted(lambda words: b"+PONG\r\n" if words[0] == b"PING" else b":1\r\n:2\r\n")
    one = open_client(f"redis://127.0.0.1:{server.port}").dedicated()
    one.send(pack(("TWO",)))
    assert (one.read(), one.has_data) == (1, True)
    assert (one.arrived(), one.has_data) == ([2], False)
    one.close()


def test_a_read_that_takes_too_long_is_lost(connect):
    one = connect(socket_timeout=0.2)
    one.send(pack(("BLPOP", "nothing", 30)))
    began = time.monotonic()
    with pytest.raises(ConnectionLostError, match="no answer in time"):
        one.read()
    assert time.monotonic() - began < 10


def test_a_write_that_nobody_reads_is_lost(connect, redis_servers, request):
    one = connect(socket_timeout=0.3)
    server = redis_servers.get("tls" if "tls" in request.node.name else "plain")
    server.pause()
    try:
        with pytest.raises(ConnectionLostError, match="no answer in time"):
            one.send(pack(("SET", "large", b"x" * 64_000_000)))
    finally:
        server.resume()


def test_it_is_stale_once_the_server_has_closed_it(connect):
    one = connect()
    assert not one.is_stale
    assert one.call("PING") == b"PONG"
    one.send(pack(("QUIT",)))
    wait_for(lambda: one.is_stale)
