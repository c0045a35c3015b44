"""All that a network and a server can do, at random: no task is lost, and none runs twice."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from project import Project
from redis_load import PATIENT, Load
from redis_servers import RedisServer
from tcp_proxy import TcpProxy

pytestmark = pytest.mark.faults

TASKS = 1500
FAULTS = 16
LONGEST_S = 0.5


class Chaos:
    """Faults of a server and of the way to it; each ends in a moment."""

    def __init__(self, server: RedisServer, proxy: TcpProxy, seed: int):
        self._server, self._proxy = server, proxy
        self._chance, self._ticks = random.Random(seed), threading.Event()
        self._faults: list[Callable[[], object]] = [
            self.kill_connections,
            proxy.cut,
            self.freeze,
            self.swallow,
            self.reset,
            server.restart,
            lambda: server.run("SCRIPT", "FLUSH"),
        ]

    def strike(self) -> None:
        """Let one fault happen, and some time pass."""
        self._chance.choice(self._faults)()
        self._wait()

    def kill_connections(self) -> None:
        self._server.run("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
        self._server.run("CLIENT", "KILL", "TYPE", "pubsub")

    def freeze(self) -> None:
        self._server.pause()
        self._wait()
        self._server.resume()

    def swallow(self) -> None:
        with self._proxy.broken(TcpProxy.swallow):
            self._wait()

    def reset(self) -> None:
        with self._proxy.broken(TcpProxy.reset):
            self._wait()

    def _wait(self) -> None:
        self._ticks.wait(self._chance.uniform(0.0, LONGEST_S))


@pytest.mark.parametrize("pool", ["process", "threads"])
def test_no_fault_of_network_or_server_loses_a_task_or_runs_one_twice(
    tmp_path: Path, redis_aof: Any, pool: str
) -> None:
    proxy = TcpProxy(redis_aof.port)
    url = redis_aof.url_of(0, proxy.port)
    project = Project(tmp_path / "project", broker=url, backend=url, worker_lease_s=60.0, **PATIENT)
    try:
        load, chaos = Load(project), Chaos(redis_aof, proxy, seed=4)
        worker = project.worker("-c", "3", "--pool", pool)
        with load.sending(TASKS, 0.004, batch=2):
            for _ in range(FAULTS):
                chaos.strike()
        assert load.check_none_lost(worker.tell) == 0, worker.tell()
        assert worker.stop() == 0
    finally:
        project.close()
        proxy.close()
