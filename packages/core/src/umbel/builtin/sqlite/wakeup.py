"""Wait for other processes without polling: a datagram on the loopback interface.

Whoever waits has a row in `listeners`: a UDP port and the topic it waits for. Whoever writes reads
the rows of the topic inside its transaction and rings these ports after the commit. A waiting
thread registers first and looks afterwards, so a write either comes before its look or rings.
The datagram means "look again" and nothing else; a lost one costs at most `RECHECK_S`.

A listener that can't be rung, in another container or where sockets are forbidden, is told so by
the mark `poll_until` in its row, and watches the time of SQLite's log meanwhile.
"""

from __future__ import annotations

import socket
import sqlite3
import threading
import time
import weakref
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Final, TypeVar

from umbel.builtin.sqlite import forks
from umbel.builtin.sqlite.store import Store
from umbel.errors import UmbelError

T = TypeVar("T")

#: Seconds after which a waiting thread looks again by itself.
RECHECK_S: Final = 1.0
#: Seconds between two looks at the log's time where nobody can ring.
POLL_S: Final = 0.018
#: Seconds that a registration lasts, and the rest of it at which it is renewed.
REGISTRATION_S: Final = 60.0
RENEWAL_S: Final = 35.0
#: Seconds before a mark to poll ends at which its listener looks for a newer one.
POLLING_RENEWAL_S: Final = 10.0

_LOOPBACK: Final = "127.0.0.1"
_RECEIVE_BUFFER: Final = 2048
_DATAGRAM: Final = b"umbel"

_LISTENERS = "SELECT port, reach, poll_until FROM listeners WHERE topic = ? AND expires_at > ?"
_POLLING = "UPDATE listeners SET poll_until = ? WHERE topic = ? AND reach <> ?"
_REGISTER = (
    "INSERT INTO listeners (topic, port, reach, expires_at) VALUES (?, ?, ?, ?) "
    "ON CONFLICT (topic, reach, port) DO UPDATE SET expires_at = excluded.expires_at"
)
_PRUNE = "DELETE FROM listeners WHERE expires_at <= ?"
_FORGET = "DELETE FROM listeners WHERE port = ? AND reach = ?"
_TOLD_TO_POLL = "SELECT max(poll_until) FROM listeners WHERE reach = ? AND port = ?"


class Wakeup:
    """One handle's waiting threads, and its way to wake those of others."""

    def __init__(self, store: Store):
        self._store = store
        self._idle: list[_Ear] = []
        self._waiting: list[_Ear] = []
        self._bell: socket.socket | None = None
        self._bell_lock = threading.Lock()
        self._reach = _reach()
        self._asked = 0
        self._answered = 0
        self._closed = False
        # A handle that is dropped without `close`, or lives until the exit, frees them too.
        self._sockets: list[socket.socket] = []
        weakref.finalize(self, _close_all, self._sockets)
        forks.track(self)

    def wait(
        self,
        topics: Sequence[str],
        look: Callable[[], tuple[T, float | None]],
        timeout_s: float,
    ) -> T:
        """Return what `look` finds, as soon as it finds something, within `timeout_s` seconds.

        Real seconds, whatever the clock of the handle: they bound a wait on a socket.

        Args:
            topics: What to be woken for.
            look: Returns what is there (false: nothing), and seconds until it is worth looking
                again although nobody rings (None: no such time is known).
        Returns: The last thing looked at, at the time's end or after `interrupt`.
        """
        answered = self._answered
        found, pause_s = look()
        if found or timeout_s <= 0:
            return found
        until = time.monotonic() + timeout_s
        ear = self._ear()
        self._waiting.append(ear)
        try:
            while not found and self._asked == answered:
                if ear.listen(topics):  # what was written before it listened didn't ring
                    found, pause_s = look()
                left_s = until - time.monotonic()
                if found or left_s <= 0:
                    return found
                if pause_s is not None:
                    left_s = min(left_s, max(pause_s, 0.0))
                ear.wait(min(left_s, RECHECK_S), lambda: self._asked != answered)
                if self._asked == answered:
                    found, pause_s = look()
            self._answered = self._asked
            return found
        except UmbelError:
            if not self._closed:
                raise
            return found
        finally:
            self._waiting.remove(ear)
            if self._closed:
                ear.close()
            else:
                self._idle.append(ear)

    def interrupt(self) -> None:
        """Make each thread that waits return; where none does, the next one that would.

        Takes no lock: a signal handler may call it on the thread that waits.
        """
        self._asked += 1
        for ear in tuple(self._waiting):
            ear.wake()

    def listeners(self, cx: sqlite3.Connection, topics: Iterable[str]) -> list[int]:
        """Return the ports to ring after the commit of the transaction that this is part of."""
        ports: list[int] = []
        now = time.time()
        for topic in topics:
            unreached = False
            for port, reach, poll_until in cx.execute(_LISTENERS, (topic, now)).fetchall():
                if reach == self._reach and reach:
                    ports.append(port)
                elif not isinstance(poll_until, float) or poll_until < now + RENEWAL_S:
                    unreached = True
            if unreached:
                cx.execute(_POLLING, (now + REGISTRATION_S, topic, self._reach))
        return ports

    def ring(self, ports: Iterable[int]) -> None:
        """Wake who listens at `ports`. Never fails: they look by themselves after a while."""
        for port in ports:
            try:
                self._opened_bell().sendto(_DATAGRAM, (_LOOPBACK, port))
            except (OSError, OverflowError, TypeError):  # gone, or a damaged row
                continue

    def close(self) -> None:
        """End the waits of all threads and free the sockets. Repeatable."""
        self._closed = True
        self.interrupt()
        ears, self._idle = self._idle, []
        for ear in ears:
            ear.close()
        with self._bell_lock:
            bell, self._bell = self._bell, None
        if bell is not None:
            bell.close()

    def _ear(self) -> _Ear:
        try:
            return self._idle.pop()
        except IndexError:
            ear = _Ear(self._store, self._reach)
            if ear.socket is not None:
                self._sockets.append(ear.socket)
            return ear

    def _opened_bell(self) -> socket.socket:
        if self._bell is None:
            with self._bell_lock:
                if self._bell is None:
                    bell = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
                    bell.setblocking(False)
                    self._sockets.append(bell)
                    self._bell = bell
        return self._bell

    def before_fork(self) -> None:
        """Nothing: it holds no lock."""

    def after_fork_in_parent(self) -> None:
        """Nothing."""

    def after_fork_in_child(self) -> None:
        """Leave the sockets to the parent: a datagram reaches only one of those who share one."""
        _close_all(self._sockets)
        self._idle, self._waiting, self._bell = [], [], None
        self._bell_lock = threading.Lock()


class _Ear:
    """The port that one waiting thread listens at."""

    def __init__(self, store: Store, reach: str):
        self._store = store
        self._reach = reach
        self.socket = _open_socket() if reach else None
        #: 0: sockets are forbidden here.
        self.port: int = 0 if self.socket is None else self.socket.getsockname()[1]
        self._registered: dict[str, float] = {}
        self._epoch = -1
        self._poll_until = 0.0
        self._asked_at = 0.0
        self._seen: tuple[int, int] | None = None

    def listen(self, topics: Sequence[str]) -> bool:
        """Make sure that whoever writes from now on rings here; True: look once more."""
        now = time.time()
        if self._poll_until and now > self._poll_until - POLLING_RENEWAL_S:
            self._ask_whether_to_poll()
        polls = self.socket is None or now < self._poll_until
        if polls:
            self._seen = self._store.version()
        if self.socket is None:
            return True
        if self._epoch != self._store.epoch:
            self._registered.clear()
        late = now + RENEWAL_S
        missing = [topic for topic in topics if self._registered.get(topic, 0.0) < late]
        if not missing:
            return polls
        _drain(self.socket)
        self._store.write(_register, missing, self.port, self._reach, now)
        self._registered.update(dict.fromkeys(missing, now + REGISTRATION_S))
        self._epoch = self._store.epoch
        return True

    def wake(self) -> None:
        """Ring at this port. Never fails."""
        try:
            if self.socket is not None:
                self.socket.sendto(_DATAGRAM, (_LOOPBACK, self.port))
        except OSError:
            return

    def wait(self, seconds: float, interrupted: Callable[[], bool]) -> None:
        """Return once it rings, something is written, `interrupted`, or `seconds` are over."""
        if self.socket is not None and self._seen is None:
            if not _heard(self.socket, seconds):
                self._ask_whether_to_poll()
            return
        until = time.monotonic() + seconds
        while (left_s := until - time.monotonic()) > 0 and not interrupted():
            time.sleep(min(left_s, POLL_S))
            if self._store.version() != self._seen:
                break
        self._seen = None

    def close(self) -> None:
        """Free the port, in the file too where that costs no waiting."""
        if self.socket is None:
            return
        self.socket.close()
        self.socket = None
        if self._registered and not self._store.closed:
            self._store.attempt(_forget, self.port, self._reach)

    def _ask_whether_to_poll(self) -> None:
        """Look, at most once a second, for the mark of somebody who can't ring here."""
        now = time.time()
        if self._registered and not now - RECHECK_S < self._asked_at <= now:
            self._poll_until = self._store.read(_told_to_poll, self._reach, self.port)
            self._asked_at = now


def _heard(listening: socket.socket, seconds: float) -> bool:
    try:
        listening.settimeout(seconds)
        listening.recv(16)
    except OSError:  # TimeoutError; on Windows also ConnectionResetError, for what it sent before
        return False
    _drain(listening)
    return True


def _drain(listening: socket.socket) -> None:
    """Take what rang meanwhile: one look answers it all."""
    try:
        listening.setblocking(False)
        while True:
            listening.recv(16)
    except OSError:
        return


def _close_all(sockets: list[socket.socket]) -> None:
    while sockets:
        sockets.pop().close()


def _open_socket() -> socket.socket | None:
    """Return a bound socket that hears itself; None where there is no such thing."""
    try:
        made = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    except OSError:
        return None
    try:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _RECEIVE_BUFFER)
        made.bind((_LOOPBACK, 0))
        made.settimeout(0.5)
        made.sendto(_DATAGRAM, made.getsockname())
        made.recv(16)
    except OSError:
        made.close()
        return None
    return made


def _reach() -> str:
    """Return what is equal for processes that reach each other's loopback; "": nobody does."""
    try:
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM).close()
    except OSError:
        return ""
    try:
        return str(Path("/proc/self/ns/net").stat().st_ino)
    except OSError:
        return "host"


def _register(
    cx: sqlite3.Connection, topics: Sequence[str], port: int, reach: str, now: float
) -> None:
    cx.execute(_PRUNE, (now,))
    until = now + REGISTRATION_S
    cx.executemany(_REGISTER, [(topic, port, reach, until) for topic in topics])


def _forget(cx: sqlite3.Connection, port: int, reach: str) -> None:
    cx.execute(_FORGET, (port, reach))


def _told_to_poll(cx: sqlite3.Connection, reach: str, port: int) -> float:
    until = cx.execute(_TOLD_TO_POLL, (reach, port)).fetchone()[0]
    return until if isinstance(until, float) else 0.0
