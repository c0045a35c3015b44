"""A node in one process: its tasks run here, one at a time, without children (``--pool solo``).

Also what an embedded worker is made of. A hard time limit needs a process that can be replaced,
and there is none here: it is enforced as a soft one.
"""

from __future__ import annotations

import logging
import os
import queue
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from umbel.worker.limits import ShutdownInterrupt
from umbel.worker.shutdown import Phase, Shutdown

if TYPE_CHECKING:
    from umbel.worker.node import Node
    from umbel.worker.pooled import PooledLane
    from umbel.worker.solo import SoloLane

logger = logging.getLogger("umbel.worker")


class Foreground:
    """Carries out a shutdown, from a thread, for a lane that runs in this process."""

    def __init__(
        self,
        lane: SoloLane | PooledLane,
        node: Node,
        shutdown: Shutdown,
        on_phase: Callable[[Phase], object],
    ):
        """`on_phase` is told of each phase as it begins."""
        self._lane, self._node, self.shutdown = lane, node, shutdown
        self._on_phase = on_phase
        # A signal handler may put into it whatever the main thread is in the middle of.
        self._requests: queue.SimpleQueue[Phase | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._watch, name="umbel-shutdown", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def request(self, phase: Phase) -> None:
        """Begin or hasten the shutdown; may be called from a signal handler."""
        self._requests.put(phase)

    def finished(self) -> None:
        """Say that the lane has ended; the thread ends too."""
        self._requests.put(None)
        self._thread.join()

    def _watch(self) -> None:
        while True:
            try:
                phase = self._requests.get(timeout=self.shutdown.remaining_s(time.monotonic()))
            except queue.Empty:
                changed = self.shutdown.advance(time.monotonic())
            else:
                if phase is None:
                    return
                changed = self.shutdown.request(phase, time.monotonic())
            if changed:
                self._carry_out(self.shutdown.phase)

    def _carry_out(self, phase: Phase) -> None:
        logger.warning("%s shutdown", phase.name.lower())
        self._on_phase(phase)
        self._lane.stop()
        if phase is Phase.SOFT:
            self._lane.interrupt(ShutdownInterrupt)
        elif phase >= Phase.COLD:
            self._lane.give_up()
            self._node.stop()
            os._exit(0)
