"""How many children a worker has: a fixed number, or one between bounds that follows the load.

It grows at once when all children are busy and messages wait, and shrinks when fewer would have
been enough for a while. A child that is too many ends in order: nothing is lost by it.
"""

from __future__ import annotations

import logging
import math
import threading
from collections.abc import Sequence
from typing import TYPE_CHECKING

import msgspec

from umbel.errors import ConfigError
from umbel.interfaces.broker import Capability
from umbel.settings.autoscale import read_autoscale

if TYPE_CHECKING:
    from umbel.interfaces.broker import Broker
    from umbel.settings import Settings
    from umbel.worker.processes import Child

logger = logging.getLogger("umbel.worker")

#: Seconds between two decisions, and between two questions to the broker.
_DECIDE_EVERY_S = 0.5
_ASK_EVERY_S = 1.0


class Bounds(msgspec.Struct, frozen=True):
    """The most and the fewest children."""

    most: int
    fewest: int = 1

    @classmethod
    def of(cls, conf: Settings) -> Bounds | None:
        """Return those that the settings name; None: the number is fixed."""
        text = conf.worker_autoscale
        return None if text is None else cls(*read_autoscale(text))


class Gauge:
    """What waits in the queues, asked for in a thread: an answer may take its time."""

    def __init__(self, broker: Broker, queues: Sequence[str]):
        self._broker, self._queues = broker, queues
        #: Whether the broker can tell.
        self.can_tell = Capability.INSPECT in broker.capabilities
        self._ready: int | None = None
        self._asked = threading.Event()
        self._stopped = threading.Event()
        self._thread: threading.Thread | None = None

    def take(self) -> int | None:
        """Return how many messages were ready at the last look, once; None: not known (yet)."""
        ready, self._ready = self._ready, None
        return ready

    def ask(self) -> None:
        """Have a look taken, soon."""
        if self.can_tell and self._thread is None:
            self._thread = threading.Thread(target=self._look, name="umbel-gauge", daemon=True)
            self._thread.start()
        self._asked.set()

    def stop(self) -> None:
        """End the thread; one that waits for its broker is left behind."""
        self._stopped.set()
        self._asked.set()
        if self._thread is not None:
            self._thread.join(_ASK_EVERY_S)

    def _look(self) -> None:
        while not self._stopped.is_set():
            self._asked.wait()
            self._asked.clear()
            try:
                self._ready = sum(self._broker.stats(name).ready for name in self._queues)
            except Exception as exc:  # noqa: BLE001 - a plugin's own errors count as an outage
                logger.debug("can't look at what waits in the queues: %s", exc)
            self._stopped.wait(_ASK_EVERY_S)


class Scaling:
    """The number of children that there should be."""

    def __init__(
        self, size: int, bounds: Bounds | None, *, slots: int, idle_s: float, gauge: Gauge
    ):
        """Begin with `size` children, or the fewest.

        Args:
            size: How many, where there are no bounds.
            bounds: Between which to follow the load; None: don't.
            slots: Tasks that one child runs at once.
            idle_s: For how long fewer must have been enough before it shrinks.
            gauge: Tells what waits.
        """
        self.size = size if bounds is None else bounds.fewest
        self.bounds = bounds
        self._slots, self._idle_s, self._gauge = slots, idle_s, gauge
        self._decide_at = self._since = 0.0
        self._was_full = False
        #: The most children that were needed at once since `_since`.
        self._peak = 0
        self._done: dict[Child, int] = {}

    def grow(self, by: int) -> int:
        """Have `by` children more; returns how many there will be. Raises: ConfigError."""
        self._resize(self.size + _positive(by))
        return self.size

    def shrink(self, by: int) -> int:
        """Have `by` children fewer, at least one; returns how many. Raises: ConfigError."""
        self._resize(max(1, self.size - _positive(by)))
        return self.size

    def _resize(self, size: int) -> None:
        """Have `size` children now; bounds that leave it out are moved."""
        self.size, self._since, self._peak = size, 0.0, 0
        if self.bounds is not None:
            self.bounds = Bounds(max(self.bounds.most, size), min(self.bounds.fewest, size))

    def set_bounds(self, most: int, fewest: int) -> int:
        """Follow the load between these from now on; returns how many children there will be.

        Raises: ConfigError: they contradict each other.
        """
        if not 1 <= fewest <= most:
            raise ConfigError(
                f"{most} children at most and {fewest} at least can't be; give 1 <= least <= most"
            )
        self.bounds = Bounds(most, fewest)
        self.size = min(max(self.size, fewest), most)
        return self.size

    def look(self, children: Sequence[Child], now: float) -> None:
        """Follow the load, going by what `children`, those in the pool, do now."""
        if self.bounds is None:
            return
        running = [sum(1 for _ in child.board.running()) for child in children]
        self._peak = max(self._peak, math.ceil(sum(running) / self._slots))
        if now < self._decide_at:
            return
        self._decide_at = now + _DECIDE_EVERY_S
        is_full = len(children) >= self.size and self._are_full(children, running)
        wanted = self._wanted(is_full)
        if wanted > self.size:
            self._change(min(wanted, self.bounds.most), now)
        elif is_full or self._peak >= self.size or not self._since:
            self._since, self._peak = now, 0
        elif now - self._since >= self._idle_s:
            self._change(max(self._peak, self.bounds.fewest), now)

    def _are_full(self, children: Sequence[Child], running: Sequence[int]) -> bool:
        """Tell whether no child could do more; where short tasks run, each has done some."""
        before, self._done = self._done, {child: child.board.done for child in children}
        return all(
            count >= self._slots
            or (self._gauge.can_tell and self._done[child] > before.get(child, math.inf))
            for child, count in zip(children, running, strict=True)
        )

    def _wanted(self, is_full: bool) -> int:
        """Return how many children there should be, going by the load alone."""
        was_full, self._was_full = self._was_full, is_full
        ready = self._gauge.take() if self._gauge.can_tell else self.size * self._slots
        if not is_full:
            return 0
        self._gauge.ask()
        if not was_full or not ready:
            return 0
        return self.size + min(self.size, math.ceil(ready / self._slots))

    def _change(self, size: int, now: float) -> None:
        if size != self.size:
            logger.info("autoscale: from %d to %d processes", self.size, size)
        self.size, self._since, self._peak = size, now, 0


def _positive(number: int) -> int:
    if number < 1:
        raise ConfigError(f"a pool can't change by {number} processes; give 1 or more")
    return number
