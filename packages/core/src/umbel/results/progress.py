"""How far many tasks have come."""

from __future__ import annotations

import msgspec


class GroupProgress(msgspec.Struct, frozen=True):
    """How many of a group's tasks are over."""

    #: How many there are, those that were added since it was sent among them.
    size: int
    #: How many are over, those that failed among them.
    done: int
    #: How many of these failed or were revoked.
    failed: int

    @property
    def completed(self) -> int:
        """How many succeeded."""
        return self.done - self.failed

    @property
    def percentage(self) -> float:
        """Of a hundred, how many are over."""
        return 100.0 * self.done / self.size if self.size else 100.0
