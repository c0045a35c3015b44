"""Waiting in Redis, without polling and without a moment in which a message is nowhere.

For each lane one connection waits in BLMOVE, which moves a message into the consumer's own list:
should the process be killed then, the message is found there. It wakes one waiting process, not
all. A message that comes alone is delivered straight from there; where there are more, a look takes
a batch. One more connection is subscribed to what no list tells: that something delayed is due
earlier, that a queue is resumed.

Who has got a message from one lane, or none in time, leaves the other waits as they are for a
moment, since most come back within it; a thread ends those of one who doesn't, so that a long task
sits on nothing.
"""

from __future__ import annotations

import logging
import os
import random
import socket
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Final

from umbel.messages import Delivery
from umbel_broker_redis.entries import read_entry
from umbel_broker_redis.keys import Keys, Lane
from umbel_broker_redis.links import LATE_S, Ear, Link, ready
from umbel_broker_redis.receiving import Look
from umbel_redis_client import Call, Client, Connection, ConnectionLostError, ReplyError, pack

#: Longest that Redis is asked to block, in seconds; well within a lease.
BLOCK_S: Final = 8.0
#: … however many lanes there are; an ended process may be looked after for longer than that.
_LONGEST_S: Final = 45.0
#: Seconds after which the lanes are looked at although nothing was told, and who waits is
#: registered anew.
RELOOK_S: Final = 30.0
#: … and for how long after a connection was lost that is done more often: what was sent over it
#: may still be under way, and take a message for nobody.
_UNSURE_S: Final = 120.0
_RELOOK_UNSURE_S: Final = 2.0
#: … and so often while nobody waits, to give it to others.
_UNSURE_AGAIN_S: Final = 0.5
#: Who waits for so many seconds comes back at once when nothing came.
_LONG_S: Final = 1.0
#: Seconds that a reply may take which is under way.
_UNDER_WAY_S: Final = 0.03
#: Seconds between two looks at what is due. A fleet that waits for the same message shall not storm.
_DUE_EVERY_S: Final = 0.05
#: Seconds that other lanes go on waiting for one who is away with a message.
LINGER_S: Final = 0.005
#: Seconds until their end is tried again, in an outage; and until a slot that moves is asked again.
_AGAIN_S: Final = 0.1
#: A message that comes sooner than this was there already. After so many of them in a row there
#: may be a backlog, which is taken in batches.
_AT_ONCE_S: Final = 0.0002
_MOST_HASTY: Final = 4
#: Seconds between two questions to Sentinel, of one who waits.
_MASTER_EVERY_S: Final = 2.0
#: The most lanes that are waited for at the usual pace; who waits for more asks less often for each.
_USUAL_LANES: Final = 4


logger = logging.getLogger("umbel.redis")

#: Sends calls, then takes what is there, in one round trip; False: takes nothing.
LookFor = Callable[[Sequence[Call], bool], Look]
#: Makes a delivery of an entry that was claimed.
Deliver = Callable[[Lane, bytes], Delivery]


class Watch:
    """One consumer's waits. One thread waits at a time; others queue up behind it."""

    def __init__(self, client: Client, keys: Keys) -> None:
        self._client, self._keys = client, keys
        self._links: dict[Lane, Link] = {}
        self._ear: Ear | None = None
        self._turn = threading.Lock()
        self._bell: tuple[socket.socket, socket.socket] | None = None
        self._asked = self._answered = 0
        self._pid = os.getpid()
        #: What was looked at last and emptied, until when (monotonic) nothing new is known.
        self._empty: frozenset[Lane] = frozenset()
        self._empty_until = 0.0
        self._paused: frozenset[Lane] = frozenset()
        self._due_at: float | None = None
        self._due_looked_at = 0.0
        #: How many messages in a row were there at once.
        self._hasty = 0
        self._linger = threading.Event()
        self._lingers_since = 0.0
        self._lingerer: threading.Thread | None = None
        self._last_look: LookFor | None = None
        self._closed = False
        self._unsure_until = self._asked_master_at = 0.0

    @property
    def is_unsure(self) -> bool:
        """Whether what was sent over a lost connection may still be under way to Redis."""
        return time.monotonic() < self._unsure_until

    def doubt(self) -> None:
        """Note that a connection was lost."""
        self._unsure_until = time.monotonic() + _UNSURE_S

    def glance(self, take: Callable[[bool], Look]) -> list[Delivery]:
        """Return what `take` finds at once, told whether what was claimed is to be taken, too.

        What was claimed for another thread that waits now is left to that.

        Raises: as `wait`.
        """
        self._leave_to_parent()
        if not self._turn.acquire(blocking=False):
            return take(False).deliveries
        try:
            if any(link.waits for link in self._links.values()):
                self._linger.clear()
                self._look((), takes=False)
            return take(True).deliveries
        except BaseException:
            self.reset()
            raise
        finally:
            self._turn.release()

    def wait(
        self,
        lanes: Sequence[Lane],
        consumer: str,
        look: LookFor,
        deliver: Deliver,
        timeout_s: float,
    ) -> list[Delivery]:
        """Return what `look` finds, as soon as it finds something, within `timeout_s` seconds.

        Args:
            lanes: What to watch, the first one first.
            consumer: Who waits.
            look: Sends calls, then takes what is there, in one go; told not to take anything, it
                gives back what was claimed.
            deliver: Makes a delivery of an entry that was claimed.
            timeout_s: Above 0.
        Raises: ReplyError, ConnectionLostError: all connections are made anew at the next wait.
        """
        self._leave_to_parent()
        answered, until = self._answered, time.monotonic() + timeout_s
        if not self._turn.acquire(timeout=timeout_s):
            return []
        try:
            self._linger.clear()
            self._leave_others(lanes)
            self._last_look = look
            found = self._wait(tuple(lanes), consumer, deliver, until, answered)
            if self.is_unsure:
                self._stay_for_others()
            return found
        except BaseException as exc:
            self.reset()
            if not (isinstance(exc, ReplyError) and exc.code in {"MOVED", "ASK"}):
                raise
            # One who waited in a Cluster: the next look finds the node that has the slot now.
            self._client.forget()
            time.sleep(_AGAIN_S)
            return []
        finally:
            self._turn.release()

    def _wait(
        self, lanes: tuple[Lane, ...], consumer: str, deliver: Deliver, until: float, answered: int
    ) -> list[Delivery]:
        is_long = until - time.monotonic() >= _LONG_S
        is_known = is_long and self._empty.issuperset(lanes) and self._is_known_empty()
        if not is_known and (found := self._look(lanes)):
            return found
        claimed: list[tuple[Lane, bytes]] = []
        while self._asked == answered and (left_s := until - time.monotonic()) > 0:
            self._listen(lanes)
            self._begin(
                lanes, consumer, min(_paced(BLOCK_S, lanes), _LONGEST_S) if is_long else left_s
            )
            is_worth, claimed = self._poll(lanes, until)
            is_worth = is_worth or any(read_entry(entry).is_early for _, entry in claimed)
            if claimed and not is_worth and self._asked == answered:
                self._stay_for_others()
                return [deliver(lane, entry) for lane, entry in claimed]
            if (is_worth or claimed) and (found := self._look(lanes)):
                return found
        found = []
        if is_long and self._asked == answered:
            self._stay_for_others()
        elif claimed or any(link.waits for link in self._links.values()):
            # Nothing shall be claimed for who doesn't ask for it any more.
            found = self._look(lanes, takes=self._asked == answered)
        self._answered = self._asked
        return found

    def _leave_others(self, lanes: Sequence[Lane]) -> None:
        """Give back what was claimed of lanes that aren't asked for any more."""
        waiting = self._waiting(self._links)
        if waiting and not {link.lane for link in waiting} <= set(lanes):
            self._look((), takes=False)

    def _is_known_empty(self) -> bool:
        now = time.monotonic()
        if now >= self._empty_until or self._is_due(now) or self._ear is None:
            return False
        return not self._heard()

    def _look(self, lanes: tuple[Lane, ...], *, takes: bool = True) -> list[Delivery]:
        """End all waits in Redis and take what is there, in one round trip."""
        look = self._last_look
        assert look is not None  # noqa: S101 - `wait` has set it
        waiting = [link for link in self._links.values() if link.waits]
        ends = [
            Call(link.lane.ready.encode(), pack(("CLIENT", "UNBLOCK", link.id))) for link in waiting
        ]
        found = look(ends, takes)
        for link in waiting:
            link.is_ending = True
        missed = [link for link, ended in zip(waiting, found.replies, strict=True) if ended != 1]
        if missed and self._claimed_late(missed):
            look((), False)
        now = time.monotonic()
        self._due_looked_at = now
        self._due_at = None if found.due_in_s is None else now + found.due_in_s
        self._paused = found.paused
        self._empty = frozenset(lanes) if takes and found.is_drained else frozenset()
        self._hasty = 0
        relook_s = _RELOOK_UNSURE_S if self.is_unsure else _paced(RELOOK_S, lanes)
        self._empty_until = now + relook_s * (0.8 + random.random() / 5)
        return found.deliveries

    def _claimed_late(self, missed: list[Link]) -> bool:
        """End links that weren't waiting yet, or any more, when they were told to end.

        Returns: Whether one may have claimed a message after the look.
        """
        claimed = False
        until = time.monotonic() + LATE_S
        for link in missed:
            while not ready([link.connection.fileno()], _UNDER_WAY_S):
                if time.monotonic() > until:  # Redis knows it no more, and nobody told
                    raise ConnectionLostError(f"{link.connection.endpoint}: no answer in time")
                # Its command had not been read when the order came: it waits by now.
                self._client.call(link.lane.ready, "CLIENT", "UNBLOCK", link.id)
            claimed = link.end() is not None or claimed
        return claimed

    # -- connections --------------------------------------------------------------------------

    def _begin(self, lanes: tuple[Lane, ...], consumer: str, block_s: float) -> None:
        """Begin to wait in Redis wherever it isn't waited already."""
        for lane in lanes:
            if lane in self._paused:
                continue
            link = self._links.get(lane)
            if link is None:
                link = self._links[lane] = Link(self._client, lane)
            if not link.waits:
                link.begin(lane.claimed(consumer), block_s)

    def _listen(self, lanes: tuple[Lane, ...]) -> None:
        """Subscribe to the channels of all queues; what came before is found by a look."""
        channels = frozenset([self._keys.channel(lane.queue) for lane in lanes])
        if self._ear is not None and self._ear.channels == channels:
            return
        if self._ear is not None:
            self._ear.connection.close()
        self._ear = Ear(self._client, channels)
        self._empty_until = 0.0

    def _poll(self, lanes: tuple[Lane, ...], until: float) -> tuple[bool, list[tuple[Lane, bytes]]]:
        """Wait for anything to happen.

        Returns: Whether it is worth looking; and what was claimed, where it came alone.
        """
        if time.monotonic() >= self._empty_until:
            return True, []
        bell = self._opened_bell()
        assert self._ear is not None  # noqa: S101 - `_listen` was called
        waiting = {link.connection.fileno(): link for link in self._waiting(lanes)}
        watched = [bell.fileno(), self._ear.connection.fileno(), *waiting]
        claimed: list[tuple[Lane, bytes]] = []
        is_late = False
        for number in ready(watched, self._pause_s(until, waiting.values())):
            if number == bell.fileno():
                bell.recv(1 << 10)
            elif (link := waiting.get(number)) is not None:
                # Who was frozen meanwhile may hold it no more: then a look doesn't find it.
                is_late = is_late or time.monotonic() > (link.until or 0.0)
                entry = link.arrived()
                if entry is not None:
                    at_once = time.monotonic() - link.since < _AT_ONCE_S
                    self._hasty = self._hasty + 1 if at_once else 0
                    claimed.append((link.lane, entry))
        now = time.monotonic()
        for link in waiting.values():
            if link.until is not None and now > link.until:
                raise ConnectionLostError(f"{link.connection.endpoint}: no answer in time")
        if not claimed and now >= self._asked_master_at + _MASTER_EVERY_S:
            self._ask_for_master(self._ear.connection)
        is_worth = self._heard() or self._is_due(now) or now >= self._empty_until
        is_more = len(claimed) > 1 or self._hasty > _MOST_HASTY or (is_late and bool(claimed))
        return is_worth or is_more, claimed

    def _waiting(self, lanes: Iterable[Lane]) -> list[Link]:
        links = [self._links.get(lane) for lane in lanes]
        return [link for link in links if link is not None and link.waits]

    def _pause_s(self, until: float, waiting: Iterable[Link]) -> float:
        ends = [until, self._empty_until]
        ends += [link.until for link in waiting if link.until is not None]
        if self._due_at is not None:
            ends.append(max(self._due_at, self._due_looked_at + _DUE_EVERY_S))
        if self._client.may_move:
            ends.append(self._asked_master_at + _MASTER_EVERY_S)
        return min(ends) - time.monotonic()

    def _ask_for_master(self, connection: Connection) -> None:
        """Raise ConnectionLostError where Sentinel has made another server the master.

        The one that was goes on answering for ten seconds or so.
        """
        if self._client.may_move and self._client.has_moved(connection.endpoint):
            raise ConnectionLostError("another server is the master now")
        self._asked_master_at = time.monotonic()

    def _is_due(self, now: float) -> bool:
        return self._due_at is not None and now >= max(
            self._due_at, self._due_looked_at + _DUE_EVERY_S
        )

    def _heard(self) -> bool:
        """Take in what was told; tell whether it asks for a look."""
        if self._ear is None:
            return False
        worth = False
        for payload in self._ear.told():
            word, _, number = payload.partition(b":")
            if word == b"due" and number.isdigit():
                due_at = time.monotonic() + int(number) / 1000
                self._due_at = due_at if self._due_at is None else min(self._due_at, due_at)
            else:
                worth = True
        return worth

    # -- away with a message ------------------------------------------------------------------

    def _stay_for_others(self) -> None:
        """Leave other lanes waiting for a moment: who takes a message mostly comes back soon.

        Where a connection was lost, look every now and then for what may come over it still.
        """
        if not self.is_unsure and not any(link.waits for link in self._links.values()):
            return
        if self._lingerer is None:
            self._lingerer = threading.Thread(
                target=self._end_lingering, name="umbel-redis-linger", daemon=True
            )
            self._lingerer.start()
        self._lingers_since = time.monotonic()
        self._linger.set()

    def _end_lingering(self) -> None:
        """End the waits of one who didn't come back, and give back what was claimed since."""
        pid, pause_s = os.getpid(), LINGER_S
        while not self._closed and self._pid == pid:
            self._linger.wait()
            time.sleep(pause_s)
            pause_s = LINGER_S
            if time.monotonic() - self._lingers_since < LINGER_S or not self._linger.is_set():
                continue
            if not self._turn.acquire(blocking=False):
                continue
            try:
                if self._linger.is_set() and not self._closed:
                    self._linger.clear()
                    self._look((), takes=False)
                    if self.is_unsure:
                        self._linger.set()
                        pause_s = _UNSURE_AGAIN_S
            except (ConnectionLostError, ReplyError) as exc:
                logger.debug("can't end waiting in Redis, closing the connections: %s", exc)
                self.reset()
                self._linger.set()  # tried again: a long task shall not sit on what was claimed
                pause_s = _AGAIN_S
            finally:
                self._turn.release()

    # -- from other threads -------------------------------------------------------------------

    def interrupt(self) -> None:
        """Make the thread that waits return; where none does, the next one that would."""
        self._asked += 1
        bell = self._bell
        if bell is not None:
            try:
                bell[1].send(b".")
            except OSError:  # full, so it rings already; or closed
                return

    def _opened_bell(self) -> socket.socket:
        if self._bell is None:
            ends = socket.socketpair()
            for end in ends:
                end.setblocking(False)
            self._bell = ends
            if self._asked != self._answered:  # asked for before there was a bell
                ends[1].send(b".")
        return self._bell[0]

    def reset(self) -> None:
        """Close all connections: they are made anew when needed."""
        links, self._links = self._links, {}
        ear, self._ear = self._ear, None
        for connection in [link.connection for link in links.values()] + (
            [ear.connection] if ear else []
        ):
            connection.close()
        self._empty, self._empty_until, self._due_at = frozenset(), 0.0, None
        self.doubt()

    def close(self) -> None:
        """End the wait of another thread, and free all. Repeatable."""
        self._leave_to_parent()
        self._closed = True
        self.interrupt()
        with self._turn:
            self._linger.set()
            self.reset()
            bell, self._bell = self._bell, None
            if bell is not None:
                for end in bell:
                    end.close()

    def _leave_to_parent(self) -> None:
        """After a fork, be as new: a thread of the parent's may have had its turn just then."""
        if self._pid == os.getpid():
            return
        self._turn, self._linger = threading.Lock(), threading.Event()
        self.reset()
        self._bell, self._lingerer, self._pid = None, None, os.getpid()
        self._closed = False


def _paced(seconds: float, lanes: Sequence[Lane]) -> float:
    """Return how often something is done for each of `lanes`: in all, no more often for more."""
    return seconds * max(1.0, len(lanes) / _USUAL_LANES)
