"""The proxy that tests put before a server is as bad a network as they say."""

from __future__ import annotations

import socket
import time

import pytest
import redis
from project import wait_for
from redis.backoff import NoBackoff
from redis.exceptions import RedisError
from redis.retry import Retry
from redis_servers import RedisServer
from tcp_proxy import TcpProxy


def client(proxy: TcpProxy, timeout_s: float = 30.0) -> redis.Redis:
    once = Retry(NoBackoff(), 0)
    return redis.Redis(port=proxy.port, socket_timeout=timeout_s, retry=once)


def test_everything_passes(redis_server: RedisServer, redis_proxy: TcpProxy) -> None:
    value = b"x" * 3_000_000
    with client(redis_proxy) as each:
        each.set("a", value)
        assert each.get("a") == value
        assert redis_proxy.connections == redis_proxy.accepted == 1
    wait_for(lambda: redis_proxy.connections == 0)


def test_connections_are_refused(redis_proxy: TcpProxy) -> None:
    with client(redis_proxy) as each:
        each.ping()
        with redis_proxy.broken(TcpProxy.refuse):
            for _ in range(2):  # the connection it has, and a new one
                with pytest.raises(redis.ConnectionError):
                    each.ping()
        assert each.ping()


def connected(proxy: TcpProxy) -> socket.socket:
    return socket.create_connection(("127.0.0.1", proxy.port), timeout=30)


def test_connections_are_reset(redis_proxy: TcpProxy) -> None:
    with connected(redis_proxy) as old:
        old.sendall(b"PING\r\n")
        assert old.recv(100) == b"+PONG\r\n"
        with redis_proxy.broken(TcpProxy.reset):
            with pytest.raises(ConnectionResetError):
                old.recv(100)
            # The reset may arrive before `connect` has returned: then that raises it.
            with pytest.raises(ConnectionResetError), connected(redis_proxy) as new:
                new.recv(100)
    with client(redis_proxy) as each:
        assert each.ping()


def test_connections_are_cut_while_new_ones_pass(redis_proxy: TcpProxy) -> None:
    with connected(redis_proxy) as old, client(redis_proxy) as new:
        old.sendall(b"PING\r\n")
        assert old.recv(100) == b"+PONG\r\n"
        redis_proxy.cut()
        with pytest.raises(ConnectionResetError):
            old.recv(100)
        assert new.ping()


def test_a_black_hole_accepts_and_answers_nothing(redis_proxy: TcpProxy) -> None:
    with client(redis_proxy, 0.2) as old, client(redis_proxy, 0.2) as new:
        old.ping()
        accepted = redis_proxy.accepted
        with redis_proxy.broken(TcpProxy.swallow):
            for each in (old, new):
                with pytest.raises(redis.TimeoutError):
                    each.ping()
            assert redis_proxy.accepted > accepted
        assert old.ping()
        assert new.ping()


def test_what_a_black_hole_held_back_arrives_afterwards(
    redis_server: RedisServer, redis_proxy: TcpProxy
) -> None:
    with client(redis_proxy, 0.2) as each:
        each.ping()
        with redis_proxy.broken(TcpProxy.swallow):
            with pytest.raises(redis.TimeoutError):
                each.set("late", "yes")
            assert redis_server.run("GET", "late") is None
        # The client hung up meanwhile: the server has got it nevertheless.
        wait_for(lambda: redis_server.run("GET", "late") == b"yes")


def test_pieces_are_late(redis_proxy: TcpProxy) -> None:
    with client(redis_proxy) as each:
        each.ping()
        redis_proxy.delay(0.1)
        began = time.monotonic()
        each.ping()
        assert time.monotonic() - began >= 0.2


def test_a_server_that_is_away_is_seen_as_such(
    redis_server: RedisServer, redis_proxy: TcpProxy
) -> None:
    redis_server.kill()
    with client(redis_proxy) as each, pytest.raises(RedisError):
        each.ping()
    redis_server.restart()
    with client(redis_proxy) as each:
        assert each.ping()
