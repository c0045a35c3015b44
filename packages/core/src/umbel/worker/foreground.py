"""A node in one process: its tasks run here, one at a time, without children (``--pool solo``).

A hard time limit needs a process that can be replaced, and there is none here: it is enforced
as a soft one.
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
from umbel.worker.shutdown import COLD_GRACE_S, Phase, Shutdown

if TYPE_CHECKING:
    from umbel.worker.node import Node
    from umbel.worker.pooled import PooledLane
    from umbel.worker.solo import SoloLane

logger = logging.getLogger("umbel.worker")

_SHORTEST_WAIT_S = 0.01


class Foreground:
    """Carries out a shutdown, from a thread, for a lane that runs in this process."""

    def __init__(
        self,
        lane: SoloLane | PooledLane,
        node: Node,
        shutdown: Shutdown,
        *,
        on_phase: Callable[[str], object],
    ):
        """`on_phase` is told each phase as it begins: ``warm``, ``soft``, ``cold``."""
        self._lane, self._node, self.shutdown, self._on_phase = lane, node, shutdown, on_phase
        # A signal handler may put into it whatever the main thread is in the middle of.
        self._requests: queue.SimpleQueue[Callable[[float], bool] | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._watch, name="umbel-shutdown", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def request(self, phase: Phase | None) -> None:
        """Begin or hasten the shutdown; None: the next phase. For signal handlers too."""
        if phase is None:
            self._requests.put(self.shutdown.escalate)
        else:
            self._requests.put(lambda now: self.shutdown.request(phase, now))

    def finished(self) -> None:
        """Say that the lane has ended; the thread ends too."""
        self._requests.put(None)
        self._thread.join()

    def _watch(self) -> None:
        while True:
            left_s = self.shutdown.remaining_s(time.monotonic())
            try:
                # With a timeout of microseconds, SimpleQueue.get of CPython may wait for ever.
                change = self._requests.get(
                    timeout=None if left_s is None else max(left_s, _SHORTEST_WAIT_S)
                )
            except queue.Empty:
                change = self.shutdown.advance
            if change is None:
                return
            if change(time.monotonic()):
                try:
                    self._carry_out(self.shutdown.phase)
                except Exception:
                    logger.exception("the shutdown met an error; it goes on")

    def _carry_out(self, phase: Phase) -> None:
        name = phase.name.lower()
        logger.warning("%s shutdown", name)
        if phase >= Phase.COLD:
            self._end()
        self._lane.stop()
        self._on_phase(name)
        if phase is Phase.SOFT:
            self._lane.interrupt(ShutdownInterrupt)

    def _end(self) -> None:
        """Give back what runs and end the process, though a broker should not answer."""

        def give_back() -> None:
            self._lane.give_up()
            self._on_phase("cold")
            self._node.stop()

        thread = threading.Thread(target=give_back, name="umbel-cold", daemon=True)
        thread.start()
        thread.join(COLD_GRACE_S)
        os._exit(0)
