"""A node's life signs: its lease, what dead nodes left behind, the janitor, remote control.

Runs in threads of the supervisor, which runs no task, so nothing that a task does can hold a
renewal up.
"""

from __future__ import annotations

import logging
import random
import threading
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import msgspec

from umbel.errors import UmbelError
from umbel.interfaces.broker import Capability

if TYPE_CHECKING:
    from umbel.interfaces.backend import Backend
    from umbel.interfaces.broker import Broker
    from umbel.interfaces.coordinator import Coordinator, Subscription
    from umbel.worker.consumer import Identity

logger = logging.getLogger("umbel.worker")

#: Channel of remote control.
CONTROL_CHANNEL = "control"
_JANITOR_EVERY_S = 60.0
_JANITOR_BATCH = 5000
_POLL_S = 5.0
_RETRY_S = 1.0


class ControlMessage(msgspec.Struct, frozen=True):
    """A remote-control command."""

    method: str
    arguments: dict[str, Any] = {}
    #: Names of the nodes that are meant; None: all.
    destination: list[str] | None = None


_decode_control = msgspec.json.Decoder(ControlMessage).decode


class Node:
    """The life signs of one worker node."""

    def __init__(
        self,
        identity: Identity,
        *,
        broker: Broker,
        backend: Backend | None,
        coordinator: Coordinator | None,
        on_lease: Callable[[float], object],
        on_control: Callable[[ControlMessage], object],
    ):
        """Prepare; `start` begins.

        Args:
            identity: Who this is.
            broker: A handle for this node's own use, as are `backend` and `coordinator`.
            on_lease: Told, after each renewal, until when (monotonic seconds) the lease holds.
            on_control: Told of each command for this node.
        """
        self._identity, self._broker = identity, broker
        self._backend, self._coordinator = backend, coordinator
        self._on_lease, self._on_control = on_lease, on_control
        self._stopped = threading.Event()
        self._subscription: Subscription | None = None
        self._swept_at = 0.0
        self._failing = False
        self._threads = [
            threading.Thread(target=self._renew_forever, name="umbel-lease", daemon=True)
        ]
        if coordinator is not None:
            self._threads.append(
                threading.Thread(target=self._listen_forever, name="umbel-control", daemon=True)
            )

    def start(self) -> None:
        """Take the lease, then keep it. Raises: BrokerError: the broker refuses."""
        if Capability.LEASE in self._broker.capabilities:
            identity = self._identity
            self._broker.join(
                identity.node, f"{identity.node}/supervisor", lease_s=identity.lease_s
            )
            self._renew()
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """End the lease; what the node's processes still hold is given back."""
        self._stopped.set()
        if self._subscription is not None:
            self._subscription.interrupt()
        for thread in self._threads:
            if thread.ident is not None:
                thread.join()
        if Capability.LEASE in self._broker.capabilities:
            try:
                self._broker.leave(self._identity.node)
            except UmbelError as exc:
                logger.warning(
                    "can't end this node's lease, others will take over when it runs out: %s", exc
                )

    # -- the lease ----------------------------------------------------------------------------

    def _renew_forever(self) -> None:
        has_lease = Capability.LEASE in self._broker.capabilities
        every_s = self._identity.lease_s / 3
        while not self._stopped.wait(every_s * (0.9 + random.random() / 5)):
            if has_lease:
                self._renew()
                self._recover()
            self._sweep()

    def _renew(self) -> None:
        asked_at = time.monotonic()
        lease_s = self._identity.lease_s
        try:
            was_valid = self._broker.renew(self._identity.node, lease_s=lease_s)
        except UmbelError as exc:
            if not self._failing:
                logger.warning("can't renew this node's lease, trying again: %s", exc)
            self._failing = True
            return
        self._failing = False
        if was_valid:
            self._on_lease(asked_at + lease_s)
        else:
            # Others may have taken what was held: the processes ask before they settle it.
            logger.warning("this node's lease had run out; it is valid again")

    def _recover(self) -> None:
        try:
            recovered = self._broker.recover_expired()
        except UmbelError as exc:
            logger.debug("can't look for expired leases: %s", exc)
            return
        if recovered:
            logger.warning("gave back %d messages of nodes that are gone", recovered)

    def _sweep(self) -> None:
        """Drop expired results, every minute, where the backend doesn't do it by itself."""
        now = time.monotonic()
        if self._backend is None or now - self._swept_at < _JANITOR_EVERY_S:
            return
        self._swept_at = now
        try:
            while self._backend.expire(limit=_JANITOR_BATCH) >= _JANITOR_BATCH:
                if self._stopped.is_set():
                    return
        except UmbelError as exc:
            logger.debug("can't drop expired results: %s", exc)

    # -- remote control -----------------------------------------------------------------------

    def _listen_forever(self) -> None:
        coordinator = self._coordinator
        assert coordinator is not None  # noqa: S101 - no thread runs this without one
        while not self._stopped.is_set():
            try:
                self._subscription = coordinator.subscribe([CONTROL_CHANNEL])
                try:
                    # Whatever was said before this subscription is in the store.
                    self._on_control(ControlMessage("refresh"))
                    self._listen(self._subscription)
                finally:
                    self._subscription.close()
            except UmbelError as exc:
                logger.warning("remote control is out of reach, trying again: %s", exc)
                self._stopped.wait(_RETRY_S)

    def _listen(self, subscription: Subscription) -> None:
        while not self._stopped.is_set():
            self._handle(subscription.poll(timeout_s=_POLL_S))

    def _handle(self, messages: Sequence[tuple[str, bytes]]) -> None:
        for _, payload in messages:
            try:
                message = _decode_control(payload)
            except (msgspec.DecodeError, msgspec.ValidationError) as exc:
                logger.warning("malformed control message passed over: %s", exc)
                continue
            wanted = message.destination
            if wanted is None or self._identity.hostname in wanted:
                try:
                    self._on_control(message)
                except UmbelError as exc:
                    logger.error("control command %s failed: %s", message.method, exc)
