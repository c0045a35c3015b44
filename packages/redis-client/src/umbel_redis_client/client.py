"""Calls to a Redis, wherever its keys are: one round trip a batch, whatever the batch is.

A client belongs to one process and may be used from several threads at once. A call is sent once:
where its reply is lost, the caller decides whether it may be repeated.
"""

from __future__ import annotations

import os
import time
import weakref
from collections.abc import Sequence
from hashlib import sha1
from typing import Any, NamedTuple

from umbel_redis_client.addresses import Address, Endpoint
from umbel_redis_client.connection import ROOM, Connection, connect, pack
from umbel_redis_client.replies import ConnectionLostError, ReplyError, raised
from umbel_redis_client.topology import Cluster, Sentinel, slot_of, topology_of

#: Seconds after which a connection is looked at before it is used again.
_FRESH_S = 0.2
#: How often a call follows a Cluster that is being resharded.
_MOST_REDIRECTIONS = 8

Arg = str | bytes | float


class Call(NamedTuple):
    """One command, packed, and a key that says which node gets it."""

    key: bytes
    data: bytes

    @classmethod
    def of(cls, command: str, key: str, *args: Arg) -> Call:
        """Return a command whose first argument is its key."""
        return cls(key.encode(), pack((command, key, *args)))


class Script:
    """A Lua script. Its keys must be of one slot."""

    __slots__ = ("sha", "source")

    def __init__(self, source: str) -> None:
        self.source = source
        self.sha = sha1(source.encode(), usedforsecurity=False).hexdigest()


class Run(NamedTuple):
    """One run of a script."""

    script: Script
    keys: Sequence[str | bytes]
    args: Sequence[Arg]

    def call(self) -> Call:
        """Return the command for a server that knows the script."""
        return self._call("EVALSHA", self.script.sha)

    def teaching_call(self) -> Call:
        """Return the command for one that doesn't."""
        return self._call("EVAL", self.script.source)

    def _call(self, command: str, script: str) -> Call:
        keys = self.keys
        return Call(_bytes(keys[0]), pack((command, script, len(keys), *keys, *self.args)))


class Client:
    """Connections to one Redis, made when needed and kept."""

    def __init__(self, address: Address) -> None:
        self.address = address
        self.prefix = address.prefix
        self._topology = topology_of(address)
        self.is_cluster = isinstance(self._topology, Cluster)
        #: Whether another server may become the master, without a word from the one that was.
        self.may_move = isinstance(self._topology, Sentinel)
        self._idle: dict[Endpoint, list[Connection]] = {}
        self._pid = os.getpid()
        # Whoever drops a client without `close` leaves no connection behind.
        weakref.finalize(self, _close_all, self._idle).atexit = False

    # -- calls --------------------------------------------------------------------------------

    def call(self, key: str | bytes, *args: Arg) -> Any:
        """Do one command on the node of `key`; return its reply.

        Raises: ReplyError: the server refused. ConnectionLostError: no answer.
        """
        return raised(self.pipeline([Call(_bytes(key), pack(args))]))[0]

    def eval(self, script: Script, keys: Sequence[str | bytes], args: Sequence[Arg]) -> Any:
        """Run `script` on the node of its first key; return its reply.

        Raises: ReplyError: the server or the script refused. ConnectionLostError: no answer.
        """
        return self.run(script, keys, args)[0]

    def run(
        self,
        script: Script,
        keys: Sequence[str | bytes],
        args: Sequence[Arg],
        *,
        along: Sequence[Call] = (),
    ) -> list[Any]:
        """Do the calls `along`, then run `script`, in one round trip; return all replies.

        Args:
            script: What to run.
            keys: Its keys.
            args: Its arguments.
            along: What to do before.
        Raises: ReplyError: the server or the script refused; refusals of `along` stand in their
            places. ConnectionLostError: no answer.
        """
        run = Run(script, keys, args)
        replies = self.pipeline([*along, run.call()])
        replies[-1] = raised(self.taught([run], replies[-1:]))[0]
        return replies

    def scripts(
        self, script: Script, runs: Sequence[tuple[Sequence[str | bytes], Sequence[Arg]]]
    ) -> list[Any]:
        """Run `script` several times in one round trip; return replies, errors among them."""
        each = [Run(script, keys, args) for keys, args in runs]
        return self.taught(each, self.pipeline([run.call() for run in each]))

    def taught(self, runs: Sequence[Run], replies: list[Any]) -> list[Any]:
        """Return `replies` to `runs`, having repeated those whose script the server didn't know.

        Raises: ConnectionLostError.
        """
        left = [index for index, reply in enumerate(replies) if _lacks_script(reply)]
        if left:
            again = self.pipeline([runs[index].teaching_call() for index in left])
            for index, reply in zip(left, again, strict=True):
                replies[index] = reply
        return replies

    def pipeline(self, calls: Sequence[Call]) -> list[Any]:
        """Do `calls` in one round trip a node, all nodes at once; no transaction.

        Returns: Replies in order; a refusal stands as a `ReplyError` in its place.
        Raises: ConnectionLostError: no answer to some; unknown what was done.
        """
        if not calls:
            return []
        if self.is_cluster:
            return self._to_nodes(calls)
        data = calls[0].data if len(calls) == 1 else b"".join([each.data for each in calls])
        return self.exchange(data, len(calls))

    def exchange(self, data: bytes, count: int) -> list[Any]:
        """Send packed commands to the one server, and return its `count` replies.

        Not for a Cluster. Raises: ConnectionLostError.
        """
        endpoint = self._topology.endpoint(None)
        connection = self._take(endpoint)
        try:
            connection.send(data)
            replies = [connection.read() for _ in range(count)]
        except ConnectionLostError:
            self._lose(endpoint)
            raise
        self._put_back(connection)
        for reply in replies:
            if isinstance(reply, ReplyError) and reply.is_misplaced:
                self._lose(endpoint)
        return replies

    def each_node(self, *args: Arg) -> list[Any]:
        """Do one command on every node that holds keys; return the replies, by node."""
        return [self._exchange_at(node, [pack(args)])[0] for node in self._topology.endpoints()]

    def scan(self, pattern: str | bytes) -> list[bytes]:
        """Return all keys that match `pattern`; takes a while where there are many."""
        found: dict[bytes, None] = {}
        for node in self._topology.endpoints():
            cursor = b"0"
            while True:
                data = pack(("SCAN", cursor, "MATCH", pattern, "COUNT", 1000))
                cursor, keys = raised(self._exchange_at(node, [data]))[0]
                found.update(dict.fromkeys(keys))
                if cursor == b"0":
                    break
        return list(found)

    def dedicated(self, key: str | bytes | None = None, *, room: int = ROOM) -> Connection:
        """Return a connection of the caller's own to the node of `key`, to wait on.

        Raises: ReplyError, ConnectionLostError.
        """
        slot = None if key is None or not self.is_cluster else slot_of(_bytes(key))
        endpoint = self._topology.endpoint(slot)
        try:
            return connect(self.address, endpoint, room=room)
        except ConnectionLostError:
            self._lose(endpoint)
            raise

    def server_time(self) -> float:
        """Return the wall clock of a server: unix seconds. Raises: as `call`."""
        seconds, micros = self.call("", "TIME")
        return int(seconds) + int(micros) / 1_000_000

    def close(self) -> None:
        """Close all connections; they are made anew when needed. Repeatable."""
        _close_all(self._idle)

    # -- a Cluster ----------------------------------------------------------------------------

    def _to_nodes(self, calls: Sequence[Call]) -> list[Any]:
        replies: list[Any] = [None] * len(calls)
        left = list(range(len(calls)))
        for turn in range(_MOST_REDIRECTIONS):
            groups: dict[Endpoint, list[int]] = {}
            for index in left:
                key = calls[index].key
                endpoint = self._topology.endpoint(slot_of(key) if key else None)
                groups.setdefault(endpoint, []).append(index)
            self._exchange_all(groups, calls, replies)
            left = [index for index in left if self._is_redirected(calls, replies, index)]
            if not left:
                return replies
            self._topology.forget()
            for index in left:
                if (owner := self._named_by(replies[index])) is not None:
                    self._topology.learn(slot_of(calls[index].key), owner)
            time.sleep(0.01 * turn)  # a slot that moves has its new owner in a moment
        for index in left:
            if replies[index].code in {"MOVED", "ASK"}:
                replies[index] = ReplyError(f"TRYAGAIN the Cluster isn't at rest: {replies[index]}")
        return replies

    def _exchange_all(
        self, groups: dict[Endpoint, list[int]], calls: Sequence[Call], replies: list[Any]
    ) -> None:
        taken: list[tuple[Connection, list[int]]] = []
        try:
            for endpoint, indexes in groups.items():
                connection = self._take(endpoint)
                taken.append((connection, indexes))
                connection.send(b"".join([calls[index].data for index in indexes]))
            for connection, indexes in taken:
                for index in indexes:
                    replies[index] = connection.read()
        except BaseException:
            for connection, _ in taken:  # replies may be under way in each
                connection.close()
            self.forget()
            raise
        for connection, _ in taken:
            self._put_back(connection)

    def _is_redirected(self, calls: Sequence[Call], replies: list[Any], index: int) -> bool:
        """Follow an ASK at once; tell whether a call is to be sent anew by a new map."""
        reply = replies[index]
        if not isinstance(reply, ReplyError):
            return False
        if reply.code == "ASK" and (endpoint := self._named_by(reply)) is not None:
            data = [pack(("ASKING",)), calls[index].data]
            replies[index] = reply = self._exchange_at(endpoint, data)[1]
            if not isinstance(reply, ReplyError):
                return False
        return reply.code in {"MOVED", "ASK", "TRYAGAIN", "CLUSTERDOWN"} or reply.is_misplaced

    @staticmethod
    def _named_by(reply: ReplyError) -> Endpoint | None:
        """Return the node that a MOVED or ASK names; None where it names none."""
        words = str(reply).split()
        if words[0] not in {"MOVED", "ASK"}:
            return None
        host, _, port = words[2].rpartition(":")
        return Endpoint(host, int(port)) if host else None

    def _exchange_at(self, endpoint: Endpoint, commands: Sequence[bytes]) -> list[Any]:
        connection = self._take(endpoint)
        try:
            connection.send(b"".join(commands))
            replies = [connection.read() for _ in commands]
        except ConnectionLostError:
            self._lose(endpoint)
            raise
        self._put_back(connection)
        return replies

    # -- connections --------------------------------------------------------------------------

    def forget(self) -> None:
        """Close what is idle and look anew for the master."""
        self.close()
        self._topology.forget()

    def has_moved(self, endpoint: Endpoint) -> bool:
        """Tell whether `endpoint`, to which somebody is connected, is the master no more.

        For who waits: a master that was replaced goes on answering for ten seconds or so, until
        Sentinel makes a replica of it. Costs a round trip or two, once a second at most.
        """
        return self._topology.has_moved(endpoint)

    def _lose(self, endpoint: Endpoint) -> None:
        """Close what is idle there, as it leads nowhere either, and look for the master anew."""
        for connection in self._idle.pop(endpoint, ()):
            connection.close()
        self._topology.forget()

    def _take(self, endpoint: Endpoint) -> Connection:
        if self._pid != os.getpid():
            # After a fork these are the parent's: closing them here ends nothing there.
            self.close()
            self._pid = os.getpid()
        idle = self._idle.get(endpoint)
        while idle:
            try:
                connection = idle.pop()
            except IndexError:  # another thread was quicker
                break
            if time.monotonic() - connection.used_at < _FRESH_S or not connection.is_stale:
                return connection
            connection.close()
        try:
            return connect(self.address, endpoint)
        except ConnectionLostError:
            self._lose(endpoint)
            raise

    def _put_back(self, connection: Connection) -> None:
        connection.used_at = time.monotonic()
        self._idle.setdefault(connection.endpoint, []).append(connection)


def _close_all(idle: dict[Endpoint, list[Connection]]) -> None:
    while idle:
        try:
            _, connections = idle.popitem()
        except KeyError:  # another thread was quicker
            return
        for connection in connections:
            connection.close()


def _lacks_script(reply: Any) -> bool:
    return isinstance(reply, ReplyError) and reply.code == "NOSCRIPT"


def _bytes(key: str | bytes) -> bytes:
    return key.encode() if isinstance(key, str) else key
