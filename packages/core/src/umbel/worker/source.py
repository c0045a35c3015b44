"""Where a consumer's deliveries come from: the broker, through outages.

An outage is an ordinary state of the loop: nothing is torn down, and every return of the broker
is proved by a receive that succeeds.
"""

from __future__ import annotations

import logging
import math
import random
import threading
from collections.abc import Callable, Collection, Sequence
from typing import TYPE_CHECKING

from umbel.errors import BrokerError, BrokerUnavailableError, UmbelError
from umbel.interfaces.broker import Capability
from umbel.messages import Delivery, Message
from umbel.worker.queue_order import Order, QueueOrder, order_of

if TYPE_CHECKING:
    from umbel.clock import Clock
    from umbel.interfaces.broker import Broker
    from umbel.worker.identity import Identity

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
        identity: Identity,
        clock: Clock,
        stopping: threading.Event,
        *,
        is_proved: bool = False,
        pause: Callable[[float], object] | None = None,
        jitter: Callable[[], float] = random.random,
        order: Order | None = None,
    ):
        """Join the broker. An outage is no error: then the first receive that succeeds joins.

        Args:
            broker: The consumer's own handle.
            queues: What to receive from.
            identity: Who consumes.
            clock: Where to read the time.
            stopping: Set when nothing more is to be received: it ends a pause.
            is_proved: The node has used this broker already: what it refuses is an outage, too.
            pause: Waits so many seconds during an outage; None: until `stopping` at most.
            jitter: Returns a number from 0 to below 1.
            order: Returns the queues in the order of a receive; None: each in turn is the first.
        Raises: BrokerError: the broker refuses, and isn't proved.
        """
        self._broker, self._identity = broker, identity
        self._in_order = order or order_of(QueueOrder.ROUND_ROBIN, queues, {})
        self._clock, self._jitter = clock, jitter
        self._pause = stopping.wait if pause is None else pause
        self._has_lease = Capability.LEASE in broker.capabilities
        self._has_joined = not self._has_lease
        self._on_joined: Callable[[], object] = lambda: None
        self._reconciled_at = clock.monotonic()
        self._pause_s = 0.0
        self._down_since: float | None = None
        #: Monotonic time of the last receive that the broker answered.
        self.received_at = clock.monotonic()
        try:
            self._join()
        except BrokerError as exc:
            if not (is_proved or isinstance(exc, BrokerUnavailableError)):
                raise
            self._note_outage(exc)

    def when_joined(self, call: Callable[[], object]) -> None:
        """Have `call` called once the broker knows the consumer: from then on it consumes."""
        if self._has_joined:
            call()
        else:
            self._on_joined = call

    @property
    def is_down(self) -> bool:
        """Whether the last call that the broker was asked for failed."""
        return self._down_since is not None

    def receive(self, *, max_messages: int, wait_s: float) -> Sequence[Delivery]:
        """Return deliveries; none during an outage, after a pause with backoff and jitter."""
        try:
            self._join()
            got = self._broker.receive(self._in_order(), max_messages=max_messages, wait_s=wait_s)
        except Exception as exc:  # noqa: BLE001 - a plugin's own errors count as an outage
            self._note_outage(exc)
            self._pause(self._pause_s * (0.5 + self._jitter() / 2))
            return ()
        self.received_at = self._clock.monotonic()
        if self._down_since is not None:
            logger.info(
                "receiving again after %.1f s without the broker",
                self.received_at - self._down_since,
            )
            self._down_since, self._pause_s = None, 0.0
        return got

    def settle_and_receive(
        self, deliveries: Sequence[Delivery], follow_ups: Sequence[Message], *, max_messages: int
    ) -> tuple[Sequence[Delivery], Sequence[Delivery]]:
        """Do as `Broker.settle_and_receive`. Raises what the broker does."""
        try:
            lost, got = self._broker.settle_and_receive(
                deliveries, follow_ups, self._in_order(), max_messages=max_messages
            )
        except BaseException:
            self._reconciled_at = -math.inf  # what was handed out all the same is looked for
            raise
        if got:
            self.received_at = self._clock.monotonic()
        return lost, got

    def _join(self) -> None:
        if not self._has_joined:
            who = self._identity
            self._broker.join(who.node, who.consumer, lease_s=who.lease_s)
            self._has_joined = True
            self._on_joined()

    def _note_outage(self, exc: Exception) -> None:
        # What was handed out while the answer got lost is looked for before anything is taken:
        # a long task may come then.
        self._reconciled_at = -math.inf
        if self._down_since is None:
            self._down_since = self._clock.monotonic()
            logger.error(
                "can't receive from the broker, trying again until it is back: %s",
                exc,
                exc_info=None if isinstance(exc, UmbelError) else exc,
            )
        self._pause_s = min(max(self._pause_s * 2, _FIRST_PAUSE_S), _LONGEST_PAUSE_S)

    def reconcile(self, known: Collection[str]) -> None:
        """Every few seconds, give back what the broker thinks is held here and isn't.

        Args:
            known: Receipts of all that is held. Read after the last receive.
        """
        now = self._clock.monotonic()
        if not self._has_lease or now - self._reconciled_at < RECONCILE_EVERY_S:
            return
        self._reconciled_at = now
        try:
            held = self._broker.held(self._identity.consumer)
            strays = [delivery for delivery in held if delivery.receipt not in known]
            if strays:
                logger.warning("giving back %d deliveries that got lost on the way", len(strays))
                self._broker.nack(strays)
        except Exception as exc:  # noqa: BLE001 - a later turn compares them
            logger.debug("can't compare with the broker what is held: %s", exc)
