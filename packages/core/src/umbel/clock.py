"""Time, read from one object so that tests can drive it."""

from __future__ import annotations

import time as machine
from datetime import UTC, datetime
from typing import Protocol


class Clock(Protocol):
    """Where umbel reads the time."""

    def time(self) -> float:
        """Return the wall clock: seconds since 1970-01-01 UTC."""

    def monotonic(self) -> float:
        """Return seconds from an arbitrary point; never goes back."""


class SystemClock:
    """The machine's clock."""

    __slots__ = ()

    # The machine's own functions: who asks on a hot path pays for no call in between.
    time = staticmethod(machine.time)
    monotonic = staticmethod(machine.monotonic)


SYSTEM_CLOCK = SystemClock()


def to_datetime(at: float) -> datetime:
    """Turn unix seconds into an aware UTC datetime."""
    return datetime.fromtimestamp(at, UTC)


def to_iso(at: float) -> str:
    """Turn unix seconds into ISO 8601 with offset, as Celery writes it."""
    return datetime.fromtimestamp(at, UTC).isoformat()


def parse_iso(text: str) -> float:
    """Read ISO 8601 into unix seconds; a time without offset is UTC, as in Celery.

    Raises: ValueError: `text` isn't ISO 8601.
    """
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return moment.timestamp()
