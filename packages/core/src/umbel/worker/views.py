"""What a node holds and runs this moment, seen from a thread that has no part in it."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Protocol

import msgspec

from umbel.interfaces.broker import Capability
from umbel.messages import Delivery, Malformed, Message
from umbel.worker.board import slot_key
from umbel.worker.slot_names import slot_name

if TYPE_CHECKING:
    from umbel.interfaces.broker import Broker
    from umbel.worker.board import JournalEntry
    from umbel.worker.jobs import Job
    from umbel.worker.processes import Child


class Held(msgspec.Struct, frozen=True, kw_only=True):
    """A message in the hands of a node."""

    message: Message | Malformed
    queue: str
    is_redelivered: bool
    pid: int
    #: Monotonic seconds; None: it hasn't begun.
    begun_at: float | None = None
    #: Acknowledged as it began.
    is_acked: bool = False


class Process(msgspec.Struct, frozen=True):
    """A process that runs tasks."""

    pid: int
    #: How many tasks it has run.
    done: int


class View(Protocol):
    """A node, looked at."""

    @property
    def slots(self) -> int:
        """How many tasks a process runs at once."""

    def processes(self) -> list[Process]:
        """Return the processes that run tasks."""

    def running(self) -> list[Held]:
        """Return what runs. Raises: BrokerError: it can't be told."""

    def reserved(self) -> list[Held]:
        """Return what is held and hasn't begun. Raises: BrokerError: it can't be told."""


class ChildrenView:
    """A node with child processes, by what is on their boards and what the broker says."""

    def __init__(self, children: Iterable[Child], broker: Broker, *, slots: int):
        """`children` are the living ones, whenever it is iterated over."""
        self._children, self._broker, self.slots = children, broker, slots
        self._has_lease = Capability.LEASE in broker.capabilities

    def processes(self) -> list[Process]:
        """Return the processes that run tasks."""
        found = []
        for child in self._children:
            try:
                found.append(Process(child.pid, child.board.done))
            except ValueError:  # it ended meanwhile, and its board was closed
                continue
        return found

    def running(self) -> list[Held]:
        """Return what runs."""
        return [each for each in self._held() if each.begun_at is not None]

    def reserved(self) -> list[Held]:
        """Return what is held and hasn't begun."""
        return [each for each in self._held() if each.begun_at is None]

    def _held(self) -> Iterator[Held]:
        for child in self._children:
            try:
                yield from self._held_by(child)
            except ValueError:  # as above
                continue

    def _held_by(self, child: Child) -> list[Held]:
        consumer = child.spec.identity.consumer
        held = self._broker.held(consumer) if self._has_lease else ()
        # Read after what is held: what finishes in between is passed over, not shown as waiting.
        begun = {slot.key: slot.begun_at for slot in child.board.running()}
        finished = set()
        found = []
        for entry in child.board.journal():
            if entry.outcome is not None:
                finished.add(entry.receipt)
            elif entry.early is not None and (since := begun.get(self._key_of(entry))):
                early = entry.early
                found.append(
                    Held(
                        message=early.message,
                        queue=early.queue,
                        is_redelivered=early.token > 1,
                        pid=child.pid,
                        begun_at=since,
                        is_acked=True,
                    )
                )
        for delivery in held:
            if delivery.receipt not in finished:
                since = begun.get(slot_key(delivery.receipt))
                found.append(_of_delivery(delivery, child.pid, since))
        return found

    def _key_of(self, entry: JournalEntry) -> bytes:
        """Return what the slot that runs an early-acknowledged task says."""
        if self._has_lease or entry.early is None:
            return slot_key(entry.receipt)
        return slot_key(slot_name(entry.early.message))


class Lane(Protocol):
    """What a lane tells of itself."""

    def running(self) -> list[tuple[Job, float]]:
        """Return what runs, and since when (monotonic seconds)."""

    def unstarted(self) -> list[Job]:
        """Return what is held and hasn't begun."""

    @property
    def done(self) -> int:
        """How many tasks it has run."""


class LaneView:
    """A node that runs its tasks in this process."""

    def __init__(self, lane: Lane, *, slots: int):
        self._lane, self.slots = lane, slots

    def processes(self) -> list[Process]:
        """Return this process."""
        return [Process(os.getpid(), self._lane.done)]

    def running(self) -> list[Held]:
        """Return what runs."""
        return [
            _of_delivery(job.delivery, os.getpid(), begun_at, is_acked=job.early_ack)
            for job, begun_at in self._lane.running()
        ]

    def reserved(self) -> list[Held]:
        """Return what is held and hasn't begun."""
        return [_of_delivery(job.delivery, os.getpid(), None) for job in self._lane.unstarted()]


def _of_delivery(
    delivery: Delivery, pid: int, begun_at: float | None, *, is_acked: bool = False
) -> Held:
    return Held(
        message=delivery.message,
        queue=delivery.queue,
        is_redelivered=delivery.redelivered,
        pid=pid,
        begun_at=begun_at,
        is_acked=is_acked,
    )
