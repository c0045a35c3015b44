"""All that one worker process consumes with: its own broker and backend handles, wired up."""

from __future__ import annotations

import logging
import random
import threading
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from umbel.routing import queue_weights
from umbel.worker.decode import Decoder
from umbel.worker.fates import Fates
from umbel.worker.intake import Intake
from umbel.worker.journal import Journal
from umbel.worker.planning import Planner
from umbel.worker.prefetch import Prefetch
from umbel.worker.queue_order import order_of
from umbel.worker.rates import Rates
from umbel.worker.revocations import Revocations
from umbel.worker.settle import Settler
from umbel.worker.slot_names import are_by_receipt
from umbel.worker.source import Source
from umbel.worker.strikes import Attempts

if TYPE_CHECKING:
    from umbel.messages import Delivery
    from umbel.worker.board import Board
    from umbel.worker.host import Host
    from umbel.worker.identity import Identity
    from umbel.worker.lease import LeaseView
    from umbel.worker.rate_table import RateTable

logger = logging.getLogger("umbel.worker")


class Consumer:
    """The parts of one consuming process, and whether its lease holds."""

    def __init__(
        self,
        host: Host,
        identity: Identity,
        queues: Sequence[str],
        *,
        slots: int = 1,
        prefetch_multiplier: int | None = None,
        board: Board | None = None,
        lease: LeaseView | None = None,
        rates: RateTable | None = None,
        pause: Callable[[float], object] | None = None,
        jitter: Callable[[], float] = random.random,
    ):
        """Open handles of its own; `close` closes them.

        Args:
            host: The app.
            identity: Who consumes.
            queues: What to consume.
            slots: How many tasks run at once here.
            prefetch_multiplier: Cap of messages held per slot; None: adapts.
            board: What is shared with a supervisor; None: there is none.
            lease: The node's lease, where there is no board to tell of it.
            rates: The node's rate limits, where several processes share them.
            pause: Waits so many seconds during an outage of the broker; None: as usual.
            jitter: Returns a number from 0 to below 1, for the pauses of outages.
        Raises: BrokerError: the broker refuses; not where it is only out of reach.
        """
        self.host, self.identity, self.queues = host, identity, list(queues)
        self.stopping = threading.Event()
        #: Whether giving back fails: told once.
        self._owes = False
        self._board = board
        self.broker = host.open_broker()
        #: Whether slots are named by receipts (`slot_names`).
        self.by_receipt = are_by_receipt(self.broker)
        self.backend = host.open_backend()
        self.coordinator = host.open_coordinator()
        self.decoder = Decoder(host, identity.hostname, has_supervisor=board is not None)
        self.planner = Planner(host, identity.hostname)
        self.revocations = Revocations(self.coordinator)
        fates = Fates.beside(self.broker, self.coordinator)
        self.settler = Settler(
            host,
            self.broker,
            self.backend,
            planner=self.planner,
            journal=Journal(board) if board is not None else None,
            lease=board or lease,
            consumer=identity.consumer,
            jitter=jitter,
            fates=fates,
            revocations=self.revocations,
        )
        self.rates = Rates(host, rates, jitter)
        self.intake = Intake(
            host,
            self.decoder,
            self.settler,
            self.revocations,
            self.rates,
            broker=self.broker,
            backend=self.backend,
            attempts=Attempts(self.coordinator),
            fates=fates,
        )
        self.prefetch = Prefetch(prefetch_multiplier, slots)
        try:
            self.source = Source(
                self.broker,
                queues,
                identity,
                host.clock,
                self.stopping,
                is_proved=board is not None,
                pause=pause,
                jitter=jitter,
                order=order_of(
                    host.conf.worker_queue_order, queues, queue_weights(host.conf.task_queues)
                ),
            )
        except BaseException:
            self.close()
            raise

    def stop(self) -> None:
        """Receive nothing more; a receive that waits returns."""
        self.stopping.set()
        self.broker.interrupt()

    def refresh_revocations(self) -> None:
        """Learn of tasks revoked meanwhile, where the supervisor says that there are any."""
        self.revocations.refresh(self._board.revokes if self._board is not None else 0)

    def give_back(self, deliveries: Sequence[Delivery]) -> bool:
        """Give back what was never begun; False: not yet, since the broker can't be reached."""
        if not deliveries:
            return True
        try:
            self.broker.nack(deliveries)
        except Exception as exc:  # noqa: BLE001 - a plugin's own errors count as an outage
            if not self._owes:
                text = "can't give %d unstarted messages back yet: %s"
                logger.warning(text, len(deliveries), exc)
            self._owes = True
            return False
        self._owes = False
        return True

    def close(self) -> None:
        """Close the handles. Repeatable."""
        for handle in (self.broker, self.backend, self.coordinator):
            if handle is not None:
                handle.close()
