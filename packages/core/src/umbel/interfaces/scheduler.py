"""The contract of a scheduler: where beat's entries are kept and which of them are due.

`due` and `mark_sent` are told the time; a scheduler reads no clock. An entry that is due is
published once even if several beats run: its id derives from name and due time.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import msgspec

from umbel.clock import Clock
from umbel.signatures import Signature


class ScheduleEntry(msgspec.Struct, frozen=True, kw_only=True):
    """A periodic or one-off task."""

    name: str
    signature: Signature[Any]
    #: A schedule object of umbel-beat, or its text form such as ``"*/5 * * * *"``.
    schedule: Any
    enabled: bool = True
    #: Unix seconds; None: never ran.
    last_run_at: float | None = None
    total_run_count: int = 0


class DueEntry(msgspec.Struct, frozen=True, kw_only=True):
    """An entry whose time has come."""

    entry: ScheduleEntry
    #: Unix seconds that it was due at; at most now.
    due_at: float


class Scheduler(ABC):
    """Keeps schedule entries and says which are due."""

    @abstractmethod
    def entries(self) -> Mapping[str, ScheduleEntry]:
        """Return all entries by name."""

    @abstractmethod
    def put(self, entry: ScheduleEntry) -> None:
        """Add `entry`, or replace the one of its name."""

    @abstractmethod
    def remove(self, name: str) -> bool:
        """Drop the entry; False where there is none of that name."""

    @abstractmethod
    def due(self, now: float) -> Sequence[DueEntry]:
        """Return what is due at `now` (unix seconds), earliest first."""

    @abstractmethod
    def mark_sent(self, sent: Sequence[DueEntry]) -> None:
        """Note that these were published, durably, so that they aren't due again."""

    @abstractmethod
    def next_due_at(self, now: float) -> float | None:
        """Return when the next entry is due (unix seconds); None: none ever is."""

    def close(self) -> None:
        """Free what it holds. Repeatable."""


class SchedulerFactory(Protocol):
    """Makes a scheduler."""

    def __call__(self, url: str, *, options: Mapping[str, Any], clock: Clock) -> Scheduler:
        """Return the scheduler that `url` (or a bare name) names. Raises: ConfigError."""
