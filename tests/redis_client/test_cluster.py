"""Keys are found on the nodes of a Cluster, while slots move and nodes are away too."""

from __future__ import annotations

import threading

import pytest
from project import wait_for

from umbel_redis_client import Call, ConnectionLostError, ReplyError, Script, pack, slot_of

ECHO = Script("return {KEYS[1], ARGV[1]}")


@pytest.fixture
def client(redis_cluster, open_client):
    return open_client(redis_cluster.url)


def other_node(cluster, key):
    """Return a node that hasn't the slot of `key`."""
    return next(node for node in cluster.nodes if node is not cluster.node_of(key))


@pytest.mark.parametrize(
    "key", ["a", "", "{}a", "{a}b", "a{b}c{d}", "{", "}{", "{{a}}", "\xe9\0{x"], ids=repr
)
def test_slot_is_the_one_that_redis_says(redis_cluster, key):
    assert slot_of(key.encode()) == redis_cluster.slot_of(key)


def test_batch_goes_to_all_nodes_and_its_replies_are_in_order(client):
    keys = [f"key {n}" for n in range(200)]
    calls = [Call(key.encode(), pack(("SET", key, n))) for n, key in enumerate(keys)]
    assert client.pipeline(calls) == [b"OK"] * 200

    gets = [Call(key.encode(), pack(("GET", key))) for key in keys]
    assert client.pipeline(gets) == [str(n).encode() for n in range(200)]
    runs = [([key], [n]) for n, key in enumerate(keys)]
    assert client.scripts(ECHO, runs) == [[k.encode(), str(n).encode()] for n, k in enumerate(keys)]


def test_all_nodes_are_scanned_and_asked(client, redis_cluster):
    keys = {f"key {n}".encode() for n in range(200)}
    client.pipeline([Call(key, pack(("SET", key, ""))) for key in keys])

    assert set(client.scan("key*")) == keys
    assert sum(client.each_node("DBSIZE")) == 200
    assert len(client.each_node("PING")) == len(redis_cluster.nodes)


def test_slot_that_has_moved_is_followed(client, redis_cluster):
    client.call("key", "SET", "key", "value")
    redis_cluster.move("key", other_node(redis_cluster, "key"))

    assert client.call("key", "GET", "key") == b"value"
    assert client.eval(ECHO, ["key"], ["x"]) == [b"key", b"x"]


def test_slot_that_is_moving_is_asked_for_at_both_ends(client, redis_cluster):
    client.call("{a}here", "SET", "{a}here", "value")
    redis_cluster.begin_move("{a}", other_node(redis_cluster, "{a}"))

    assert client.call("{a}here", "GET", "{a}here") == b"value"
    assert client.call("{a}new", "SET", "{a}new", "value") == b"OK"  # where it will be
    assert client.call("{a}new", "GET", "{a}new") == b"value"


def test_calls_go_on_while_a_slot_moves_to_and_fro(client, redis_cluster):
    ends, done, errors = threading.Event(), [0] * 4, []

    def count(number):
        try:
            while not ends.is_set():
                client.call("{a}", "INCR", f"{{a}}{number}")
                done[number] += 1
        except Exception as error:
            errors.append(error)

    threads = [threading.Thread(target=count, args=(number,)) for number in range(len(done))]
    for thread in threads:
        thread.start()
    try:
        for _ in range(6):
            redis_cluster.move("{a}", other_node(redis_cluster, "{a}"))
            before = list(done)
            wait_for(lambda before=before: errors or all(map(int.__gt__, done, before)))
    finally:
        ends.set()
        for thread in threads:
            thread.join()

    assert not errors
    found = client.pipeline([Call(b"{a}", pack(("GET", f"{{a}}{n}"))) for n in range(len(done))])
    assert [int(each) for each in found] == done


def test_node_that_is_away_leaves_the_others_and_comes_back(client, redis_cluster):
    away = redis_cluster.nodes[0]
    here = next(key for key in "abcdefgh" if redis_cluster.node_of(key) is not away)
    gone = next(key for key in "abcdefgh" if redis_cluster.node_of(key) is away)
    client.call(gone, "SET", gone, "")
    away.kill()
    for _ in range(2):  # by the connection that there is, and without
        with pytest.raises(ConnectionLostError):
            client.call(gone, "GET", gone)
    assert client.call(here, "SET", here, "value") == b"OK"
    away.start(any_port=False)

    def answers():
        (reply,) = client.pipeline([Call(gone.encode(), pack(("SET", gone, "value")))])
        # It doesn't know at once that all is well.
        assert reply == b"OK" or reply.is_passing
        return reply == b"OK"

    wait_for(answers)


def test_server_that_is_no_cluster_is_refused(redis_server, open_client):
    with pytest.raises(ReplyError, match="cluster support disabled"):
        open_client(f"redis+cluster://127.0.0.1:{redis_server.port}").call("a", "GET", "a")


def test_cluster_that_lets_nobody_in_is_a_denial(redis_password, open_client):
    with pytest.raises(ReplyError, match=r"^NOAUTH"):
        open_client(f"redis+cluster://127.0.0.1:{redis_password.port}").call("a", "GET", "a")


def test_nobody_there_is_lost(open_client):
    with pytest.raises(
        ConnectionLostError, match=r"no node of the Cluster answers: 127\.0\.0\.1:1"
    ):
        open_client("redis+cluster://127.0.0.1:1").call("a", "GET", "a")


# -- what a real one doesn't say on demand --------------------------------------------------------


def cluster_of_one(scripted, answer):
    """Return a server that says that it has all slots, and otherwise what `answer` says."""

    def answer_all(words):
        if words[0] == b"CLUSTER":
            # An empty host: the one that was asked.
            return b"*1\r\n*3\r\n:0\r\n:16383\r\n*3\r\n$0\r\n\r\n:%d\r\n$0\r\n\r\n" % server.port
        return b"+PONG\r\n" if words[0] == b"PING" else answer(words)

    server = scripted(answer_all)
    return server


@pytest.mark.parametrize("code", ["MOVED", "ASK"])
def test_nodes_that_never_agree_are_something_that_passes(scripted, open_client, code):
    def answer(words):
        reply = f"-{code} {slot_of(b'a')} 127.0.0.1:{server.port}\r\n"
        return b"+OK\r\n" if words[0] == b"ASKING" else reply.encode()

    server = cluster_of_one(scripted, answer)
    client = open_client(f"redis+cluster://127.0.0.1:{server.port}")

    with pytest.raises(ReplyError, match=f"^TRYAGAIN .*{code}") as caught:
        client.call("a", "GET", "a")
    assert caught.value.is_passing


@pytest.mark.parametrize("refusal", ["CLUSTERDOWN The cluster is down", "TRYAGAIN Multiple keys"])
def test_what_passes_in_a_moment_is_tried_again(scripted, open_client, refusal):
    answers = iter([f"-{refusal}\r\n".encode()] * 3 + [b"$1\r\nx\r\n"])
    server = cluster_of_one(scripted, lambda words: next(answers))

    assert open_client(f"redis+cluster://127.0.0.1:{server.port}").call("a", "GET", "a") == b"x"


def test_owner_that_a_node_names_is_believed_before_the_others_know(scripted, open_client):
    owner = scripted(lambda words: b"$1\r\nx\r\n" if words[0] == b"GET" else b"+PONG\r\n")
    moved = f"-MOVED {slot_of(b'a')} 127.0.0.1:{owner.port}\r\n".encode()
    former = cluster_of_one(scripted, lambda words: moved)

    client = open_client(f"redis+cluster://127.0.0.1:{former.port}")
    assert client.call("a", "GET", "a") == b"x"
    assert former.names().count("GET") == 1


def test_calls_that_were_redirected_are_sent_once_each(scripted, open_client):
    """Those of the batch that were done already aren't done again."""
    refused = iter([True])

    def answer(words):
        if words[1] == b"b" and next(refused, False):
            return b"-TRYAGAIN Multiple keys request during rehashing of slot\r\n"
        return b"+OK\r\n"

    server = cluster_of_one(scripted, answer)
    calls = [Call(key, pack(("SET", key, ""))) for key in (b"a", b"b", b"c")]

    client = open_client(f"redis+cluster://127.0.0.1:{server.port}")
    assert client.pipeline(calls) == [b"OK"] * 3
    assert [words[1] for words in server.commands if words[0] == b"SET"] == [b"a", b"b", b"c", b"b"]
