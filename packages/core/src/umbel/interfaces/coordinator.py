"""The contract of a coordinator: the storage-neutral kit that fleets agree through.

Key-value with expiry, leases with fencing tokens, counters, rate windows, publish/subscribe.
Limits, uniqueness, beat's leader, chords, revokes and remote control are built on it, once.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Protocol

from umbel.clock import Clock


class Subscription(ABC):
    """What was published since `subscribe`."""

    @abstractmethod
    def poll(self, *, timeout_s: float) -> Sequence[tuple[str, bytes]]:
        """Return (channel, payload) pairs in order, waiting at most `timeout_s` for the first."""

    @abstractmethod
    def interrupt(self) -> None:
        """Make a `poll` that waits in another thread return at once."""

    @abstractmethod
    def close(self) -> None:
        """End the subscription. Repeatable."""


class Coordinator(ABC):
    """Shared state of a fleet. Methods may be called from several threads at once.

    All raise BackendUnavailableError while the store can't be reached.
    """

    #: Whether other processes see what it keeps.
    shared: ClassVar[bool] = True

    @abstractmethod
    def get(self, keys: Sequence[str]) -> Mapping[str, bytes]:
        """Return the values of `keys`; unknown and expired ones are left out."""

    @abstractmethod
    def put(self, key: str, value: bytes, *, ttl_s: float | None = None) -> None:
        """Set `key`; it expires after `ttl_s` seconds (None: never)."""

    @abstractmethod
    def put_if_absent(self, key: str, value: bytes, *, ttl_s: float | None = None) -> bool:
        """Set `key` unless it has a value; tell whether it was set."""

    @abstractmethod
    def delete(self, keys: Sequence[str]) -> int:
        """Drop `keys`; returns how many there were."""

    @abstractmethod
    def scan(self, prefix: str) -> Mapping[str, bytes]:
        """Return all keys that begin with `prefix`, with their values."""

    @abstractmethod
    def increment(self, key: str, by: int = 1, *, ttl_s: float | None = None) -> int:
        """Add `by` to the counter `key` (0 at first) and return the sum. `ttl_s` restarts."""

    @abstractmethod
    def acquire(self, name: str, holder: str, *, ttl_s: float) -> int | None:
        """Take the lease `name`, or prolong it where `holder` has it.

        Returns: Its fencing token, which grows each time that the holder changes; None where
            somebody else has it.
        """

    @abstractmethod
    def release(self, name: str, holder: str, token: int) -> bool:
        """Give the lease up; False where it wasn't this holder's with this token."""

    @abstractmethod
    def take(self, key: str, *, limit: int, period_s: float, cost: int = 1) -> float:
        """Take `cost` units of the rate `limit` per `period_s`, if they are free now.

        Returns: 0.0 where they were taken; else seconds until they would be, nothing taken.
        Source: the generic cell rate algorithm (ITU-T I.371), with a burst of `limit`.
        """

    @abstractmethod
    def publish(self, channel: str, payload: bytes) -> None:
        """Hand `payload` to whoever is subscribed to `channel` now."""

    @abstractmethod
    def subscribe(self, channels: Sequence[str]) -> Subscription:
        """Listen to `channels` from now on."""

    def close(self) -> None:
        """Free connections. Repeatable."""


class CoordinatorFactory(Protocol):
    """Makes a coordinator handle for this process. Opens nothing before its first use."""

    def __call__(self, url: str, *, options: Mapping[str, Any], clock: Clock) -> Coordinator:
        """Return the coordinator that `url` names. Raises: ConfigError."""
