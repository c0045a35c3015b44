"""A node's life signs: its lease, what dead nodes left behind, the janitor, remote control.

Runs in threads of the supervisor, which runs no task, so nothing that a task does can hold a
renewal up; nor can the janitor, which has a thread of its own.
"""

from __future__ import annotations

import logging
import math
import random
import threading
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import msgspec

from umbel.clock import SYSTEM_CLOCK
from umbel.errors import BrokerUnavailableError
from umbel.interfaces.broker import Capability

if TYPE_CHECKING:
    from umbel.clock import Clock
    from umbel.interfaces.backend import Backend
    from umbel.interfaces.broker import Broker
    from umbel.interfaces.coordinator import Coordinator, Subscription
    from umbel.worker.identity import Identity

logger = logging.getLogger("umbel.worker")

#: Channel of remote control.
CONTROL_CHANNEL = "control"
_JANITOR_EVERY_S = 60.0
_JANITOR_BATCH = 5000
_POLL_S = 5.0
_RETRY_S = 1.0
#: Parts of the lease between two renewals, and between two tries of one that fails.
_RENEW_PART, _RETRY_PART = 1 / 3, 1 / 20
#: Part of the lease in which, after an outage, other nodes may still renew theirs.
_WARY_PART = 1 / 2
#: Seconds that the end of a node waits for its threads, each of which may be in a call.
_JOIN_S = 5.0


class ControlMessage(msgspec.Struct, frozen=True):
    """A remote-control command."""

    method: str
    arguments: dict[str, Any] = {}
    #: Names of the nodes that are meant; None: all.
    destination: list[str] | None = None
    #: Channel to answer on, and what the answer is to be called; None: no answer is wanted.
    reply_to: str | None = None
    ticket: str | None = None


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
        on_lease: Callable[[float, float], object],
        on_control: Callable[[ControlMessage], object],
        on_heartbeat: Callable[[], object] = lambda: None,
        clock: Clock = SYSTEM_CLOCK,
    ):
        """Prepare; `start` begins.

        Args:
            identity: Who this is.
            broker: A handle for this node's own use: nothing is received through it. `backend`
                and `coordinator` may be shared.
            on_lease: Told, after each renewal, from when until when (monotonic seconds) the
                lease holds.
            on_control: Told of each command for this node.
            on_heartbeat: Told after each renewal; of a broker without leases, never.
            clock: Where to read the time.
        """
        self._identity, self._broker = identity, broker
        self._backend, self._coordinator = backend, coordinator
        self._on_lease, self._on_control = on_lease, on_control
        self._on_heartbeat, self._clock = on_heartbeat, clock
        self._has_lease = Capability.LEASE in broker.capabilities
        self._stopped = threading.Event()
        self._subscription: Subscription | None = None
        self._lease_since = -math.inf
        #: When the broker last answered, and until when dead nodes are not looked for.
        self._renewed_at = math.inf
        self._wary_until = -math.inf
        self._is_failing = False
        self._is_deaf = False
        self._threads: list[threading.Thread] = []

    def start(self) -> None:
        """Take the lease, then keep it. Raises: BrokerError: the broker refuses."""
        self.join()
        if self._has_lease:
            self._run_in_thread(self._renew_forever, "umbel-lease")
        if self._backend is not None:
            self._run_in_thread(self._sweep_forever, "umbel-janitor")
        if self._coordinator is not None:
            self._run_in_thread(self._listen_forever, "umbel-control")

    def join(self) -> None:
        """Take the lease, where the broker has leases. Raises: BrokerError: it refuses."""
        if not self._has_lease:
            self._on_lease(-math.inf, math.inf)
            return
        who = self._identity
        try:
            self._broker.join(who.node, f"{who.node}/supervisor", lease_s=who.lease_s)
        except BrokerUnavailableError as exc:
            logger.error("can't take this node's lease yet, trying again: %s", exc)
        else:
            self._renew()

    def beat(self) -> None:
        """Renew the lease, and give back what nodes hold whose lease has run out."""
        if self._has_lease and self._renew():
            self._recover()

    def _run_in_thread(self, target: Callable[[], None], name: str) -> None:
        thread = threading.Thread(target=target, name=name, daemon=True)
        self._threads.append(thread)
        thread.start()

    def stop(self) -> None:
        """End the lease; what the node's processes still hold is given back. Repeatable."""
        self._stopped.set()
        if self._subscription is not None:
            self._subscription.interrupt()
        threads, self._threads = self._threads, []
        ends_at = time.monotonic() + _JOIN_S
        for thread in threads:
            thread.join(max(0.0, ends_at - time.monotonic()))
        if threads:
            self.leave()

    def leave(self) -> None:
        """Give the lease up, and all that is held under it. Never raises."""
        if not self._has_lease:
            return
        try:
            self._broker.leave(self._identity.node)
        except Exception as exc:  # noqa: BLE001 - a plugin's own errors count as an outage
            logger.warning(
                "can't end this node's lease, others will take over when it runs out: %s", exc
            )

    # -- the lease ----------------------------------------------------------------------------

    def _renew_forever(self) -> None:
        while not self._stopped.wait(self._pause_s()):
            self.beat()

    def _pause_s(self) -> float:
        part = _RETRY_PART if self._is_failing else _RENEW_PART
        return self._identity.lease_s * part * (0.9 + random.random() / 5)

    def _renew(self) -> bool:
        """Renew the lease; tell whether the broker answered."""
        asked_at = self._clock.monotonic()
        lease_s = self._identity.lease_s
        try:
            was_valid = self._broker.renew(self._identity.node, lease_s=lease_s)
        except Exception as exc:  # noqa: BLE001 - a plugin's own errors count as an outage
            if not self._is_failing:
                logger.warning("can't renew this node's lease, trying again: %s", exc)
            self._is_failing = True
            return False
        self._is_failing = False
        answered_at = self._clock.monotonic()
        if answered_at - self._renewed_at > lease_s:
            self._wary_until = answered_at + lease_s * _WARY_PART
        self._renewed_at = answered_at
        if not was_valid:
            # Others may have what was held until now: who settles it asks the broker first.
            logger.warning("this node's lease had run out; it is valid again")
            self._lease_since = self._clock.monotonic()
        try:
            self._on_lease(self._lease_since, asked_at + lease_s)
        except Exception:
            logger.exception("the lease was renewed and its processes could not be told")
        self._on_heartbeat()
        return True

    def _recover(self) -> None:
        if self._clock.monotonic() < self._wary_until:
            return  # an outage, or this node was held up: the others first get to renew theirs
        try:
            recovered = self._broker.recover_expired()
        except Exception as exc:  # noqa: BLE001 - as above
            logger.debug("can't look for expired leases: %s", exc)
            return
        if recovered:
            logger.warning("gave back %d messages of nodes that are gone", recovered)

    # -- the janitor --------------------------------------------------------------------------

    def _sweep_forever(self) -> None:
        """Drop expired results, every minute, where the backend doesn't do it by itself."""
        pause_s = 0.0
        while not self._stopped.wait(pause_s):
            self._sweep()
            pause_s = _JANITOR_EVERY_S * (0.9 + random.random() / 5)

    def _sweep(self) -> None:
        assert self._backend is not None  # noqa: S101 - no thread runs this without one
        try:
            while self._backend.expire(limit=_JANITOR_BATCH) >= _JANITOR_BATCH:
                if self._stopped.is_set():
                    return
        except Exception as exc:  # noqa: BLE001 - as above
            logger.debug("can't drop expired results: %s", exc)

    # -- remote control -----------------------------------------------------------------------

    def _listen_forever(self) -> None:
        while not self._stopped.is_set():
            try:
                self._listen()
            except Exception as exc:  # noqa: BLE001 - as above
                level = logging.DEBUG if self._is_deaf else logging.WARNING
                logger.log(level, "remote control is out of reach, trying again: %s", exc)
                self._is_deaf = True
                self._stopped.wait(_RETRY_S)

    def _listen(self) -> None:
        coordinator = self._coordinator
        assert coordinator is not None  # noqa: S101 - no thread runs this without one
        self._subscription = subscription = coordinator.subscribe([CONTROL_CHANNEL])
        try:
            # Whatever was said before this subscription is in the store.
            self._obey(ControlMessage("refresh"))
            while not self._stopped.is_set():
                heard = subscription.poll(timeout_s=_POLL_S)
                self._is_deaf = False
                self._handle(heard)
        finally:
            subscription.close()

    def _handle(self, messages: Sequence[tuple[str, bytes]]) -> None:
        for _, payload in messages:
            try:
                message = _decode_control(payload)
            except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as exc:
                logger.warning("malformed control message passed over: %s", exc)
                continue
            wanted = message.destination
            if wanted is None or self._identity.hostname in wanted:
                self._obey(message)

    def _obey(self, message: ControlMessage) -> None:
        try:
            self._on_control(message)
        except Exception:
            logger.exception("control command %s failed", message.method)
