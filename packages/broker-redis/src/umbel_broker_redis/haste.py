"""Whether messages come as fast as they are taken: then there is a backlog, to take in batches."""

from __future__ import annotations

import time
from typing import Final

#: A message that comes sooner than this, in seconds, may have been there already.
_AT_ONCE_S: Final = 0.0002
#: How much one counts for that comes with the answer to what was sent before: it surely was there.
_SURE: Final = 3
#: So much haste in a row makes a backlog.
_MOST: Final = 4


class Haste:
    """How soon messages came that were waited for, one after the other."""

    def __init__(self) -> None:
        self._sum = 0

    def note(self, since: float, *, is_early: bool) -> None:
        """Note a message, waited for since a monotonic time; early: it came with other answers."""
        if is_early:
            self._sum += _SURE
        elif time.monotonic() - since < _AT_ONCE_S:
            self._sum += 1
        else:
            self._sum = 0

    @property
    def is_great(self) -> bool:
        """Whether there seems to be a backlog."""
        return self._sum > _MOST

    def forget(self) -> None:
        """Begin anew."""
        self._sum = 0
