"""One connection to one server: bytes out, replies in."""

from __future__ import annotations

import socket
import struct
from collections.abc import Callable
from typing import Any, ClassVar

import hiredis

from umbel_redis_client.addresses import Address, Endpoint
from umbel_redis_client.replies import ConnectionLostError, ReplyError

#: Turns the words of one command into bytes.
pack: Callable[[tuple[Any, ...]], bytes] = hiredis.pack_command

#: What `Reader.gets` returns while a reply isn't complete; no reply is this.
_INCOMPLETE: Any = object()
#: Room for what one read takes from the socket.
ROOM = 1 << 16
#: How the kernel is told a timeout: seconds and microseconds, each of 64 bits. Where it can't be
#: told, Python waits before each call: one more system call to send, and one to receive.
_TIMEVAL = struct.Struct("@ll")
_KERNEL_WAITS = _TIMEVAL.size == 16 and hasattr(socket, "MSG_DONTWAIT")
_NOW: int = getattr(socket, "MSG_DONTWAIT", 0)


class Connection:
    """A socket and a parser. Belongs to one thread at a time.

    Every error leaves it closed: what comes next on the wire could belong to another command.
    """

    __slots__ = ("_kernel_waits", "_reader", "_room", "_sock", "endpoint", "used_at")

    #: What a socket raises that would have to wait.
    _WOULD_BLOCK: ClassVar[tuple[type[Exception], ...]] = (BlockingIOError,)
    #: Whether the kernel may be told the timeout, since nothing stands between.
    _IS_PLAIN: ClassVar[bool] = True

    def __init__(self, sock: socket.socket, endpoint: Endpoint, *, room: int = ROOM) -> None:
        self._sock = sock
        self._reader = hiredis.Reader(
            protocolError=ConnectionLostError, replyError=ReplyError, notEnoughData=_INCOMPLETE
        )
        self._room: Any = bytearray(room)  # hiredis reads it, though its stubs say bytes
        self._kernel_waits = False
        self.endpoint = endpoint
        #: When it was last given back, by the machine's monotonic clock.
        self.used_at = 0.0

    def fileno(self) -> int:
        """Return the socket's number, for `select`; -1 once closed."""
        return self._sock.fileno()

    def set_timeout(self, timeout_s: float) -> None:
        """Let each read and write take at most `timeout_s` seconds, which is above 0."""
        self._kernel_waits = self._IS_PLAIN and _KERNEL_WAITS
        if not self._kernel_waits:
            self._sock.settimeout(timeout_s)
            return
        micros = max(round(timeout_s * 1_000_000), 1)
        length = _TIMEVAL.pack(*divmod(micros, 1_000_000))
        self._sock.settimeout(None)
        self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, length)
        self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, length)

    def send(self, data: bytes) -> None:
        """Send packed commands. Raises: ConnectionLostError."""
        try:
            self._sock.sendall(data)
        except OSError as exc:
            self.close()
            raise lost(self.endpoint, exc) from exc
        except BaseException:  # a task's time limit, Ctrl-C: how much was sent is unknown
            self.close()
            raise

    def read(self) -> Any:
        """Return the next reply, an error reply too. Raises: ConnectionLostError."""
        try:
            reply = self._reader.gets()
            while reply is _INCOMPLETE:
                self._feed()
                reply = self._reader.gets()
        except OSError as exc:
            self.close()
            raise lost(self.endpoint, exc) from exc
        except BaseException:
            self.close()
            raise
        return reply

    def arrived(self) -> list[Any]:
        """Return the replies that are complete by now, without waiting.

        Raises: ConnectionLostError.
        """
        replies: list[Any] = []
        is_all = False
        try:
            while True:
                while (reply := self._reader.gets()) is not _INCOMPLETE:
                    replies.append(reply)
                if is_all:
                    return replies
                is_all = self._feed_now()
        except self._WOULD_BLOCK:
            return replies
        except OSError as exc:
            if replies:  # they came before the end; the next call finds the end again
                return replies
            self.close()
            raise lost(self.endpoint, exc) from exc
        except BaseException:
            self.close()
            raise

    def _feed(self) -> None:
        count = self._sock.recv_into(self._room)
        if not count:
            raise ConnectionResetError("the server closed the connection")
        self._reader.feed(self._room, 0, count)

    def _feed_now(self) -> bool:
        """Take what is there without waiting; tell whether it surely was all."""
        if self._kernel_waits:
            count = self._sock.recv_into(self._room, 0, _NOW)
        else:
            timeout = self._sock.gettimeout()
            self._sock.settimeout(0)
            try:
                count = self._sock.recv_into(self._room)
            finally:
                self._sock.settimeout(timeout)
        if not count:
            raise ConnectionResetError("the server closed the connection")
        self._reader.feed(self._room, 0, count)
        return self._IS_PLAIN and count < len(self._room)

    def call(self, *args: str | bytes | float) -> Any:
        """Send one command and return its reply. Raises: ReplyError, ConnectionLostError."""
        self.send(pack(args))
        reply = self.read()
        if isinstance(reply, ReplyError):
            raise reply
        return reply

    @property
    def has_data(self) -> bool:
        """Whether some of what came wasn't returned yet: a reply, or a part of one."""
        return bool(self._reader.has_data())

    @property
    def is_stale(self) -> bool:
        """Whether the server has closed it, or sent what nobody asked for."""
        if self._reader.has_data():
            return True
        try:
            self._peek()
        except self._WOULD_BLOCK:
            return False
        except OSError:
            return True
        return True

    def _peek(self) -> None:
        """Look for a byte without waiting. Raises: BlockingIOError: none is there. OSError."""
        if self._kernel_waits:
            self._sock.recv(1, socket.MSG_PEEK | _NOW)
            return
        timeout = self._sock.gettimeout()
        self._sock.settimeout(0)
        try:
            self._sock.recv(1, socket.MSG_PEEK if self._IS_PLAIN else 0)  # TLS can't peek
        finally:
            self._sock.settimeout(timeout)

    def close(self) -> None:
        """Close the socket. Repeatable."""
        self._sock.close()


def connect(
    address: Address, endpoint: Endpoint, *, as_sentinel: bool = False, room: int = ROOM
) -> Connection:
    """Return a new connection, logged in and on its database.

    Raises: ReplyError: the server doesn't let this user in, or is still loading.
        ConnectionLostError: it can't be reached.
    """
    try:
        sock = _open(address, endpoint)
        if address.tls is None or endpoint.path is not None:
            connection = Connection(sock, endpoint, room=room)
        else:
            # Here, since `ssl` takes 5 MiB and 30 ms of each process.
            from umbel_redis_client.tls import secured  # noqa: PLC0415

            connection = secured(sock, endpoint, address.tls, room=room)
    except (OSError, UnicodeError) as exc:  # UnicodeError: of a name that no host can have
        raise lost(endpoint, exc) from exc
    try:
        _greet(connection, address, as_sentinel=as_sentinel)
        connection.set_timeout(address.timeout_s)
    except BaseException:
        connection.close()
        raise
    return connection


def _open(address: Address, endpoint: Endpoint) -> socket.socket:
    if endpoint.path is not None:
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            sock.settimeout(address.connect_timeout_s)
            sock.connect(endpoint.path)
        except BaseException:
            sock.close()
            raise
        return sock
    sock = socket.create_connection((endpoint.host, endpoint.port), address.connect_timeout_s)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    return sock


def _greet(connection: Connection, address: Address, *, as_sentinel: bool) -> None:
    user, password = address.username, address.password
    if as_sentinel:
        user, password = address.sentinel_username, address.sentinel_password
    has_login = bool(user) or password is not None
    if has_login:
        _log_in(connection, user, password or "")
    if address.db and not as_sentinel:
        connection.call("SELECT", address.db)
    elif not has_login:
        connection.call("PING")  # also tells what isn't Redis, asks for a password, or loads


def _log_in(connection: Connection, user: str | None, password: str) -> None:
    try:
        connection.call("AUTH", *((user,) if user else ()), password)
    except ReplyError as exc:
        if password and password in str(exc):  # a proxy that doesn't know AUTH repeats its words
            raise ReplyError(f"{exc.code} AUTH is refused") from None
        raise


def lost(endpoint: Endpoint, exc: Exception) -> ConnectionLostError:
    """Return the error that says what befell the connection to `endpoint`."""
    is_late = isinstance(exc, (TimeoutError, BlockingIOError))  # the latter from the kernel
    what = "no answer in time" if is_late else str(exc) or repr(exc)
    return ConnectionLostError(f"{endpoint}: {what}")
