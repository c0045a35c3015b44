"""A Redis with a replica, and Sentinels that watch both."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from redis.exceptions import RedisError, ResponseError
from redis_servers import RedisServer

MASTER = "umbel-tests"
#: Until a server that is away counts as gone. A Sentinel that has just promoted a server takes up
#: to a second to connect to it anew: with less than that it would take the new master for gone.
DOWN_AFTER_MS = 1500
FAILOVER_TIMEOUT_MS = 3000
SETTLED_TIMEOUT_S = 60.0


class SentinelServer(RedisServer):
    """A Sentinel that watches one master."""

    def __init__(self, folder: Path, master: int, quorum: int):
        watched = (
            f"sentinel monitor {MASTER} 127.0.0.1 {master} {quorum}",
            f"sentinel down-after-milliseconds {MASTER} {DOWN_AFTER_MS}",
            f"sentinel failover-timeout {MASTER} {FAILOVER_TIMEOUT_MS}",
        )
        super().__init__(folder, *watched)

    def configuration(self) -> list[str]:
        """Return the lines of its configuration file."""
        lines = super().configuration()
        return [line for line in lines if not line.startswith(("save", "repl-"))]

    def command(self) -> list[str]:
        """Return the program and its arguments."""
        return [*super().command(), "--sentinel"]


class SentinelRedis:
    """One master, one replica, and Sentinels that promote the replica where the master is gone."""

    def __init__(self, folder: Path, sentinels: int = 1):
        self.folder = folder
        self.servers = [RedisServer(folder / "one"), RedisServer(folder / "two")]
        self._sentinels = sentinels
        self.sentinels: list[SentinelServer] = []

    def start(self) -> None:
        """Start all, and wait until the Sentinels know the replica."""
        first, second = self.servers
        first.start()
        second.start()
        second.run("REPLICAOF", "127.0.0.1", first.port)
        wait_until(lambda: linked(second), self)
        for number in range(self._sentinels):
            folder = self.folder / f"sentinel-{number}"
            sentinel = SentinelServer(folder, first.port, self._sentinels // 2 + 1)
            self.sentinels.append(sentinel)
            sentinel.start()
        wait_until(self.is_settled, self)

    @property
    def processes(self) -> list[RedisServer]:
        """All servers, Sentinels too."""
        return [*self.servers, *self.sentinels]

    @property
    def url(self) -> str:
        """Where the plugins find the master; database 0."""
        return self.url_of(0)

    def url_of(self, db: int) -> str:
        """Return the URL of one of the master's databases."""
        hosts = ";".join(f"127.0.0.1:{sentinel.port}" for sentinel in self.sentinels)
        return f"sentinel://{hosts}/{db}?master={MASTER}"

    # -- who is who ---------------------------------------------------------------------------

    @property
    def master(self) -> RedisServer:
        """The server that the first Sentinel names."""
        port = int(self._ask("GET-MASTER-ADDR-BY-NAME")[1])
        return next(server for server in self.servers if server.port == port)

    @property
    def replica(self) -> RedisServer:
        """The other one."""
        master = self.master
        return next(server for server in self.servers if server is not master)

    def _ask(self, *words: str) -> Any:
        return self.sentinels[0].run("SENTINEL", *words, MASTER)

    def is_settled(self) -> bool:
        """Tell whether each has its role, and every Sentinel would promote the replica."""
        if any(server.pid is None for server in self.processes):
            return False
        ports = {
            int(s.run("SENTINEL", "GET-MASTER-ADDR-BY-NAME", MASTER)[1]) for s in self.sentinels
        }
        return (
            len(ports) == 1
            and linked(self.replica)
            and self.master.info("replication")["role"] == "master"
            and all(self._sees_all(sentinel) for sentinel in self.sentinels)
        )

    def _sees_all(self, sentinel: SentinelServer) -> bool:
        with sentinel.client() as client:
            master = client.sentinel_master(MASTER)
            replicas = client.sentinel_slaves(MASTER)
        return (
            master["flags"] == "master"
            and int(master["num-other-sentinels"]) == len(self.sentinels) - 1
            # Not "master-link-status": a Sentinel asks for that every ten seconds only.
            and [each["flags"] for each in replicas] == ["slave"]
        )

    def settle(self) -> None:
        """Wait until each has its role; make one of two masters a replica, to be quick about it."""
        if not self.is_settled():
            # What was down comes back as a master; a Sentinel takes ten seconds to correct that.
            wait_until(lambda: self.master.info("replication")["role"] == "master", self)
            self.replica.run("REPLICAOF", "127.0.0.1", self.master.port)
            wait_until(self.is_settled, self)

    # -- faults -------------------------------------------------------------------------------

    def fail_over(self) -> None:
        """Make the replica the master; returns when it is. The old one becomes its replica."""
        self.settle()
        successor = self.replica
        wait_until(self._order_fail_over, self)
        wait_until(lambda: self.master is successor, self)

    def _order_fail_over(self) -> bool:
        try:
            self._ask("FAILOVER")
        except ResponseError as error:
            if "INPROG" in str(error) or "NOGOODSLAVE" in str(error):
                return False
            raise
        return True

    def kill_master(self) -> RedisServer:
        """Kill the master and return it; the Sentinels promote the replica in two to five seconds."""
        self.settle()
        master = self.master
        master.kill()
        return master

    def wait_for_another_master_than(self, server: RedisServer) -> None:
        """Wait until the Sentinels have promoted the other one, and it takes writes."""
        wait_until(
            lambda: (
                self.master is not server and self.master.info("replication")["role"] == "master"
            ),
            self,
        )

    # -- between tests ------------------------------------------------------------------------

    def reset(self) -> None:
        """Be as new: all up, one of them master and empty, the other one its replica."""
        for server in self.processes:
            server.resume()
            if server.pid is None:
                server.start(any_port=False)
        self.settle()
        self.master.reset()

    def close(self) -> None:
        """End all, Sentinels first."""
        for server in reversed(self.processes):
            server.close()

    def __repr__(self) -> str:
        return f"SentinelRedis({self.processes})"


def linked(replica: RedisServer) -> bool:
    """Tell whether a replica has all that its master has."""
    info = replica.info("replication")
    return info["role"] == "slave" and info["master_link_status"] == "up"


def wait_until(condition: Any, what: object) -> None:
    """Wait until `condition` holds; a server that doesn't answer now may in a moment."""
    ends_at = time.monotonic() + SETTLED_TIMEOUT_S
    while True:
        try:
            if condition():
                return
        except RedisError:
            pass
        if time.monotonic() > ends_at:
            raise RuntimeError(f"{what} didn't settle in {SETTLED_TIMEOUT_S} s")
        time.sleep(0.02)
