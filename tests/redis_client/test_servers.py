"""The servers that tests run on are what they say."""

from __future__ import annotations

import pytest
import redis
from redis.exceptions import RedisError
from redis_fixtures import RedisServers
from redis_servers import RedisServer
from server_process import kept_pids

SINGLE = ["plain", "aof", "password", "tls", "socket"]


@pytest.mark.parametrize("kind", SINGLE)
def test_server_answers_and_is_empty_for_each_test(redis_servers: RedisServers, kind: str) -> None:
    server = redis_servers.get(kind)
    assert server.run("PING") in (True, b"PONG")
    server.run("SET", "left", "behind")

    assert redis_servers.get(kind) is server
    assert server.run("DBSIZE") == 0


@pytest.mark.parametrize("kind", SINGLE)
def test_server_comes_back_where_it_was_and_lives_on_between_modules(
    redis_servers: RedisServers, kind: str
) -> None:
    server = redis_servers.get(kind)
    url, pid = server.url, server.pid
    assert pid in kept_pids()

    server.restart()

    assert server.url == url
    assert server.pid != pid
    assert server.pid in kept_pids()
    assert server.run("PING") in (True, b"PONG")


def test_a_killed_server_refuses_and_the_next_test_finds_it_up(
    redis_servers: RedisServers, redis_server: RedisServer
) -> None:
    redis_server.kill()
    with pytest.raises(RedisError):
        redis_server.run("PING")

    assert redis_servers.get("plain").run("SET", "a", "b") in (True, b"OK")


def test_an_append_only_file_outlives_a_kill(redis_aof: RedisServer) -> None:
    redis_aof.run("SET", "kept", "yes")
    redis_aof.restart()

    assert redis_aof.run("GET", "kept") == b"yes"


def test_a_paused_server_answers_nothing_until_it_goes_on(redis_server: RedisServer) -> None:
    redis_server.pause()
    with redis_server.client(socket_timeout=0.2) as client, pytest.raises(redis.TimeoutError):
        client.ping()
    redis_server.resume()

    assert redis_server.run("PING") in (True, b"PONG")


def test_parameters_are_taken_back(redis_servers: RedisServers, redis_server: RedisServer) -> None:
    redis_server.config_set("maxmemory", 1)
    with pytest.raises(redis.exceptions.OutOfMemoryError):
        redis_server.run("SET", "a", "b")

    assert redis_servers.get("plain").run("SET", "a", "b") in (True, b"OK")


def test_passwords_are_asked_for(redis_password) -> None:
    with redis.from_url(redis_password.url) as default:
        assert default.ping()
    with redis.from_url(redis_password.user_url) as worker:
        assert worker.acl_whoami() == redis_password.user
    for password in (None, "wr0ng"):
        refused = pytest.raises(redis.AuthenticationError)
        with redis_password.client(password=password) as nobody, refused:
            nobody.ping()


def test_rights_are_taken_back(redis_servers: RedisServers, redis_password) -> None:
    redis_password.run("ACL", "SETUSER", redis_password.user, "off", "nopass", "-@all")
    redis_servers.get("password")

    with redis.from_url(redis_password.user_url) as worker:
        assert worker.set("a", "b")


def test_tls_is_checked_against_the_authority(redis_tls) -> None:
    stranger = str(redis_tls.certificates.stranger_ca)
    refused = pytest.raises(redis.ConnectionError, match="certificate verify failed")
    with redis_tls.client(ssl_ca_certs=stranger) as client, refused:
        client.ping()
    with redis.from_url(redis_tls.url) as client:
        assert client.ping()
    with redis_tls.client(ssl=False, socket_timeout=2.0) as plain, pytest.raises(RedisError):
        plain.ping()


def test_sentinel_makes_the_replica_the_master(redis_servers: RedisServers, redis_sentinel) -> None:
    first = redis_sentinel.master
    first.run("SET", "a", "b")
    first.run("WAIT", 1, 5000)
    redis_sentinel.fail_over()

    assert redis_sentinel.master is not first
    assert redis_sentinel.master.run("GET", "a") == b"b"
    redis_servers.get("sentinel")
    assert redis_sentinel.master.run("DBSIZE") == 0


def test_sentinel_replaces_a_master_that_died(redis_servers: RedisServers, redis_sentinel) -> None:
    gone = redis_sentinel.kill_master()
    redis_sentinel.wait_for_another_master_than(gone)

    assert redis_servers.get("sentinel").master is not gone
    assert gone.info("replication")["role"] == "slave"


def test_three_sentinels_agree_who_is_master(redis_sentinels) -> None:
    first = redis_sentinels.master
    redis_sentinels.fail_over()
    redis_sentinels.reset()

    assert len(redis_sentinels.sentinels) == redis_sentinels.url.count("127.0.0.1") == 3
    assert redis_sentinels.master is not first
    assert redis_sentinels.replica is first


def test_cluster_shares_its_slots_and_moves_them(
    redis_servers: RedisServers, redis_cluster
) -> None:
    keys = [f"{{{letter}}}" for letter in "abcdefgh"]
    for key in keys:
        redis_cluster.run(key, "SET", key, "x")
    assert len({redis_cluster.node_of(key).port for key in keys}) == 3
    old = redis_cluster.node_of("{a}")
    new = next(node for node in redis_cluster.nodes if node is not old)
    redis_cluster.move("{a}", new)

    with pytest.raises(redis.exceptions.MovedError):
        old.run("GET", "{a}")
    assert new.run("GET", "{a}") == b"x"
    redis_servers.get("cluster")
    assert redis_cluster.run("{a}", "EXISTS", "{a}") == 0
    assert redis_cluster.node_of("{a}") is old


def test_a_cluster_comes_back_after_a_node_died(redis_servers: RedisServers, redis_cluster) -> None:
    redis_cluster.nodes[1].kill()
    again = redis_servers.get("cluster")

    assert all(node.sees_all() for node in again.nodes)
