"""What a dead child left behind: settled where it was finished, struck or given back otherwise."""

from __future__ import annotations

import logging
import random
import signal
import time
from collections.abc import Collection
from typing import TYPE_CHECKING

import msgspec

from umbel.errors import UmbelError
from umbel.interfaces.broker import Capability
from umbel.messages import Delivery
from umbel.outcomes import Outcome
from umbel.worker.admission import poison
from umbel.worker.board import JournalEntry, slot_key
from umbel.worker.decode import Decoder, header_id
from umbel.worker.jobs import Job, Settlement
from umbel.worker.report import tell_not_run

if TYPE_CHECKING:
    from umbel.interfaces.broker import Broker
    from umbel.messages import Malformed, Message
    from umbel.worker.board import Board
    from umbel.worker.host import Host
    from umbel.worker.settle import Settler

logger = logging.getLogger("umbel.worker")

_FIRST_PAUSE_S = 0.1
_LONGEST_PAUSE_S = 2.0


class DeadChild(msgspec.Struct, frozen=True, kw_only=True):
    """A child that has ended, and what its board says."""

    consumer: str
    pid: int
    exitcode: int | None
    #: Slot keys of what it ran.
    running: frozenset[bytes]
    #: By receipt.
    journal: dict[str, JournalEntry]
    #: By slot key: why the task had to be ended, where the supervisor ended it.
    doomed: dict[bytes, Outcome]
    #: It didn't die of what it ran: it ended in order, or for the sake of another task.
    was_spared: bool


class Recovery:
    """Takes care of what dead children held, through outages."""

    def __init__(self, host: Host, hostname: str, *, broker: Broker, settler: Settler):
        """Use `broker` and `settler`, which belong to the supervisor."""
        self._host, self._broker, self._settler = host, broker, settler
        self._decoder = Decoder(host, hostname)
        self._has_lease = Capability.LEASE in broker.capabilities
        self._dead: list[DeadChild] = []
        self._pause_s = 0.0
        self._not_before = 0.0

    @property
    def is_done(self) -> bool:
        """Whether nothing is left to recover."""
        return not self._dead

    def add(self, dead: DeadChild) -> None:
        """Take `dead` in, for the next `run`."""
        self._dead.append(dead)

    def run(self) -> None:
        """Recover what can be now; during an outage it is tried again with pauses. Never raises."""
        if not self._dead or time.monotonic() < self._not_before:
            return
        left = []
        for dead in self._dead:
            try:
                self._recover(dead)
            except Exception as exc:  # noqa: BLE001 - a plugin's own errors count as an outage
                self._note_failure(dead, exc)
                left.append(dead)
        self._dead = left
        if not left:
            self._pause_s = 0.0

    def _note_failure(self, dead: DeadChild, exc: Exception) -> None:
        if not self._pause_s:
            logger.error(
                "can't recover what pid %d held yet, trying again: %s",
                dead.pid,
                exc,
                exc_info=None if isinstance(exc, UmbelError) else exc,
            )
        self._pause_s = min(max(self._pause_s * 2, _FIRST_PAUSE_S), _LONGEST_PAUSE_S)
        self._not_before = time.monotonic() + self._pause_s * (0.5 + random.random() / 2)

    def _recover(self, dead: DeadChild) -> None:
        held = self._broker.held(dead.consumer) if self._has_lease else ()
        # What is pending comes from a try before this one, which an outage ended.
        pending = self._settler.pending_receipts()
        struck = []
        for delivery in held:
            if delivery.receipt in pending:
                continue
            if self._settle_left(dead, delivery) or not self._died_of(dead, delivery):
                continue
            struck.append(delivery.receipt)
            logger.error(
                "task %s was running in pid %d when it died (%s); strike %d",
                header_id(delivery.message),
                dead.pid,
                describe_exit(dead.exitcode),
                delivery.strikes + 1,
            )
        self._settle_early(dead, pending | {delivery.receipt for delivery in held})
        if not self._settler.flush(force=True):
            raise self._settler.outage or UmbelError("not settled")
        if self._has_lease:
            self._broker.recover_consumer(dead.consumer, struck=struck)

    def _died_of(self, dead: DeadChild, delivery: Delivery) -> bool:
        return not dead.was_spared and slot_key(delivery.receipt) in dead.running

    def _settle_left(self, dead: DeadChild, delivery: Delivery) -> bool:
        """Settle a task that has an outcome, or isn't to run again; False: it is to."""
        entry, job = dead.journal.get(delivery.receipt), self._job(delivery)
        if entry is not None and entry.outcome is not None:
            self._settler.add(Settlement(delivery, entry.outcome, job, entry.done_at))
            return True
        outcome = dead.doomed.get(slot_key(delivery.receipt))
        if outcome is None:
            if job is None or job.runner.rejects_on_lost or not self._died_of(dead, delivery):
                return False
            outcome = poison(1)
        self._add_not_run(Settlement(delivery, outcome, job, self._host.clock.time()))
        return True

    def _settle_early(self, dead: DeadChild, known: set[str]) -> None:
        """Settle what was acknowledged early: its broker has forgotten it, and runs it no more."""
        for receipt, entry in dead.journal.items():
            if entry.early is None or receipt in known:
                continue
            delivery = Delivery(
                message=entry.early.message,
                queue=entry.early.queue,
                receipt=receipt,
                token=entry.early.token,
            )
            job = self._job(delivery)
            if entry.outcome is not None:
                done = Settlement(delivery, entry.outcome, job, entry.done_at, acked=True)
                self._settler.add(done)
            else:
                outcome = dead.doomed.get(slot_key(receipt)) or poison(1)
                now = self._host.clock.time()
                self._add_not_run(Settlement(delivery, outcome, job, now, acked=True))

    def _add_not_run(self, settlement: Settlement) -> None:
        if settlement.job is not None:
            tell_not_run(settlement.job, settlement.outcome)
        self._settler.add(settlement)

    def _job(self, delivery: Delivery) -> Job | None:
        decoded = self._decoder.decode(delivery)
        return decoded if isinstance(decoded, Job) else None


def running_among(
    task_ids: Collection[str], broker: Broker, consumer: str, board: Board
) -> dict[bytes, str]:
    """Return which of these tasks a living child runs: slot key and id.

    Raises: BrokerError: it can't tell what the child holds.
    """
    running = {slot.key for slot in board.running()}
    if not running:
        return {}
    held: list[tuple[str, Message | Malformed]] = []
    held += [(each.receipt, each.message) for each in broker.held(consumer)]
    # Those that were acknowledged early are held nowhere.
    held += [(each.receipt, each.early.message) for each in board.journal() if each.early]
    found = ((slot_key(receipt), header_id(message)) for receipt, message in held)
    return {
        key: task_id
        for key, task_id in found
        if key in running and task_id is not None and task_id in task_ids
    }


def describe_exit(exitcode: int | None) -> str:
    """Return an exit code in words."""
    if exitcode is None:
        return "unknown"
    if exitcode < 0:
        try:
            return f"signal {-exitcode} ({signal.Signals(-exitcode).name})"
        except ValueError:
            return f"signal {-exitcode}"
    return f"exit code {exitcode}"
