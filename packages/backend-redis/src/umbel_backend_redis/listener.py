"""The one connection of a handle's subscriptions, and the thread that keeps it."""

from __future__ import annotations

import os
import random
import socket
import threading
from collections import deque
from contextlib import suppress
from typing import Final
from weakref import WeakSet

from umbel.errors import UmbelError
from umbel_backend_redis.inbox import Inbox
from umbel_backend_redis.subscribed_connection import SubscribedConnection, rings
from umbel_redis_client import Client, ConnectionLostError, Failures

#: Seconds until a lost connection is made anew: at first, and at most. Less by up to a half, so
#: that a fleet doesn't come back at one instant.
_FIRST_PAUSE_S: Final = 0.1
_LONGEST_PAUSE_S: Final = 1.0
#: Seconds that `join` waits beyond what connecting may take.
_GRACE_S: Final = 10.0
#: Seconds that `close` waits for the thread.
_CLOSING_S: Final = 1.0


class Listener:
    """Keeps a connection while there are subscriptions, and none while there aren't."""

    def __init__(self, client: Client, key: bytes, failures: Failures) -> None:
        self._client = client
        self._key = key  # says which node of a Cluster
        self._failures = failures
        self._members: dict[Inbox, None] = {}
        #: Members that nobody can poll any more; noted by the garbage collector, which may come
        #: in the middle of anything.
        self._dropped: deque[Inbox] = deque()
        self._be_alone()
        _ALL.add(self)

    def _be_alone(self) -> None:
        #: Guards members and thread; told of what was confirmed and of what failed.
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None
        #: Wakes the thread.
        self._bell: socket.socket | None = None
        self._serving: SubscribedConnection | None = None
        #: Attempts that failed: since the last that didn't, and in all; and why the last did.
        self._in_a_row = self._failed = 0
        self._failure: Exception = ConnectionLostError("no answer in time")

    # -- for subscriptions --------------------------------------------------------------------

    def join(self, member: Inbox) -> None:
        """Listen for `member`; returns once Redis has confirmed it.

        Raises: BackendUnavailableError, BackendError.
        """
        patience_s = self._client.address.connect_timeout_s + _GRACE_S
        with self._changed:
            failed = self._failed
            self._members[member] = None
            try:
                self._start()
                self._changed.wait_for(
                    lambda: member.is_heard or self._failed != failed, patience_s
                )
            finally:  # Ctrl-C, too
                if not member.is_heard:
                    self.leave(member)
            if not member.is_heard:
                raise self.told(self._failure) from self._failure

    def leave(self, member: Inbox) -> None:
        """Listen for `member` no longer. Repeatable."""
        with self._changed:
            if member in self._members:
                del self._members[member]
                self._ring()

    def drop(self, member: Inbox) -> None:
        """Listen for `member` no longer, from the next time on that the thread looks."""
        self._dropped.append(member)

    def ensure(self, member: Inbox) -> None:
        """Listen for `member` in a process that was forked, too."""
        if self._thread is None:
            with self._changed:
                if member in self._members:
                    self._start()

    def told(self, exc: Exception) -> UmbelError:
        """Return what to raise in the place of `exc`."""
        return self._failures.told(exc)

    def close(self) -> None:
        """End all subscriptions and the connection. Repeatable."""
        with self._changed:
            for member in self._members:
                member.end()
            self._members.clear()
            self._ring()
            thread = self._thread
        if thread is not None and thread is not threading.current_thread():
            thread.join(_CLOSING_S)

    # -- the thread ---------------------------------------------------------------------------

    def _start(self) -> None:
        """Have a thread that looks at the members now."""
        if self._thread is not None:
            self._ring()
            return
        try:
            heard, self._bell = socket.socketpair()
        except OSError as exc:  # no more files
            raise self.told(exc) from exc
        heard.setblocking(False)
        self._bell.setblocking(False)
        self._thread = threading.Thread(
            target=self._run, args=(heard, self._bell), name="umbel-subscriptions", daemon=True
        )
        self._thread.start()

    def _ring(self) -> None:
        if self._bell is not None:
            with suppress(BlockingIOError):  # it rings already
                self._bell.send(b"\0")

    def _run(self, heard: socket.socket, bell: socket.socket) -> None:
        with heard, bell:
            while self._present():
                try:
                    self._serve(heard)
                except Exception as exc:  # noqa: BLE001 - else nobody would ever hear again
                    self._fail(exc)
                    pause_s = min(_FIRST_PAUSE_S * 2.0**self._in_a_row, _LONGEST_PAUSE_S)
                    self._in_a_row = min(self._in_a_row + 1, 10)
                    rings(heard, pause_s * random.uniform(0.5, 1.0))

    def _present(self) -> list[Inbox]:
        """Return the members. Where there are none, the thread is done, and isn't ours any more."""
        with self._changed:
            while self._dropped:
                self._members.pop(self._dropped.popleft(), None)
            if not self._members:
                self._thread = self._bell = None
            return list(self._members)

    def _serve(self, heard: socket.socket) -> None:
        """Listen as long as there are members. Raises: ReplyError, ConnectionLostError, OSError."""
        self._serving = serving = SubscribedConnection(self._client.dedicated(self._key), heard)
        try:
            while members := self._present():
                if serving.serve(members):
                    self._in_a_row = 0
                    with self._changed:
                        self._changed.notify_all()
        finally:
            self._serving = None
            serving.close()

    def _fail(self, exc: Exception) -> None:
        self._client.forget()  # whoever was master may not be any more
        with self._changed:
            self._failure = exc
            self._failed += 1
            for member in self._members:
                member.lose(exc)
            self._changed.notify_all()

    # -- after a fork -------------------------------------------------------------------------

    def after_fork(self) -> None:
        """Be without a thread; the connection is the parent's. In the child, by its one thread."""
        serving, bell = self._serving, self._bell
        self._be_alone()
        for member in self._members:
            member.forget()
        if serving is not None:
            serving.close()
        if bell is not None:
            bell.close()


#: Those of this process.
_ALL: WeakSet[Listener] = WeakSet()


def _after_fork() -> None:
    for listener in list(_ALL):
        listener.after_fork()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
