"""What was published for one subscription and not polled yet, and whether anything is missing."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Mapping, Sequence
from typing import Final

from umbel.errors import BackendUnavailableError

#: Messages that are kept for a subscription that doesn't poll; then the oldest are dropped.
MOST_KEPT: Final = 100_000


class Inbox:
    """Filled by the thread that listens, emptied by those that poll."""

    def __init__(self, channels: Mapping[bytes, str]) -> None:
        #: By their names in Redis.
        self.channels = channels
        self.forget()

    def forget(self) -> None:
        """Be as new, and cut off. For a process that was forked: nobody else is in here."""
        #: Whether Redis has confirmed all channels on the connection that there is now.
        self.is_heard = False
        self._changed = threading.Condition()
        self._messages: deque[tuple[str, bytes]] = deque(maxlen=MOST_KEPT)
        #: Messages may be missing after those that are kept, and nobody was told yet.
        self._gap: Exception | None = None
        #: Why there is no connection now.
        self._cut: Exception | None = None
        self._is_interrupted = False
        self._is_closed = False

    # -- for who polls ------------------------------------------------------------------------

    def take(self, timeout_s: float) -> Sequence[tuple[str, bytes]]:
        """Return what there is, waiting at most `timeout_s` for it.

        Raises: Exception: why there may be a gap in front of what comes next, once; and why there
            is no connection, where the time is over.
        """
        with self._changed:
            self._changed.wait_for(self._has_news, timeout_s)
            if self._messages:
                heard = list(self._messages)
                self._messages.clear()
                return heard
            if self._gap is not None:
                gap, self._gap = self._gap, None
                raise gap
            if self._is_interrupted and not self._is_closed:
                self._is_interrupted = timeout_s <= 0  # it is for a poll that waits
            elif self._cut is not None and not self._is_closed:
                raise self._cut
            return []

    def interrupt(self) -> None:
        """End the `take` that waits, or else the next one that would wait."""
        with self._changed:
            self._is_interrupted = True
            self._changed.notify_all()

    # -- for who listens ----------------------------------------------------------------------

    def hear(self, channel: bytes, payload: bytes) -> None:
        """Keep a message."""
        with self._changed:
            if len(self._messages) == MOST_KEPT and self._gap is None:
                self._gap = BackendUnavailableError(
                    f"messages are lost: more than {MOST_KEPT} of them weren't polled"
                )
            self._messages.append((self.channels[channel], payload))
            self._changed.notify_all()

    def begin(self) -> None:
        """Hear from now on."""
        with self._changed:
            self.is_heard, self._cut = True, None

    def lose(self, exc: Exception) -> None:
        """Be cut off, or still be."""
        with self._changed:
            if self.is_heard:
                self._gap = exc
            self.is_heard, self._cut = False, exc
            self._changed.notify_all()

    def end(self) -> None:
        """Hear nothing any more."""
        with self._changed:
            self.is_heard, self._is_closed = False, True
            self._changed.notify_all()

    def _has_news(self) -> bool:
        return bool(
            self._messages or self._gap is not None or self._is_interrupted or self._is_closed
        )
