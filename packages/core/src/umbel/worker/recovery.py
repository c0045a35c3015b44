"""What a dead child left behind: settled where it was finished, struck or given back otherwise."""

from __future__ import annotations

import logging
import random
from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING

import msgspec

from umbel.errors import UmbelError
from umbel.interfaces.broker import Capability
from umbel.messages import Delivery
from umbel.outcomes import Outcome
from umbel.worker.board import JournalEntry, slot_key
from umbel.worker.decode import Decoder, header_id
from umbel.worker.fates import Fates
from umbel.worker.jobs import Job, Settlement
from umbel.worker.report import tell_not_run
from umbel.worker.revocations import descends_from, is_stamped
from umbel.worker.slot_names import are_by_receipt, name_in, named, slot_name, task_of
from umbel.worker.strikes import Attempt, Attempts, back_off_s, poison, signal_name

if TYPE_CHECKING:
    from umbel.interfaces.broker import Broker
    from umbel.interfaces.coordinator import Coordinator
    from umbel.messages import Malformed, Message
    from umbel.worker.board import Board, EarlyAcked
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
    #: Unix seconds.
    died_at: float
    #: Of memory, when it was last looked at; None: not known.
    memory_bytes: int | None = None
    #: Why it was ended for the sake of what it ran, where the supervisor did that.
    fault: str | None = None

    def attempt(self, hostname: str) -> Attempt:
        """Return what its death is to each task that it ran."""
        code = self.exitcode
        return Attempt(
            at=self.died_at,
            exit=code if code is not None and code >= 0 else None,
            signal=signal_name(code),
            pid=self.pid,
            hostname=hostname,
            memory_bytes=self.memory_bytes,
            fault=self.fault,
        )


class Recovery:
    """Takes care of what dead children held, through outages."""

    def __init__(
        self,
        host: Host,
        hostname: str,
        *,
        broker: Broker,
        settler: Settler,
        coordinator: Coordinator | None = None,
    ):
        """Use handles that belong to the supervisor."""
        self._host, self._broker, self._settler = host, broker, settler
        self._hostname = hostname
        self._max_deliveries: int = host.conf.task_max_deliveries
        self._attempts = Attempts(coordinator)
        self._fates = Fates.beside(broker, coordinator)
        #: Consumers for whose tasks the fates are noted.
        self._noted: set[str] = set()
        #: Ids of tasks that will be dead letters once the settler is done.
        self._buried: list[str | None] = []
        self._decoder = Decoder(host, hostname)
        self._has_lease = Capability.LEASE in broker.capabilities
        self._dead: list[DeadChild] = []
        #: By consumer: receipts and tokens of what it was seen to hold, in tries to recover it.
        self._seen: dict[str, set[tuple[str, int]]] = {}
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
        if not self._dead or self._host.clock.monotonic() < self._not_before:
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
        self._not_before = self._host.clock.monotonic() + self._pause_s * (
            0.5 + random.random() / 2
        )

    def _recover(self, dead: DeadChild) -> None:
        if self._fates is not None and dead.consumer not in self._noted:
            self._note_fates(dead, self._fates)
            self._noted.add(dead.consumer)
        held = self._broker.held(dead.consumer) if self._has_lease else ()
        known = self._known_to_be_held(dead, held)
        # What is pending comes from a try before this one, which an outage ended.
        pending = self._settler.pending_receipts()
        struck: dict[str, float] = {}
        for delivery in held:
            if delivery.receipt in pending:
                continue
            if self._settle_left(dead, delivery) or not self._died_of(dead, delivery):
                continue
            struck[delivery.receipt] = self._strike(dead, delivery)
        self._settle_early(dead, pending | known)
        if not self._settler.flush(force=True):
            self._give_back_others(held, struck)
            raise self._settler.outage or UmbelError("not settled")
        if self._has_lease:
            self._broker.recover_consumer(dead.consumer, struck=struck)
        self._seen.pop(dead.consumer, None)
        self._noted.discard(dead.consumer)
        self._attempts.forget(self._buried)
        self._buried.clear()

    def _give_back_others(self, held: Sequence[Delivery], struck: Collection[str]) -> None:
        """Give back what has neither an outcome nor a strike: an outage of the backend alone
        is nothing to it.
        """
        kept = self._settler.pending_receipts().union(struck)
        others = [each for each in held if each.receipt not in kept]
        if others:
            self._broker.nack(others)

    def _known_to_be_held(self, dead: DeadChild, held: Sequence[Delivery]) -> set[str]:
        """Return the receipts that were held at this try or an earlier one.

        What was, and isn't any more, was given back by that try, whose reply was lost, or others
        took it over, as this node's lease ran out in the outage: it is not to be settled here.
        """
        now = {(each.receipt, each.token) for each in held}
        seen = self._seen.setdefault(dead.consumer, set())
        self._settler.forget(seen - now)
        seen |= now
        return {receipt for receipt, _ in seen}

    def _strike(self, dead: DeadChild, delivery: Delivery) -> float:
        """Note what a task did to its process; return in how many seconds it may run again."""
        task_id, pause_s = header_id(delivery.message), back_off_s(delivery.strikes)
        attempt = dead.attempt(self._hostname)
        self._attempts.add(task_id, attempt, strikes=delivery.strikes)
        logger.error(
            "task %s was running in pid %d when it died (%s); strike %d, runs again in %g s",
            task_id,
            dead.pid,
            attempt.describe(),
            delivery.strikes + 1,
            pause_s,
        )
        return pause_s

    def _note_fates(self, dead: DeadChild, fates: Fates) -> None:
        """Tell whoever has its tasks next what they did to it. Raises what the coordinator does."""
        early = {self._key_of(receipt, each.early) for receipt, each in dead.journal.items()}
        attempt = dead.attempt(self._hostname)
        for key in dead.running - early:
            name = name_in(key)
            if (outcome := dead.doomed.get(key)) is not None:
                fates.judge(name, outcome)
            elif not dead.was_spared:
                strikes = fates.strike(name, attempt)
                logger.error(
                    "task %s was running in pid %d when it died (%s); strike %d",
                    task_of(name),
                    dead.pid,
                    attempt.describe(),
                    strikes,
                )
        # Those that ended by themselves meanwhile, or won't come again.
        fates.forget([name_in(key) for key in dead.doomed if key not in dead.running - early])

    def _key_of(self, receipt: str, early: EarlyAcked | None) -> bytes:
        """Return what the slot of an early-acknowledged task says, or said."""
        if self._has_lease or early is None:
            return slot_key(receipt)
        return slot_key(slot_name(early.message))

    def _poison(self, dead: DeadChild, delivery: Delivery) -> Outcome:
        """Return the outcome of a task that has killed its last process."""
        task_id, strikes = header_id(delivery.message), delivery.strikes + 1
        attempt = dead.attempt(self._hostname)
        attempts = self._attempts.add(task_id, attempt, strikes=delivery.strikes)
        self._buried.append(task_id)
        logger.error(
            "task %s was running in pid %d when it died (%s); strike %d, it won't run again",
            task_id,
            dead.pid,
            attempt.describe(),
            strikes,
        )
        return poison(strikes, attempts)

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
            if not self._died_of(dead, delivery):
                return False
            may_run_again = job is None or job.runner.rejects_on_lost
            if may_run_again and delivery.strikes + 1 < self._max_deliveries:
                return False
            outcome = self._poison(dead, delivery)
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
                outcome = dead.doomed.get(self._key_of(receipt, entry.early))
                if outcome is None:
                    outcome = poison(1, [dead.attempt(self._hostname)])
                now = self._host.clock.time()
                self._add_not_run(Settlement(delivery, outcome, job, now, acked=True))

    def _add_not_run(self, settlement: Settlement) -> None:
        if settlement.job is not None:
            tell_not_run(settlement.job, settlement.outcome)
        self._settler.add(settlement)

    def _job(self, delivery: Delivery) -> Job | None:
        decoded = self._decoder.decode(delivery)
        # One whose results can't be read now has a job all the same, and what follows from it.
        return decoded if isinstance(decoded, Job) else decoded.job


def running_among(
    task_ids: Collection[str],
    broker: Broker,
    consumer: str,
    board: Board,
    *,
    descendants: bool = False,
) -> dict[bytes, str]:
    """Return which of these tasks a living child runs: slot key and id.

    Args:
        task_ids: Ids of tasks or groups.
        broker: A broker without leases knows no descendants of what runs.
        consumer: The child.
        board: Its board.
        descendants: Also members of the groups, and what the tasks sent.
    Raises: BrokerError: it can't tell what the child holds.
    """
    running = {slot.key for slot in board.running()}
    if not running:
        return {}
    if not are_by_receipt(broker):
        return named(task_ids, running)
    held: list[tuple[str, Message | Malformed]] = []
    held += [(each.receipt, each.message) for each in broker.held(consumer)]
    # Those that were acknowledged early are held nowhere.
    held += [(each.receipt, each.early.message) for each in board.journal() if each.early]
    wanted = frozenset(task_ids)
    found = {}
    for receipt, message in held:
        key, task_id = slot_key(receipt), header_id(message)
        if key in running and task_id is not None:
            is_below = descendants and descends_from(message, wanted)
            if task_id in wanted or is_below or is_stamped(message, wanted):
                found[key] = task_id
    return found


def describe_exit(exitcode: int | None) -> str:
    """Return an exit code in words."""
    if exitcode is None:
        return "unknown"
    if exitcode < 0:
        name = signal_name(exitcode)
        return f"signal {-exitcode} ({name})" if name else f"signal {-exitcode}"
    return f"exit code {exitcode}"
