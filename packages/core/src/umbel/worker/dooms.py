"""Ending a process for the sake of a task that it runs, whose outcome is known by that.

A broker without leases hands the task to another process as soon as this one is dead. So its
fate is written first; in a thread, since an outage must not hold up the supervisor, nor the end
of the process for longer than a moment. What can't be written now, recovery writes later.
"""

from __future__ import annotations

import logging
import threading
import time
from queue import SimpleQueue
from typing import TYPE_CHECKING

from umbel.worker.slot_names import name_in

if TYPE_CHECKING:
    from umbel.outcomes import Outcome
    from umbel.worker.children import Children
    from umbel.worker.fates import Fates
    from umbel.worker.processes import Child

logger = logging.getLogger("umbel.worker")

#: Seconds that a process lives on at most while the fate of its task is written.
_MOST_S = 1.0


class _Doom:
    """A process that is about to be ended for a task."""

    def __init__(self, child: Child, key: bytes, outcome: Outcome):
        self.child, self.key, self.outcome = child, key, outcome
        #: Monotonic seconds.
        self.until = time.monotonic() + _MOST_S
        #: Whether its fate is written, or can't be.
        self.is_over = False
        #: It came to nothing: what is written is to be dropped.
        self.is_void = False


class Dooms:
    """The tasks that processes are ended for. On the supervisor's thread."""

    def __init__(self, children: Children, fates: Fates | None):
        """`fates`: where they are written before; None: they needn't be."""
        self._children, self._fates = children, fates
        self._waiting: list[_Doom] = []
        self._queue: SimpleQueue[_Doom] = SimpleQueue()
        self._thread: threading.Thread | None = None

    def add(self, child: Child, key: bytes, outcome: Outcome) -> None:
        """End `child` for the sake of the task in the slot `key`, whose outcome this is."""
        if key in child.doomed:
            return
        child.doomed[key] = outcome
        if self._fates is None or child.was_killed:
            child.kill()
            return
        doom = _Doom(child, key, outcome)
        self._waiting.append(doom)
        self._queue.put(doom)
        if self._thread is None:
            self._thread = threading.Thread(target=self._write, name="umbel-dooms", daemon=True)
            self._thread.start()

    def carry_out(self, now: float) -> None:
        """End those processes whose task's fate is written, or would take too long."""
        if not self._waiting:
            return
        living = set(self._children)
        left = []
        for doom in self._waiting:
            if doom.child not in living:
                continue
            if not (doom.is_over or now >= doom.until):
                left.append(doom)
            elif any(slot.key == doom.key for slot in doom.child.board.running()):
                doom.child.kill()
            else:  # it ended by itself meanwhile, and the next one is not to blame
                del doom.child.doomed[doom.key]
                doom.is_void = True
                self._queue.put(doom)
        self._waiting = left

    def _write(self) -> None:
        while (fates := self._fates) is not None:
            doom = self._queue.get()
            if doom.is_void:
                fates.forget([name_in(doom.key)])
                continue
            try:
                fates.judge(name_in(doom.key), doom.outcome)
            except Exception as exc:  # noqa: BLE001 - a plugin's own errors count as an outage
                logger.debug("can't write what comes of a task yet: %s", exc)
            doom.is_over = True
