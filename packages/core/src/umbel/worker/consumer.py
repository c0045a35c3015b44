"""All that one worker process consumes with: its own broker and backend handles, wired up."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import msgspec

from umbel.interfaces.broker import Capability
from umbel.worker.decode import Decoder
from umbel.worker.intake import Intake
from umbel.worker.planning import Planner
from umbel.worker.prefetch import Prefetch
from umbel.worker.revocations import Revocations
from umbel.worker.settle import Settler
from umbel.worker.source import Source

if TYPE_CHECKING:
    from umbel.interfaces.backend import Backend
    from umbel.interfaces.broker import Broker
    from umbel.interfaces.coordinator import Coordinator
    from umbel.worker.board import Board
    from umbel.worker.host import Host


class Identity(msgspec.Struct, frozen=True, kw_only=True):
    """Who consumes."""

    #: Unique id of the node, new at each start.
    node: str
    #: Unique id of the process.
    consumer: str
    #: The node's name for people, ``worker@host``.
    hostname: str
    lease_s: float


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
        broker: Broker | None = None,
        backend: Backend | None = None,
        coordinator: Coordinator | None = None,
        on_joined: Callable[[], object] = lambda: None,
    ):
        """Handles that aren't given are opened here, and closed by `close`.

        `on_joined` is told once the broker knows the consumer: from then on it consumes.
        """
        self.host, self.identity, self.queues = host, identity, list(queues)
        self.stopping = threading.Event()
        self.broker = broker or host.open_broker()
        self.backend = backend if broker is not None else host.open_backend()
        self.coordinator = coordinator if broker is not None else host.open_coordinator()
        self._owns_handles = broker is None
        self._board = board
        self.decoder = Decoder(host, identity.hostname, has_supervisor=board is not None)
        self.planner = Planner(host, identity.hostname)
        leased = board is not None and Capability.LEASE in self.broker.capabilities
        self.settler = Settler(
            host,
            self.broker,
            self.backend,
            planner=self.planner,
            journal=board,
            in_doubt=self._lease_is_in_doubt if leased else None,
            consumer=identity.consumer,
        )
        self.revocations = Revocations(self.coordinator)
        self.intake = Intake(
            host,
            self.decoder,
            self.settler,
            self.revocations,
            broker=self.broker,
            backend=self.backend,
        )
        self.source = Source(
            self.broker,
            queues,
            identity.consumer,
            host.clock,
            self.stopping,
            join=self._join,
            on_joined=on_joined,
        )
        self.prefetch = Prefetch(prefetch_multiplier, slots)

    def _join(self) -> None:
        identity = self.identity
        if Capability.LEASE in self.broker.capabilities:
            self.broker.join(identity.node, identity.consumer, lease_s=identity.lease_s)

    def stop(self) -> None:
        """Receive nothing more; a receive that waits returns."""
        self.stopping.set()
        self.broker.interrupt()

    def refresh_revocations(self) -> None:
        """Learn of tasks revoked meanwhile, where the supervisor says that there are any."""
        self.revocations.refresh(self._board.revokes if self._board is not None else 0)

    def _lease_is_in_doubt(self) -> bool:
        """Whether the node's lease wasn't renewed in time, as far as its supervisor says."""
        return self._board is not None and time.monotonic() >= self._board.lease_until

    def close(self) -> None:
        """Close the handles that were opened here."""
        if not self._owns_handles:
            return
        self.broker.close()
        if self.backend is not None:
            self.backend.close()
        if self.coordinator is not None:
            self.coordinator.close()
