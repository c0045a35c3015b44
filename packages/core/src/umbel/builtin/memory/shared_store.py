"""All coordination of one space: values, leases, rates and channels.

Methods are called with `changed` held; `now` is monotonic seconds, so that no change of the
wall clock ends a lease.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Sequence
from itertools import count
from weakref import WeakSet

import msgspec

from umbel.builtin.memory.expiring import ExpiringMap
from umbel.errors import BackendError

#: A wait that was told to the last bit must be enough, whatever floats lose in between.
_ROUNDING_S = 1e-6


class Lease(msgspec.Struct, frozen=True):
    """Who has a lease, and by which fencing token."""

    holder: str
    token: int


class Inbox:
    """What one subscription wasn't given yet."""

    __slots__ = ("__weakref__", "channels", "messages")

    def __init__(self, channels: Sequence[str]) -> None:
        self.channels = frozenset(channels)
        self.messages: deque[tuple[str, bytes]] = deque()


class SharedStore:
    """What a memory coordinator keeps."""

    def __init__(self) -> None:
        #: Guards all of it; notified when something was published.
        self.changed = threading.Condition(threading.Lock())
        self.values: ExpiringMap[bytes] = ExpiringMap()
        self._leases: ExpiringMap[Lease] = ExpiringMap()
        #: By rate: when its cells are all free again (the theoretical arrival time).
        self._rates: ExpiringMap[float] = ExpiringMap()
        # One count for all leases: a token grows from holder to holder, and nothing need be
        # kept of a lease that is over.
        self._tokens = count(1)
        # Weak: a subscription that was forgotten without `close` collects nothing for ever.
        self._inboxes: WeakSet[Inbox] = WeakSet()

    def increment(self, key: str, by: int, now: float, expires_at: float | None) -> int:
        """Add to the counter `key`; its expiry changes only where one is given."""
        old = self.values.get(key, now)
        try:
            total = int(old or b"0") + by
        except ValueError:
            raise BackendError(
                f"{key!r} can't be incremented, since its value is no whole number"
            ) from None
        value = str(total).encode()
        if old is not None and expires_at is None:
            self.values.change(key, value)
        else:
            self.values.put(key, value, now, expires_at)
        return total

    def acquire(self, name: str, holder: str, now: float, expires_at: float) -> int | None:
        """Take or prolong a lease; None where somebody else has it."""
        lease = self._leases.get(name, now)
        if lease is None:
            lease = Lease(holder, next(self._tokens))
        elif lease.holder != holder:
            return None
        self._leases.put(name, lease, now, expires_at)
        return lease.token

    def release(self, name: str, holder: str, token: int, now: float) -> bool:
        """Give a lease up; False where it wasn't this one."""
        if self._leases.get(name, now) != Lease(holder, token):
            return False
        self._leases.pop(name, now)
        return True

    def take(self, key: str, limit: int, period_s: float, cost: int, now: float) -> float:
        """Take `cost` cells of a rate; return 0.0, or seconds until they would be free.

        Source: the generic cell rate algorithm, virtual scheduling (ITU-T I.371, annex A).
        """
        free_at = max(self._rates.get(key, now) or now, now)
        after = free_at + cost * period_s / limit
        wait_s = after - period_s - now
        if wait_s > _ROUNDING_S:
            return wait_s
        self._rates.put(key, after, now, after)
        return 0.0

    def listen(self, channels: Sequence[str]) -> Inbox:
        """Collect what is published to `channels` from now on."""
        inbox = Inbox(channels)
        self._inboxes.add(inbox)
        return inbox

    def unlisten(self, inbox: Inbox) -> None:
        """Collect no more."""
        self._inboxes.discard(inbox)

    def publish(self, channel: str, payload: bytes) -> None:
        """Hand `payload` to all who listen to `channel`."""
        for inbox in self._inboxes:
            if channel in inbox.channels:
                inbox.messages.append((channel, payload))
        self.changed.notify_all()
