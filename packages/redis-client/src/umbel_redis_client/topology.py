"""Which server holds a key: the only one, the one that Sentinel names, or a node of a Cluster."""

from __future__ import annotations

import random
import time
from abc import ABC, abstractmethod
from binascii import crc_hqx
from collections.abc import Sequence

import msgspec

from umbel_redis_client.addresses import Address, Endpoint
from umbel_redis_client.connection import connect
from umbel_redis_client.replies import ConnectionLostError, ReplyError

SLOTS = 16384
#: Seconds for which sentinels are believed, and for which they aren't asked after they didn't answer.
_SURE_S = 1.0
_UNANSWERED_S = 10.0
#: Longest that one who knows a master waits for a sentinel, in seconds.
_HASTY_S = 0.5


def slot_of(key: bytes) -> int:
    """Return the slot of `key`: of what stands in its first braces, unless that is empty.

    Source: the Redis Cluster specification, "Hash tags"; CRC16 as XMODEM has it.
    """
    start = key.find(b"{")
    if start >= 0:
        end = key.find(b"}", start + 1)
        if end > start + 1:
            key = key[start + 1 : end]
    return crc_hqx(key, 0) % SLOTS


class Topology(ABC):
    """Knows where to connect to for a key."""

    @abstractmethod
    def endpoint(self, slot: int | None) -> Endpoint:
        """Return the master for `slot`; any where it is None. Raises: ConnectionLostError."""

    def endpoints(self) -> Sequence[Endpoint]:
        """Return all masters. Raises: ConnectionLostError."""
        return (self.endpoint(None),)

    def forget(self) -> None:
        """Look anew at the next call: what was known has led to the wrong server, or to none."""

    def has_moved(self, endpoint: Endpoint) -> bool:
        """Ask whether `endpoint` is the master no more; False where nobody would know."""
        return False

    def learn(self, slot: int, owner: Endpoint) -> None:
        """Note what a node has said: who has `slot` now. Others may not know it yet."""


class Single(Topology):
    """One server."""

    def __init__(self, address: Address) -> None:
        self._endpoint = address.endpoints[0]

    def endpoint(self, slot: int | None) -> Endpoint:
        """Return the server."""
        return self._endpoint


class Sentinel(Topology):
    """The master that sentinels agree upon.

    One that was replaced doesn't know, for ten seconds or so, and what it takes then is lost: so
    they are asked again now and then.
    """

    def __init__(self, address: Address) -> None:
        self._address = address
        self._hasty = msgspec.structs.replace(
            address,
            timeout_s=min(address.timeout_s, _HASTY_S),
            connect_timeout_s=min(address.connect_timeout_s, _HASTY_S),
        )
        self._ask_again_at = 0.0
        self._sentinels = list(address.endpoints)
        self._master: Endpoint | None = None

    def endpoint(self, slot: int | None) -> Endpoint:
        """Return the master."""
        master = self._master
        if master is None:
            self._ask_again_at = time.monotonic() + _SURE_S
            master = self._master = self._ask(self._address)
        elif self.has_moved(master):
            master = self._master or master
        return master

    def forget(self) -> None:
        """Ask again at the next call."""
        self._master = None

    def has_moved(self, endpoint: Endpoint) -> bool:
        """Ask whether `endpoint` is the master no more; False where no sentinel says so."""
        if time.monotonic() >= self._ask_again_at:
            self._ask_again_at = time.monotonic() + _SURE_S  # so other threads don't ask as well
            try:
                self._master = self._ask(self._hasty, self._master)
            except (ConnectionLostError, ReplyError):
                self._ask_again_at = time.monotonic() + _UNANSWERED_S
        return self._master not in {None, endpoint}

    def _ask(self, address: Address, known: Endpoint | None = None) -> Endpoint:
        """Return the master that a sentinel names; looked at, unless it is the `known` one."""
        name = self._address.master or ""
        said: list[Exception] = []
        for sentinel in self._sentinels:
            try:
                connection = connect(address, sentinel, as_sentinel=True)
                try:
                    found = connection.call("SENTINEL", "GET-MASTER-ADDR-BY-NAME", name)
                finally:
                    connection.close()
                if found is None:
                    raise ConnectionLostError(f"{sentinel}: knows no master {name!r}")
                master = Endpoint(found[0].decode(), int(found[1]))
                if master != known:
                    self._check(master)
            except (ConnectionLostError, ReplyError) as exc:
                is_none = str(exc).startswith("ERR unknown command")
                said.append(ReplyError(f"{sentinel} is no sentinel") if is_none else exc)
                continue
            # Who answered is asked first the next time.
            self._sentinels = sorted(self._sentinels, key=lambda each: each != sentinel)
            return master
        raise _summed("no sentinel names a usable master", said)

    def _check(self, master: Endpoint) -> None:
        """Raise ConnectionLostError where a sentinel is behind: it names who isn't master."""
        connection = connect(self._address, master)
        try:
            role = connection.call("ROLE")[0]
        except ReplyError as exc:
            if exc.is_denied:  # the user may not ask; the first write will tell
                return
            raise
        finally:
            connection.close()
        if role != b"master":
            raise ConnectionLostError(f"{master}: is {role.decode()}, not master (any more)")


class Cluster(Topology):
    """The nodes of a Redis Cluster, each with its slots."""

    def __init__(self, address: Address) -> None:
        self._address = address
        self._nodes: list[Endpoint] = list(address.endpoints)
        self._owners: list[Endpoint | None] = []
        #: By slot: what isn't in the map that comes next, perhaps.
        self._learnt: dict[int, Endpoint] = {}

    def endpoint(self, slot: int | None) -> Endpoint:
        """Return the node that owns `slot`."""
        owners = self._owners or self._ask()
        owner = random.choice(self._nodes) if slot is None else owners[slot]
        if owner is None:
            self.forget()
            raise ConnectionLostError(f"no node of the Cluster owns slot {slot} now")
        return owner

    def endpoints(self) -> Sequence[Endpoint]:
        """Return all nodes that own slots."""
        owners = self._owners or self._ask()
        return tuple(dict.fromkeys(owner for owner in owners if owner is not None))

    def forget(self) -> None:
        """Ask for the map again at the next call."""
        self._owners = []

    def learn(self, slot: int, owner: Endpoint) -> None:
        """Correct the next map, which may come from a node that hasn't heard of it."""
        self._learnt[slot] = owner

    def _ask(self) -> list[Endpoint | None]:
        said: list[Exception] = []
        # Those that were named by the map last, then those of the URL: one of them lives.
        for node in dict.fromkeys((*self._nodes, *self._address.endpoints)):
            try:
                connection = connect(self._address, node)
                try:
                    ranges = connection.call("CLUSTER", "SLOTS")
                finally:
                    connection.close()
                if not ranges:
                    raise ConnectionLostError(f"{node}: knows no slots")
            except (ConnectionLostError, ReplyError) as exc:
                said.append(exc)
                continue
            owners: list[Endpoint | None] = [None] * SLOTS
            for first, last, master, *_ in ranges:
                # An empty host means: the one that was asked.
                owner = Endpoint((master[0] or b"").decode() or node.host, int(master[1]))
                owners[first : last + 1] = [owner] * (last - first + 1)
            learnt, self._learnt = self._learnt, {}
            for slot, owner in learnt.items():
                owners[slot] = owner
            self._owners = owners
            self._nodes = list(dict.fromkeys(each for each in owners if each)) or self._nodes
            return owners
        raise _summed("no node of the Cluster answers", said)


def _summed(what: str, said: Sequence[Exception]) -> Exception:
    """Return what to raise where nobody was of use: a refusal, where waiting wouldn't help."""
    refusals = [exc for exc in said if isinstance(exc, ReplyError) and not exc.is_passing]
    denials = [exc for exc in refusals if exc.is_denied]
    if denials or len(refusals) == len(said):
        return (denials or refusals)[0]
    return ConnectionLostError(f"{what}: {'; '.join(map(str, said))}")


def topology_of(address: Address) -> Topology:
    """Return the topology that `address` is about."""
    if address.master is not None:
        return Sentinel(address)
    return Cluster(address) if address.is_cluster else Single(address)
