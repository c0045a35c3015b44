"""Where a consumer's deliveries come from: the broker, through outages.

An outage is an ordinary state of the loop: nothing is torn down, and every return of the broker
is proved by a receive that succeeds.
"""

from __future__ import annotations

import logging
import random
import threading
from collections.abc import Callable, Collection, Sequence
from typing import TYPE_CHECKING

from umbel.errors import BrokerError
from umbel.interfaces.broker import Capability
from umbel.messages import Delivery

if TYPE_CHECKING:
    from umbel.clock import Clock
    from umbel.interfaces.broker import Broker

logger = logging.getLogger("umbel.worker")

_FIRST_PAUSE_S = 0.1
_LONGEST_PAUSE_S = 2.0
#: How often a consumer compares what it holds with what the broker thinks it holds.
RECONCILE_EVERY_S = 5.0


class Source:
    """Receives for one consumer."""

    def __init__(
        self,
        broker: Broker,
        queues: Sequence[str],
        consumer: str,
        clock: Clock,
        stopping: threading.Event,
        *,
        join: Callable[[], object],
        on_joined: Callable[[], object],
    ):
        """Receive for `consumer`.

        Args:
            broker: The consumer's handle.
            queues: What to consume.
            consumer: Unique id of this process.
            clock: Where to read the time.
            stopping: Set when nothing more is wanted.
            join: Says to the broker who receives; tried again through an outage.
            on_joined: Told once the broker knows, so that all is ready.
        """
        self._join: Callable[[], object] | None = join
        self._on_joined = on_joined
        self._broker, self._queues, self._consumer = broker, list(queues), consumer
        self._clock, self._stopping = clock, stopping
        self._reconciles = Capability.LEASE in broker.capabilities
        self._reconciled_at = clock.monotonic()
        self._turn = 0
        self._pause_s = 0.0
        self._down_since: float | None = None
        #: Monotonic time of the last receive that the broker answered.
        self.received_at = clock.monotonic()

    def receive(self, *, max_messages: int, wait_s: float) -> Sequence[Delivery]:
        """Return deliveries; none during an outage, after a pause with backoff and jitter."""
        try:
            if self._join is not None:
                self._join()
                self._join = None
                self._on_joined()
            got = self._broker.receive(self._in_turn(), max_messages=max_messages, wait_s=wait_s)
        except BrokerError as exc:
            self._outage(exc)
            return ()
        self.received_at = self._clock.monotonic()
        if self._down_since is not None:
            logger.info(
                "receiving again after %.1f s without the broker",
                self.received_at - self._down_since,
            )
            self._down_since, self._pause_s = None, 0.0
        return got

    def _in_turn(self) -> list[str]:
        """Return the queues, each time another one first: none starves behind a full one."""
        if len(self._queues) == 1:
            return self._queues
        self._turn = (self._turn + 1) % len(self._queues)
        return self._queues[self._turn :] + self._queues[: self._turn]

    def _outage(self, exc: BrokerError) -> None:
        if self._down_since is None:
            self._down_since = self._clock.monotonic()
            logger.error("can't receive from the broker, trying again until it is back: %s", exc)
        self._pause_s = min(max(self._pause_s * 2, _FIRST_PAUSE_S), _LONGEST_PAUSE_S)
        self._stopping.wait(self._pause_s * (0.5 + random.random() / 2))

    def reconcile(self, known: Collection[str]) -> None:
        """Every few seconds, give back what the broker thinks is held here and isn't.

        Args:
            known: Receipts of all that is held. Read after the last receive.
        """
        now = self._clock.monotonic()
        if not self._reconciles or now - self._reconciled_at < RECONCILE_EVERY_S:
            return
        self._reconciled_at = now
        try:
            held = self._broker.held(self._consumer)
            strays = [delivery for delivery in held if delivery.receipt not in known]
            if strays:
                logger.warning("giving back %d deliveries that got lost on the way", len(strays))
                self._broker.nack(strays)
        except BrokerError as exc:
            logger.debug("can't compare with the broker what is held: %s", exc)
