"""All who wait for results in one process, over one connection.

Whoever waits alone reads the connection itself, so that nothing passes from thread to thread. Of
several, one reads and hands out; when it has what it wants another one goes on.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress

from umbel.outcomes import StoredResult
from umbel.states import is_final
from umbel_backend_redis.feed import Feed
from umbel_backend_redis.records import read
from umbel_redis_client import ConnectionLostError, Endpoint, ReplyError

#: Seconds after which what is waited for is read anew, in case that a notification was missed.
_RECHECK_S = 1.0
#: Seconds between two looks for channels that nobody waits for any more.
_TIDY_S = 1.0
#: Seconds between two questions whether the server is still the master, while nothing arrives.
_QUIET_S = 2.0

Load = Callable[[Sequence[str]], Mapping[str, StoredResult]]


class _Wait:
    """One call of `Waits.wait`."""

    __slots__ = ("found", "ids", "is_interrupted", "losses", "turn")

    def __init__(self, task_ids: Sequence[str]) -> None:
        self.ids = frozenset(task_ids)
        self.found: dict[str, StoredResult] = {}
        self.is_interrupted = False
        #: How often the connection was lost meanwhile.
        self.losses = 0
        #: Set when it is over, or its turn to read; None while it reads.
        self.turn: threading.Event | None = None


class Waits:
    """Who waits in this process. Methods may be called from several threads at once.

    Args:
        open_feed: Returns a new connection to be told on.
        load: Reads results in the ordinary way.
        has_moved: Asks whether the server of a feed is the master no more.
    """

    def __init__(
        self, open_feed: Callable[[], Feed], load: Load, has_moved: Callable[[Endpoint], bool]
    ) -> None:
        self._open_feed, self._load, self._has_moved = open_feed, load, has_moved
        # Guards all below, and what is sent and taken; never held while waiting or connecting.
        self._lock = threading.Lock()
        self._waits: dict[_Wait, None] = {}
        self._reader: _Wait | None = None
        self._feed: Feed | None = None
        # If one of these has a final result, it is yet to come over the connection.
        self._subscribed: set[str] = set()
        # Their result came: to be unsubscribed with what is sent next.
        self._over: set[str] = set()
        # For the reader: what it is told of without being told all.
        self._to_read: list[str] = []
        # Nobody waited for these when it was last looked.
        self._idle: set[str] = set()
        self._tidied_at = 0.0
        # When it was last asked for the master.
        self._asked_at = time.monotonic()
        self._is_closing = False
        self._interrupts = 0
        # How many interrupts a thread has seen: one may come just before it waits.
        self._seen = threading.local()

    # -- from any thread ----------------------------------------------------------------------

    def wait(self, task_ids: Sequence[str], timeout_s: float) -> dict[str, StoredResult]:
        """Do as `Backend.wait`. Raises: ReplyError, ConnectionLostError, BackendError."""
        if timeout_s <= 0 or self._was_interrupted():
            return self._final(task_ids)
        wait = _Wait(task_ids)
        ends_at = time.monotonic() + timeout_s
        try:
            self._begin(wait)
            is_in_time = self._go_on(wait, ends_at)
        except BaseException:
            self._end(wait, is_in_time=True)
            raise
        self._end(wait, is_in_time=is_in_time)
        return wait.found

    def interrupt(self) -> None:
        """End all waits, and the next one of each thread that doesn't wait now."""
        with self._lock:
            self._interrupts += 1
            for wait in self._waits:
                wait.is_interrupted = True
                self._rouse(wait)

    def close(self) -> None:
        """End all waits and the connection. Repeatable; whoever waits next opens another."""
        self.interrupt()
        with self._lock:
            self._is_closing = True
            if not self._waits:
                self._drop()

    # -- one wait -----------------------------------------------------------------------------

    def _begin(self, wait: _Wait) -> None:
        with self._lock:
            self._waits[wait] = None
            if self._feed is not None:
                try:
                    self._subscribe(self._feed, wait)
                except ConnectionLostError:
                    if self._reader is None:
                        self._drop()
                    else:  # it finds out, and connects anew for all
                        self._feed.wake()

    def _go_on(self, wait: _Wait, ends_at: float) -> bool:
        """Return once it has what it wants; False at the end of its time."""
        recheck_at = time.monotonic() + _RECHECK_S
        while not wait.found and not wait.is_interrupted:
            now = time.monotonic()
            if now >= ends_at:
                return False
            if now >= recheck_at:
                recheck_at = now + _RECHECK_S
                self._read_anew(list(wait.ids), wait)
            elif self._may_read(wait):
                feed = self._feed or self._connect()
                try:
                    self._read(wait, feed, min(ends_at, recheck_at) - now)
                except ConnectionLostError:
                    wait.losses += 1
                    with self._lock:
                        self._drop()
                    # Redis cuts off a subscriber that it has 32 MB for: those are read otherwise.
                    with suppress(ConnectionLostError):
                        self._read_anew(list(wait.ids), wait)
                    if wait.losses > 1 and not wait.found:
                        raise
            elif wait.turn is not None:
                wait.turn.wait(min(ends_at, recheck_at) - now)
        return True

    def _end(self, wait: _Wait, *, is_in_time: bool) -> None:
        with self._lock:
            self._waits.pop(wait, None)
            if wait.is_interrupted:
                self._seen.count = self._interrupts
            if self._reader is wait:
                self._reader = None
            if self._reader is None:
                for other in self._waits:  # one of them reads on
                    self._rouse(other)
                    break
            if not self._waits:
                self._nobody_waits(is_in_time=is_in_time)

    def _nobody_waits(self, *, is_in_time: bool) -> None:
        if self._is_closing:
            self._drop()
        elif not is_in_time and self._feed is not None:
            # Who got something, or was interrupted, often comes back with the same ids at once.
            self._over |= self._subscribed
            self._subscribed.clear()
            try:
                self._send(self._feed, ())
            except ConnectionLostError:
                self._drop()

    def _may_read(self, wait: _Wait) -> bool:
        """Tell whether it is the one who reads; else it has its `turn` to wait for."""
        with self._lock:
            if wait.found or wait.is_interrupted:  # just now
                return False
            if self._reader is None:
                self._reader = wait
            if self._reader is wait:
                wait.turn = None
                return True
            if wait.turn is None:
                wait.turn = threading.Event()
            wait.turn.clear()
            return False

    # -- as the reader ------------------------------------------------------------------------

    def _read(self, wait: _Wait, feed: Feed, timeout_s: float) -> None:
        if wait.is_interrupted:  # while it connected
            return
        feed.ready(timeout_s)
        with self._lock:
            try:
                arrived = feed.take()
            except ReplyError:
                self._drop()
                raise
            self._to_read += arrived.to_read
            for task_id, value in arrived.values:
                result = read(task_id, value)
                if result is None:
                    self._to_read.append(task_id)
                elif is_final(result.state):
                    self._hand_out(result, wait)
        if self._to_read:
            self._read_anew(self._to_read, wait)
            self._to_read = []
        elif not arrived.values and time.monotonic() - self._asked_at > _QUIET_S:
            self._asked_at = time.monotonic()
            if self._has_moved(feed.endpoint):
                raise ConnectionLostError("another server is the master now")

    def _connect(self) -> Feed:
        feed = self._open_feed()
        with self._lock:
            self._feed = feed
            for wait in self._waits:
                self._subscribe(feed, wait)
        return feed

    def _read_anew(self, task_ids: Sequence[str], wait: _Wait) -> None:
        found = self._load(task_ids)
        with self._lock:
            for result in found.values():
                if is_final(result.state):
                    self._hand_out(result, wait)

    # -- with the lock held -------------------------------------------------------------------

    def _subscribe(self, feed: Feed, wait: _Wait) -> None:
        new = wait.ids - self._subscribed
        self._over -= new
        self._tidy()
        self._send(feed, new)
        self._subscribed |= new

    def _send(self, feed: Feed, new: Iterable[str]) -> None:
        over, self._over = self._over, set()
        feed.subscribe(new, no_more=over)

    def _tidy(self) -> None:
        """Take back what nobody has waited for now and a while ago."""
        now = time.monotonic()
        if now - self._tidied_at < _TIDY_S:
            return
        self._tidied_at = now
        idle = self._subscribed.difference(*[wait.ids for wait in self._waits])
        gone = idle & self._idle
        self._idle = idle - gone
        self._subscribed -= gone
        self._over |= gone

    def _hand_out(self, result: StoredResult, by: _Wait) -> None:
        task_id = result.task_id
        for wait in self._waits:
            if task_id in wait.ids:
                wait.found[task_id] = result
                if wait is not by:
                    self._rouse(wait)
        if task_id in self._subscribed:  # nothing more will come of it
            self._subscribed.discard(task_id)
            self._over.add(task_id)

    def _rouse(self, wait: _Wait) -> None:
        if wait.turn is not None:
            wait.turn.set()
        elif self._feed is not None and wait is self._reader:
            self._feed.wake()

    def _drop(self) -> None:
        if self._feed is not None:
            self._feed.close()
        self._feed, self._is_closing = None, False
        self._asked_at = 0.0
        self._to_read = []
        for names in (self._subscribed, self._over, self._idle):
            names.clear()

    # -- interrupts ---------------------------------------------------------------------------

    def _was_interrupted(self) -> bool:
        """Tell whether this thread's next wait was ended before it began."""
        count = self._interrupts
        if getattr(self._seen, "count", 0) == count:
            return False
        self._seen.count = count
        return True

    def _final(self, task_ids: Sequence[str]) -> dict[str, StoredResult]:
        found = self._load(task_ids)
        return {key: result for key, result in found.items() if is_final(result.state)}
