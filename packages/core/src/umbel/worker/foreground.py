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
        self._requests: queue.Queue[Callable[[float], bool] | None] = queue.Queue()
        self._thread = threading.Thread(target=self._watch, name="umbel-shutdown", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def request(self, phase: Phase | None) -> None:
        """Begin or hasten the shutdown; None: the next phase. Not for signal handlers."""
        if phase is None:
            self._requests.put(self.shutdown.escalate)
        else:
            self._requests.put(lambda now: self.shutdown.request(phase, now))

    def stop_when_done(self) -> dict[str, str]:
        """Begin a warm shutdown; returns the answer to the command that asks for it."""
        self.request(Phase.WARM)
        return {"ok": "shutting down"}

    def finished(self) -> None:
        """Say that the lane has ended; the thread ends too."""
        self._requests.put(None)
        self._thread.join()

    def _watch(self) -> None:
        while True:
            try:
                change = self._requests.get(timeout=self.shutdown.remaining_s(time.monotonic()))
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
