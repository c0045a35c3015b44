"""A walk through dead letters, newest first, page by page, while others bury and replay."""

from __future__ import annotations

from umbel import listed
from umbel.interfaces.broker import Broker
from umbel.messages import DeadLetter


class Walk(listed.Walk[DeadLetter]):
    """One walk."""

    def __init__(self, broker: Broker, queue: str | None, *, page: int = listed.PAGE) -> None:
        """Go through the letters of `queue`, or of all."""
        super().__init__(broker.dead_letters, queue, page=page)
