"""Calls to one server: batches, scripts, refusals, lost replies, threads and forks."""

from __future__ import annotations

import gc
import os
import signal
import subprocess
import sys
import threading
import time

import pytest
from project import wait_for

from umbel_redis_client import Call, ConnectionLostError, ReplyError, Script, pack
from umbel_redis_client import client as client_module

ECHO = Script("return {KEYS[1], ARGV[1]}")


def connections(server):
    """Return how many clients are connected, without the one that asks."""
    return server.info("clients")["connected_clients"] - 1


# -- what is asked, and answered ------------------------------------------------------------------


def test_replies_come_in_order_and_refusals_in_their_places(client):
    client.call("text", "SET", "text", "x")
    calls = [("SET", "a", 1), ("INCR", "text"), ("GET", "a"), ("GET", "none")]
    replies = client.pipeline([Call(b"", pack(call)) for call in calls])

    assert isinstance(replies[1], ReplyError)
    assert [replies[0], *replies[2:]] == [b"OK", b"1", None]
    assert client.pipeline([]) == []


def test_large_batch_of_large_values_comes_back(client):
    value = os.urandom(50_000)
    sets = [Call(b"", pack(("SET", f"key {n}", value))) for n in range(200)]
    gets = [Call(b"", pack(("GET", f"key {n}"))) for n in range(200)]

    assert client.pipeline([*sets, *gets]) == [b"OK"] * 200 + [value] * 200


def test_script_runs_though_the_server_does_not_know_it_any_more(client, redis_server):
    for _ in range(2):
        assert client.eval(ECHO, ["key"], ["first"]) == [b"key", b"first"]
        redis_server.run("SCRIPT", "FLUSH")
        runs = [([f"key {n}"], [n]) for n in range(50)]
        expected = [[f"key {n}".encode(), str(n).encode()] for n in range(50)]
        assert client.scripts(ECHO, runs) == expected
        redis_server.run("SCRIPT", "FLUSH")
        along = [Call(b"a", pack(("SET", "a", 1)))]
        assert client.run(ECHO, ["key"], ["last"], along=along) == [b"OK", [b"key", b"last"]]


def test_unknown_scripts_of_a_batch_take_one_more_round_trip(client, redis_server, monkeypatch):
    redis_server.run("SCRIPT", "FLUSH")
    sent = []
    exchange = client.exchange
    monkeypatch.setattr(
        client, "exchange", lambda data, count: (sent.append(count), exchange(data, count))[1]
    )
    client.scripts(ECHO, [(["key"], [n]) for n in range(50)])

    assert sent == [50, 50]


def test_scan_finds_all_keys_once(client, redis_server):
    with redis_server.client() as other:
        other.mset({f"key {n}": "" for n in range(3000)})
        other.set("other", "")

    found = client.scan("key *")
    assert sorted(found) == sorted(f"key {n}".encode() for n in range(3000))
    assert client.scan(b"\xff*") == []


def test_server_says_what_time_it_is(client):
    before = time.time()
    assert before - 1.0 < client.server_time() < time.time() + 1.0


# -- refusals -------------------------------------------------------------------------------------


def test_full_server_passes_and_nothing_is_stored(client, redis_server):
    redis_server.config_set("maxmemory", "1")
    store = Script("return redis.call('SET', KEYS[1], ARGV[1])")
    for call in (
        lambda: client.call("key", "SET", "key", "value"),
        lambda: client.eval(store, ["key"], ["value"]),
    ):
        with pytest.raises(ReplyError, match="OOM") as caught:
            call()
        assert caught.value.is_passing
    redis_server.config_set("maxmemory", "0")

    assert client.call("key", "GET", "key") is None
    assert client.call("key", "SET", "key", "value") == b"OK"


def test_master_that_became_a_replica_passes_and_its_connections_are_left(client, redis_server):
    client.call("key", "SET", "key", "value")
    redis_server.run("REPLICAOF", "127.0.0.1", 1)
    try:
        with pytest.raises(ReplyError, match=r"^READONLY") as caught:
            client.call("key", "SET", "key", "value")
        assert caught.value.is_passing
        wait_for(lambda: connections(redis_server) == 0)
    finally:
        redis_server.run("REPLICAOF", "NO", "ONE")

    assert client.call("key", "SET", "key", "value") == b"OK"


# -- connections ----------------------------------------------------------------------------------


def test_one_connection_does_for_one_call_after_the_other(client, redis_server):
    for _ in range(20):
        client.call("", "PING")

    assert connections(redis_server) == 1


def test_idle_connection_that_the_server_closed_is_not_used(client, redis_server, monkeypatch):
    monkeypatch.setattr(client_module, "_FRESH_S", 0.0)
    client.call("key", "SET", "key", "value")
    redis_server.restart()

    assert client.call("key", "GET", "key") is None


def test_idle_connection_with_an_answer_that_nobody_asked_for_is_not_used(
    scripted, open_client, monkeypatch
):
    monkeypatch.setattr(client_module, "_FRESH_S", 0.0)
    answers = {b"GET": b"$5\r\nfirst\r\n$6\r\nsecond\r\n", b"PING": b"+PONG\r\n"}
    server = scripted(lambda words: answers[words[0]])
    client = open_client(f"redis://127.0.0.1:{server.port}")
    assert client.call("", "GET", "a") == b"first"

    assert client.call("", "GET", "b") == b"first"
    assert server.accepted == 2


def test_tls_connection_that_the_server_closed_is_not_used(redis_tls, open_client, monkeypatch):
    monkeypatch.setattr(client_module, "_FRESH_S", 0.0)
    client = open_client(redis_tls.url)
    for _ in range(3):
        client.call("", "PING")
    assert connections(redis_tls) == 1
    redis_tls.restart()

    assert client.call("", "PING") == b"PONG"


def test_replies_that_are_lost_in_the_middle_of_a_batch_end_the_connection(scripted, open_client):
    answers = {b"PING": b"+PONG\r\n", b"ONE": b":1\r\n", b"TWO": None}
    server = scripted(lambda words: answers[words[0]])
    client = open_client(f"redis://127.0.0.1:{server.port}")
    with pytest.raises(ConnectionLostError, match=f"127.0.0.1:{server.port}: "):
        client.pipeline([Call(b"", pack((word,))) for word in ("ONE", "TWO", "ONE")])

    assert server.names() == ["PING", "ONE", "TWO"]  # nothing was sent twice
    assert client.call("", "ONE") == 1
    assert server.accepted == 2


def test_answer_that_is_no_redis_ends_the_connection(scripted, open_client):
    server = scripted(lambda words: b"HTTP/1.1 400 Bad Request\r\n\r\n")

    with pytest.raises(ConnectionLostError):
        open_client(f"redis://127.0.0.1:{server.port}").call("", "PING")


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="no timer signals on this system")
def test_interrupt_while_a_reply_is_awaited_ends_the_connection(scripted, open_client):
    """Or the next call would take the reply for its own."""
    go_on = threading.Event()

    def answer(words):
        if words[0] == b"SLOW":
            go_on.wait(30)
            return b"+late\r\n"
        return b"+PONG\r\n"

    client = open_client(f"redis://127.0.0.1:{scripted(answer).port}")
    client.call("", "PING")
    old = signal.signal(signal.SIGALRM, signal.default_int_handler)
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.1)
        with pytest.raises(KeyboardInterrupt):
            client.call("", "SLOW")
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, old)
        go_on.set()

    assert client.call("", "PING") == b"PONG"


def test_connections_are_closed_with_the_client_and_made_anew(client, redis_server):
    client.call("", "PING")
    client.close()
    client.close()
    wait_for(lambda: connections(redis_server) == 0)

    assert client.call("", "PING") == b"PONG"


def test_client_that_is_dropped_leaves_no_connection(redis_server, open_client):
    from umbel_redis_client import Client

    client = Client(open_client(redis_server.url).address)
    client.call("", "PING")
    del client
    gc.collect()

    wait_for(lambda: connections(redis_server) == 0)


def test_dedicated_connection_gives_what_has_arrived_before_it_tells_of_its_end(
    scripted, open_client
):
    def answer(words):
        return b"+PONG\r\n" if words[0] == b"PING" else b":1\r\n:2\r\n"

    server = scripted(answer)
    connection = open_client(f"redis://127.0.0.1:{server.port}").dedicated()
    connection.send(pack(("TWO",)))
    wait_for(lambda: len(server.commands) == 2)
    server.close()

    assert connection.arrived() == [1, 2]
    with pytest.raises(ConnectionLostError):
        connection.arrived()
    connection.close()


# -- threads and processes ------------------------------------------------------------------------


def test_threads_get_their_own_replies(client, redis_server):
    wrong, counts = [], []

    def work(number):
        for turn in range(100):
            value = f"{number}/{turn}"
            if client.eval(ECHO, ["key"], [value]) != [b"key", value.encode()]:
                wrong.append(value)
            counts.append(client.call("counter", "INCR", "counter"))

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert not wrong
    assert sorted(counts) == list(range(1, 801))
    assert connections(redis_server) <= 8


FORKING = """
import os, sys
from umbel_redis_client import Client, parse_url

client = Client(parse_url(sys.argv[1], {}, ignored=frozenset()))
own = client.call("", "CLIENT", "ID")
child = os.fork()
if child == 0:
    ids = {client.call("", "CLIENT", "ID") for _ in range(50)}
    os._exit(0 if len(ids) == 1 and own not in ids else 1)
ids = {client.call("", "CLIENT", "ID") for _ in range(50)}
code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
ids.add(client.call("", "CLIENT", "ID"))
assert code == 0, code
assert ids == {own}, ids
client.close()
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
@pytest.mark.parametrize("kind", ["plain", "tls"])
def test_forked_child_leaves_its_parents_connection_alone(redis_servers, kind):
    done = subprocess.run(
        [sys.executable, "-c", FORKING, redis_servers.get(kind).url],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    assert done.returncode == 0, done.stderr
