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
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final

from umbel.messages import Delivery
from umbel_broker_redis.entries import read_entry
from umbel_broker_redis.haste import Haste
from umbel_broker_redis.keys import Keys, Lane
from umbel_broker_redis.known import Known, paced
from umbel_broker_redis.lines import Lines
from umbel_broker_redis.lingering import Lingering
from umbel_broker_redis.links import Bell, Link
from umbel_broker_redis.mastery import Mastery
from umbel_broker_redis.receiving import Look, LookFor
from umbel_redis_client import Call, Client, ConnectionLostError, ReplyError, pack

#: Longest that Redis is asked to block, in seconds; well within a lease.
BLOCK_S: Final = 8.0
#: … however many lanes there are; an ended process may be looked after for longer than that.
_LONGEST_S: Final = 45.0
#: For so long after a connection was lost the lanes are looked at more often: what was sent over it
#: may still be under way, and take a message for nobody.
_UNSURE_S: Final = 120.0
#: … and so often while nobody waits, to give it to others.
_UNSURE_AGAIN_S: Final = 0.5
#: Who waits for so many seconds comes back at once when nothing came.
_LONG_S: Final = 1.0
#: Seconds until the end of waits is tried again, in an outage; and until a slot that moves is asked
#: again.
_AGAIN_S: Final = 0.1

logger = logging.getLogger("umbel.redis")

#: Makes a delivery of an entry that was claimed.
Deliver = Callable[[Lane, bytes], Delivery]


class Watch:
    """One consumer's waits. One thread waits at a time; others queue up behind it."""

    def __init__(self, client: Client, keys: Keys) -> None:
        self._client, self._keys = client, keys
        self._lines = Lines(client, keys)
        #: What was asked for last.
        self._lanes: tuple[Lane, ...] = ()
        self._turn = threading.Lock()
        self._bell: Bell | None = None
        self._asked = self._answered = 0
        self._pid = os.getpid()
        self._known = Known()
        self._haste = Haste()
        #: Where the last message came from, if it came alone to one who waited.
        self._alone: Lane | None = None
        self._lingering = Lingering(self._end_waits)
        self._last_look: LookFor | None = None
        self._mastery = Mastery(client)
        self._unsure_until = 0.0

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
            if self._lines.waiting():
                self._lingering.is_on = False
                self._look((), takes=False)
            self._alone = None
            return take(True).deliveries
        except BaseException:
            self.reset()
            raise
        finally:
            self._turn.release()

    def settle(
        self,
        calls: Sequence[Call],
        lanes: tuple[Lane, ...],
        consumer: str,
        look: LookFor,
    ) -> tuple[list[Any], list[Delivery]]:
        """Send `calls`, and in the same exchange take what is there, or begin to wait for it.

        Not for a Cluster. `lanes`, `consumer`, `look` and errors: as `wait`.

        Returns: The replies, and what was taken.
        """
        self._leave_to_parent()
        if not self._turn.acquire(blocking=False):
            return self._client.pipeline(calls), []
        try:
            self._lingering.is_on = False
            self._turn_to(lanes)
            self._last_look = look
            link = self._link_of_last(lanes)
            if link is None:
                found = self._look(lanes, along=calls)
                return found.replies[: len(calls)], found.deliveries
            block_s = min(paced(BLOCK_S, lanes), _LONGEST_S)
            replies = link.begin(link.lane.claimed(consumer), block_s, calls)
            self._stay_for_others()
            return replies, []
        except BaseException:
            self.reset()
            raise
        finally:
            self._turn.release()

    def take_by(
        self, step: LookFor, lanes: tuple[Lane, ...], look: LookFor
    ) -> list[Delivery] | None:
        """Return what `step` takes, which is done a single time; None: another thread waits.

        `lanes`, `look` and errors: as `wait`.
        """
        self._leave_to_parent()
        if not self._turn.acquire(blocking=False):
            return None
        try:
            self._lingering.is_on = False
            self._turn_to(lanes)
            self._last_look = look
            return self._look(lanes, step=step).deliveries
        except BaseException:
            self.reset()
            raise
        finally:
            self._turn.release()

    def _link_of_last(self, lanes: tuple[Lane, ...]) -> Link | None:
        """Return what waits for the next message, where messages come one by one."""
        link = None if self._alone is None else self._lines.of(self._alone)
        if link is None or link.waits or self._haste.is_great or self.is_unsure:
            return None
        return link if link.lane in lanes and self._is_known_empty(lanes) else None

    def wait(
        self,
        lanes: tuple[Lane, ...],
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
            self._lingering.is_on = False
            self._turn_to(lanes)
            self._last_look = look
            found = self._wait(lanes, consumer, deliver, until, answered)
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
        if not (is_long and self._is_known_empty(lanes)) and (found := self._take(lanes)):
            return found
        claimed: list[tuple[Lane, bytes]] = []
        while self._asked == answered and (left_s := until - time.monotonic()) > 0:
            if self._lines.listen(lanes):
                self._known.forget()
            links = self._lines.begin(
                lanes,
                self._known.paused,
                consumer,
                min(paced(BLOCK_S, lanes), _LONGEST_S) if is_long else left_s,
            )
            is_worth, claimed = self._poll(links, until)
            is_worth = is_worth or any(read_entry(entry).is_early for _, entry in claimed)
            if claimed and not is_worth and self._asked == answered:
                self._stay_for_others()
                self._alone = claimed[0][0]
                return [deliver(lane, entry) for lane, entry in claimed]
            if (is_worth or claimed) and (found := self._take(lanes)):
                return found
        found = []
        if is_long and self._asked == answered:
            self._stay_for_others()
        elif claimed or self._lines.waiting():
            # Nothing shall be claimed for who doesn't ask for it any more.
            found = self._take(lanes, takes=self._asked == answered)
        self._answered = self._asked
        return found

    def _turn_to(self, lanes: tuple[Lane, ...]) -> None:
        """Give back what was claimed of lanes that aren't asked for any more."""
        if lanes is self._lanes:
            return
        waiting = {link.lane for link in self._lines.waiting()}
        if waiting and not waiting <= set(lanes):
            self._look((), takes=False)
        self._lanes = lanes

    def _is_known_empty(self, lanes: tuple[Lane, ...]) -> bool:
        return self._lines.ear is not None and self._known.is_empty(lanes)

    def _take(self, lanes: tuple[Lane, ...], *, takes: bool = True) -> list[Delivery]:
        return self._look(lanes, takes=takes).deliveries

    def _look(
        self,
        lanes: tuple[Lane, ...],
        *,
        takes: bool = True,
        along: Sequence[Call] = (),
        step: LookFor | None = None,
    ) -> Look:
        """End all waits in Redis and take what is there, in one round trip, after `along`.

        By `step` where it is given, which isn't repeated.
        """
        look = self._last_look
        assert look is not None  # noqa: S101 - `wait` has set it
        waiting = self._lines.waiting()
        ends = [
            Call(link.lane.ready.encode(), pack(("CLIENT", "UNBLOCK", link.id))) for link in waiting
        ]
        found = (step or look)([*along, *ends], takes)
        for link in waiting:
            link.is_ending = True
        ended = zip(waiting, found.replies[len(along) :], strict=True)
        missed = [link for link, reply in ended if reply != 1]
        if missed and self._lines.claimed_late(missed):
            look((), False)
        self._haste.forget()
        self._alone = None
        self._known.note(found, lanes if takes else (), is_unsure=self.is_unsure)
        return found

    # -- polling ------------------------------------------------------------------------------

    def _poll(self, links: Sequence[Link], until: float) -> tuple[bool, list[tuple[Lane, bytes]]]:
        """Wait for anything to happen.

        Returns: Whether it is worth looking; and what was claimed, where it came alone.
        """
        if self._known.is_over(time.monotonic()):
            return True, []
        bell, ear = self._opened_bell(), self._lines.ear
        assert ear is not None  # noqa: S101 - the lines listen
        waiting = {link.connection.fileno(): link for link in links}
        watched = [bell.fileno(), ear.connection.fileno(), *waiting]
        claimed: list[tuple[Lane, bytes]] = []
        is_late = has_news = False
        early = [number for number, link in waiting.items() if link.came_early]
        pause_s = 0.0 if early else self._pause_s(until, waiting.values())
        for number in dict.fromkeys([*early, *self._lines.ready(watched, pause_s)]):
            if number == bell.fileno():
                bell.hear()
            elif number == ear.connection.fileno():
                has_news = True
            elif (link := waiting.get(number)) is not None:
                # Who was frozen meanwhile may hold it no more: then a look doesn't find it.
                is_late = is_late or time.monotonic() > (link.until or 0.0)
                entry = link.arrived()
                if entry is not None:
                    self._haste.note(link.since, is_early=number in early)
                    claimed.append((link.lane, entry))
        now = time.monotonic()
        for link in waiting.values():
            if link.until is not None and now > link.until:
                raise ConnectionLostError(f"{link.connection.endpoint}: no answer in time")
        if not claimed:
            self._mastery.check(ear.connection)
        is_worth = (has_news or ear.may_be_dead(now)) and self._known.learn(ear.told())
        is_worth = is_worth or self._known.is_over(now)
        is_more = len(claimed) > 1 or self._haste.is_great or (is_late and bool(claimed))
        return is_worth or is_more, claimed

    def _pause_s(self, until: float, waiting: Iterable[Link]) -> float:
        ends = [until, self._known.ends_at, self._mastery.ask_at]
        ends += [link.until for link in waiting if link.until is not None]
        return min(ends) - time.monotonic()

    # -- away with a message ------------------------------------------------------------------

    def _stay_for_others(self) -> None:
        """Leave other lanes waiting for a moment: who takes a message mostly comes back soon.

        Where a connection was lost, look every now and then for what may come over it still.
        """
        if self.is_unsure or self._lines.waiting():
            self._lingering.begin()

    def _end_waits(self) -> float:
        """End the waits of one who didn't come back, and give back what was claimed since.

        Returns: Seconds until it is to be tried again, where it is.
        """
        if not self._turn.acquire(blocking=False):
            return 0.0
        try:
            if self._lingering.is_on:
                self._lingering.is_on = False
                self._look((), takes=False)
                if self.is_unsure:
                    self._lingering.is_on = True
                    return _UNSURE_AGAIN_S
        except (ConnectionLostError, ReplyError) as exc:
            logger.debug("can't end waiting in Redis, closing the connections: %s", exc)
            self.reset()
            # Tried again: a long task shall not sit on what was claimed.
            self._lingering.is_on = True
            return _AGAIN_S
        finally:
            self._turn.release()
        return 0.0

    # -- from other threads -------------------------------------------------------------------

    def interrupt(self) -> None:
        """Make the thread that waits return; where none does, the next one that would."""
        self._asked += 1
        if (bell := self._bell) is not None:
            bell.ring()

    def _opened_bell(self) -> Bell:
        if self._bell is None:
            self._bell = Bell()
            if self._asked != self._answered:  # asked for before there was a bell
                self._bell.ring()
        return self._bell

    def reset(self) -> None:
        """Close all connections: they are made anew when needed."""
        self._lines.close()
        self._known.forget()
        self.doubt()

    def close(self) -> None:
        """End the wait of another thread, and free all. Repeatable."""
        self._leave_to_parent()
        self.interrupt()
        with self._turn:
            self._lingering.close()
            self.reset()
            bell, self._bell = self._bell, None
            if bell is not None:
                bell.close()

    def _leave_to_parent(self) -> None:
        """After a fork, be as new: a thread of the parent's may have had its turn just then."""
        if self._pid == os.getpid():
            return
        self._turn = threading.Lock()
        self._lingering = Lingering(self._end_waits)
        self.reset()
        self._bell, self._pid = None, os.getpid()
