"""A Redis Cluster of three masters, made without ``redis-cli``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from redis_sentinel import wait_until
from redis_servers import RedisServer

SLOTS = 16384
NODES = 3
#: Until a node that is away counts as gone, and the Cluster as broken.
NODE_TIMEOUT_MS = 2000


class ClusterNode(RedisServer):
    """A Redis that is part of a Cluster."""

    def __init__(self, folder: Path, number: int):
        super().__init__(folder, "cluster-enabled yes", f"cluster-node-timeout {NODE_TIMEOUT_MS}")
        self.number = number

    @property
    def id(self) -> str:
        """Its name in the Cluster."""
        return str(self.run("CLUSTER", "MYID").decode())

    @property
    def slots(self) -> range:
        """The slots that it owns from the start."""
        share = SLOTS // NODES + 1
        return range(self.number * share, min((self.number + 1) * share, SLOTS))

    def sees_all(self) -> bool:
        """Tell whether it knows all nodes, finds them well and every slot owned."""
        with self.client() as client:
            info = client.execute_command("CLUSTER INFO")
            nodes = client.execute_command("CLUSTER NODES")
        return (
            info["cluster_state"] == "ok"
            and int(info["cluster_known_nodes"]) == NODES
            and all("fail" not in node["flags"] and node["connected"] for node in nodes.values())
        )


class ClusterRedis:
    """Three masters that share the slots."""

    def __init__(self, folder: Path):
        self.nodes = [ClusterNode(folder / f"node-{number}", number) for number in range(NODES)]
        self._moved: dict[int, ClusterNode] = {}

    def start(self) -> None:
        """Start all, make a Cluster of them, and wait until each finds it well."""
        for node in self.nodes:
            node.start()
            node.run("CLUSTER", "SET-CONFIG-EPOCH", node.number + 1)
            node.run("CLUSTER", "ADDSLOTS", *node.slots)
        for node in self.nodes:
            for other in self.nodes:
                if other is not node:
                    node.run("CLUSTER", "MEET", "127.0.0.1", other.port)
        self._wait_well()

    def _wait_well(self) -> None:
        wait_until(lambda: all(node.sees_all() for node in self.nodes), self)

    @property
    def processes(self) -> list[ClusterNode]:
        """All servers."""
        return self.nodes

    @property
    def url(self) -> str:
        """Where the plugins find it."""
        return f"redis+cluster://{','.join(f'127.0.0.1:{node.port}' for node in self.nodes)}"

    def slot_of(self, key: str) -> int:
        """Return the slot of a key."""
        return int(self.nodes[0].run("CLUSTER", "KEYSLOT", key))

    def node_of(self, key: str) -> ClusterNode:
        """Return the node that has a key's slot."""
        slot = self.slot_of(key)
        return self._moved.get(slot) or self._first_owner(slot)

    def _first_owner(self, slot: int) -> ClusterNode:
        return next(node for node in self.nodes if slot in node.slots)

    def run(self, key: str, *words: str | int | bytes) -> Any:
        """Run a command on the node that has `key`."""
        return self.node_of(key).run(*words)

    # -- faults -------------------------------------------------------------------------------

    def begin_move(self, key: str, to: ClusterNode) -> int:
        """Announce that the slot of `key` goes to another node: from here on nodes say ASK."""
        slot, source = self.slot_of(key), self.node_of(key)
        to.run("CLUSTER", "SETSLOT", slot, "IMPORTING", source.id)
        source.run("CLUSTER", "SETSLOT", slot, "MIGRATING", to.id)
        return slot

    def move(self, key: str, to: ClusterNode) -> None:
        """Give the slot of `key`, with all of its keys, to another node: the old one says MOVED."""
        slot, source = self.begin_move(key, to), self.node_of(key)
        while keys := source.run("CLUSTER", "GETKEYSINSLOT", slot, 1000):
            source.run("MIGRATE", "127.0.0.1", to.port, "", 0, 5000, "KEYS", *keys)
        self._assign(slot, to)
        self._moved[slot] = to

    def _assign(self, slot: int, owner: ClusterNode) -> None:
        others = [node for node in self.nodes if node is not owner]
        for node in (owner, *others):
            node.run("CLUSTER", "SETSLOT", slot, "NODE", owner.id)

    # -- between tests ------------------------------------------------------------------------

    def reset(self) -> None:
        """Be as new: all up and empty, each with the slots it had at first."""
        for node in self.nodes:
            node.reset()
        self._wait_well()
        for slot in list(self._moved):
            self._assign(slot, self._first_owner(slot))
            del self._moved[slot]
        for node in self.nodes:
            for slot in open_moves(node):
                node.run("CLUSTER", "SETSLOT", slot, "STABLE")

    def close(self) -> None:
        """End all."""
        for node in self.nodes:
            node.close()

    def __repr__(self) -> str:
        return f"ClusterRedis({self.nodes})"


def open_moves(node: ClusterNode) -> list[int]:
    """Return the slots that are on their way to or from a node."""
    with node.client() as client:
        nodes: dict[str, Any] = client.execute_command("CLUSTER NODES")
    own = next(each for each in nodes.values() if "myself" in each["flags"])
    return [int(move["slot"]) for move in own["migrations"]]
