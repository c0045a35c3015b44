"""Other lanes' waits, of one who is away with a message: most come back within a moment.

A thread ends the waits of one who doesn't, so that a long task sits on nothing. To wake it costs a
message more than a few of its looks do: so it stays awake for a while after the last time.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from typing import Final

#: Seconds that other lanes go on waiting for one who is away with a message.
LINGER_S: Final = 0.005
#: Looks without anything to end after which the thread sleeps until it is woken.
_IDLE_LOOKS: Final = 20


class Lingering:
    """Counts the moment, and has the waits ended when it is over."""

    def __init__(self, end: Callable[[], float]) -> None:
        """`end` ends the waits, unless `is_on` isn't set any more.

        It sets it again where it is to be called again, and returns after how many seconds.
        """
        self._end = end
        #: Whether other lanes wait for one who is away.
        self.is_on = False
        #: Monotonic time since when.
        self.since = 0.0
        self._awake = threading.Event()
        self._thread: threading.Thread | None = None
        self._is_closed = False

    def begin(self) -> None:
        """Begin the moment; to set `is_on` to False ends it before its time."""
        if self._thread is None or self._is_closed:
            self._is_closed = False
            self._thread = threading.Thread(
                target=self._run, name="umbel-redis-linger", daemon=True
            )
            self._thread.start()
        self.since = time.monotonic()
        self.is_on = True
        if not self._awake.is_set():
            self._awake.set()

    def close(self) -> None:
        """End the thread soon. Repeatable."""
        self.is_on, self._is_closed = False, True
        self._awake.set()

    def _run(self) -> None:
        pid, pause_s, idle = os.getpid(), LINGER_S, 0
        while not self._is_closed and os.getpid() == pid:
            self._awake.wait()
            time.sleep(pause_s)
            pause_s = LINGER_S
            idle = 0 if self.is_on else idle + 1
            if self.is_on and time.monotonic() - self.since >= LINGER_S:
                pause_s = self._end() or LINGER_S
            elif idle > _IDLE_LOOKS:
                idle = 0
                self._awake.clear()
                if self.is_on or self._is_closed:  # since just now
                    self._awake.set()
