"""Redis servers as fixtures: one of each kind for the whole run, as new for each test that asks.

``redis_server``, ``redis_aof``, ``redis_password``, ``redis_tls``, ``redis_socket``,
``redis_sentinel`` (one Sentinel), ``redis_sentinels`` (three), ``redis_cluster``; and
``redis_proxy``, a `TcpProxy` before ``redis_server``. A test may kill, freeze and configure what
it gets.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from server_process import keep
from tcp_proxy import TcpProxy

MISSING = "needs redis-server (Debian, Ubuntu: apt install redis-server)"


class RedisServers:
    """The servers of a run, each started when it is first asked for."""

    def __init__(self, folder: Path):
        self._folder = folder
        self._servers: dict[str, Any] = {}

    def get(self, kind: str) -> Any:
        """Return a server, as new; skips the test where there is no Redis."""
        for program in ("redis-server", *(("openssl",) if kind == "tls" else ())):
            if shutil.which(program) is None:
                pytest.skip(MISSING if program == "redis-server" else f"needs {program}")
        if kind in self._servers:
            self._servers[kind].reset()
        else:
            self._start(kind)
        return self._servers[kind]

    def _start(self, kind: str) -> None:
        server = maker(kind)(self._folder / kind)
        self._servers[kind] = server
        try:
            server.start()
        finally:
            for process in getattr(server, "processes", [server]):
                keep(process)

    def close(self) -> None:
        """End all."""
        for server in self._servers.values():
            server.close()


def maker(kind: str) -> Callable[[Path], Any]:
    """Return what makes a server of a kind in a folder."""
    # Here, since they import a client library, which most runs of a few tests don't need.
    import redis_servers
    from redis_cluster import ClusterRedis
    from redis_sentinel import SentinelRedis

    return {
        "plain": redis_servers.RedisServer,
        "aof": lambda folder: redis_servers.RedisServer(folder, *redis_servers.AOF),
        "password": redis_servers.PasswordRedis,
        "tls": redis_servers.TlsRedis,
        "socket": redis_servers.SocketRedis,
        "sentinel": SentinelRedis,
        "sentinels": lambda folder: SentinelRedis(folder, 3),
        "cluster": ClusterRedis,
    }[kind]


@pytest.fixture(scope="session")
def redis_servers() -> Iterator[RedisServers]:
    """Return all servers of the run: ``redis_servers.get("plain")``."""
    # Not below pytest's folder: the path of a socket file has a hundred characters at most.
    with tempfile.TemporaryDirectory(prefix="redis-", ignore_cleanup_errors=True) as folder:
        made = RedisServers(Path(folder).resolve())
        yield made
        made.close()


def of_kind(kind: str) -> Any:
    """Return a fixture that gives each test the server of a kind, as new."""

    @pytest.fixture(name=f"redis_{kind if kind != 'plain' else 'server'}")
    def server(redis_servers: RedisServers) -> Any:
        return redis_servers.get(kind)

    return server


redis_server = of_kind("plain")
redis_aof = of_kind("aof")
redis_password = of_kind("password")
redis_tls = of_kind("tls")
redis_socket = of_kind("socket")
redis_sentinel = of_kind("sentinel")
redis_sentinels = of_kind("sentinels")
redis_cluster = of_kind("cluster")


@pytest.fixture
def redis_proxy(redis_server: Any) -> Iterator[TcpProxy]:
    """Return a proxy before `redis_server`: ``redis_server.url_of(0, redis_proxy.port)``."""
    with_proxy = TcpProxy(redis_server.port)
    yield with_proxy
    with_proxy.close()
