"""Names of keys: kombu's lists, and umbel's own keys beside each of them.

A queue is one list for each priority step. What umbel keeps of a list carries the list's name as
its hash tag, so that a script touches one slot of a Cluster: the list's own.
"""

from __future__ import annotations

from itertools import count
from typing import NamedTuple

from umbel.messages import Delivery
from umbel_redis_client import slot_of

#: kombu's priority steps, the most urgent first, and what stands between a queue and its step.
STEPS = (0, 3, 6, 9)
SEPARATOR = "\x06\x16"


class Lane(NamedTuple):
    """One list of a queue, and what is kept beside it."""

    queue: str
    step: int
    #: kombu's list: producers push on its left, consumers take from its right.
    ready: str
    #: Sorted set of what waits for its time: entry, by unix milliseconds.
    delayed: str
    #: Hash of who may hold something: consumer → node.
    consumers: str
    #: There while the queue is paused.
    paused: str
    #: Sorted set of dead letters: id, by the microsecond of its burial; and hash of their records.
    dead: str
    dead_records: str
    #: What the names of all other keys of the lane begin with.
    own: str

    def holds(self, delivery: Delivery) -> bool:
        """Tell whether `delivery` is of this lane."""
        return delivery.queue == self.queue and delivery.receipt.startswith(f"{self.step}/")

    def claimed(self, consumer: str) -> str:
        """Return the list that a consumer takes into while it waits in Redis: entries."""
        return f"{self.own}claimed:{consumer}"

    def pending(self, consumer: str) -> str:
        """Return the hash of what a consumer holds: receipt → entry."""
        return f"{self.own}pending:{consumer}"


class Keys:
    """Makes the names of one prefix."""

    def __init__(self, prefix: str, *, is_cluster: bool) -> None:
        self._prefix, self._is_cluster = prefix, is_cluster
        self._lanes: dict[tuple[str, int], Lane] = {}
        #: Set of the names of all queues that were ever used.
        self.queues = f"{prefix}umbel:queues"
        #: Set of the names of the queues that umbel ever received from.
        self.consumed = f"{prefix}umbel:consumed"
        #: Sorted set: node, by unix milliseconds of its lease's end.
        self.nodes = f"{prefix}umbel:nodes"
        #: Sorted set of consumers that ended not long ago: they are looked through once more.
        self.gone = f"{prefix}umbel:gone"
        #: There while somebody has looked through them not long ago.
        self.looked = f"{prefix}umbel:looked"
        #: Set of the names of the queues that are paused.
        self.paused = f"{prefix}umbel:paused"

    def lane(self, queue: str, step: int) -> Lane:
        """Return the names of a queue's list of priority `step`."""
        found = self._lanes.get((queue, step))
        if found is None:
            found = self._lanes[queue, step] = self._make(queue, step)
        return found

    def lanes(self, queue: str) -> list[Lane]:
        """Return all lanes of a queue, the most urgent first."""
        return [self.lane(queue, step) for step in STEPS]

    def _make(self, queue: str, step: int) -> Lane:
        prefix = self._prefix
        ready = f"{prefix}{queue}{SEPARATOR}{step}" if step else f"{prefix}{queue}"
        tag = tag_of(ready)
        if self._is_cluster and "}" in tag:
            tag = _tag_beside(tag)
        own = f"{prefix}umbel:{{{tag}}}:"
        if tag != ready:  # other lists have the same tag
            own += f"{ready}:"
        return Lane(
            queue=queue,
            step=step,
            ready=ready,
            delayed=f"{own}delayed",
            consumers=f"{own}consumers",
            paused=f"{own}paused",
            dead=f"{own}dead",
            dead_records=f"{own}dead_records",
            own=own,
        )

    def once(self, lane: Lane, key: str) -> str:
        """Return the key that says that a message was sent once.

        In a Cluster it is in the lane's slot, so that one script can look and send: there a
        message is known within its queue and priority.
        """
        return f"{lane.own}once:{key}" if self._is_cluster else f"{self._prefix}umbel:once:{key}"

    def channel(self, queue: str) -> str:
        """Return the channel on which those who wait for `queue` are told what is new."""
        return f"{self._prefix}umbel:wake:{queue}"

    def binding(self, exchange: str) -> tuple[str, str]:
        """Return kombu's two sets of the bindings of a durable exchange."""
        return (
            f"{self._prefix}_kombu.binding.{exchange}",
            f"{self._prefix}_kombu.binding_permanent.{exchange}",
        )


def tag_of(key: str) -> str:
    """Return what Redis Cluster hashes of `key`: what stands in its first braces, else all."""
    start = key.find("{")
    end = key.find("}", start + 1)
    return key[start + 1 : end] if 0 <= start < end - 1 else key


def _tag_beside(key: str) -> str:
    """Return a tag of the slot of `key`, which can't be one itself: a brace in it would end it."""
    slot = slot_of(key.encode())
    return next(tag for tag in map(str, count()) if slot_of(tag.encode()) == slot)


def _step_of(priority: int) -> int:
    """Return kombu's step for a priority: the largest that is ≤ it."""
    return max(step for step in STEPS if step <= priority)


#: By priority as it stands on the wire, 0 to 9: its step.
STEP_OF = tuple(map(_step_of, range(10)))
