"""A node's lease, as those see it who settle under it."""

from __future__ import annotations

import math
from typing import Protocol


class LeaseView(Protocol):
    """From when until when (monotonic seconds) the lease is known to hold, without a gap."""

    @property
    def lease_since(self) -> float:
        """Its beginning: what was received before may be with others now."""

    @property
    def lease_until(self) -> float:
        """Its end, unless it is renewed."""


class Lease:
    """The lease of a node of one process; a board is the same to child processes."""

    def __init__(self) -> None:
        self.lease_since = self.lease_until = -math.inf

    def set_lease(self, since: float, until: float) -> None:
        """Say from when until when (monotonic seconds) the lease holds."""
        self.lease_since, self.lease_until = since, until
