"""Outcome → effects: store the result, publish what follows, acknowledge. The only place that acks.

`Settler` carries out the plans of a batch, in an order in which a crash at any point repeats
work and loses none: results first, then follow-ups, then the acks.
"""

from __future__ import annotations

import logging
import random
import threading
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from umbel.error_info import error_info
from umbel.errors import TaskError, UmbelError
from umbel.events import notify
from umbel.outcomes import Failure, Rejected, Revoked, StoredResult
from umbel.worker.decode import header_id
from umbel.worker.jobs import Settlement
from umbel.worker.planning import Plan, Planner

if TYPE_CHECKING:
    from umbel.interfaces.backend import Backend
    from umbel.interfaces.broker import Broker
    from umbel.worker.board import Board
    from umbel.worker.host import Host

logger = logging.getLogger("umbel.worker")

_FIRST_PAUSE_S = 0.1
_LONGEST_PAUSE_S = 2.0


class Settler:
    """Settles batches for one consumer, and keeps what can't be settled during an outage.

    Thread-safe. `add` is cheap; `flush` does the I/O. What a flush can't settle stays and is
    tried again by a later one.
    """

    def __init__(
        self,
        host: Host,
        broker: Broker,
        backend: Backend | None,
        *,
        planner: Planner,
        journal: Board | None = None,
        in_doubt: Callable[[], bool] | None = None,
        consumer: str = "",
    ):
        """Settle for `consumer`.

        Args:
            journal: Keeps what isn't settled yet for the supervisor, should this process die.
            in_doubt: Whether the node's lease may have run out: then the broker is asked what is
                still held before anything is stored or sent.
        """
        self._host, self._broker, self._backend = host, broker, backend
        self._in_doubt, self._consumer = in_doubt, consumer
        self._planner = planner
        self._journal = journal
        self._pending: list[Settlement] = []
        self._lock = threading.Lock()
        self._flushing = threading.Lock()
        self._pause_s = 0.0
        self._not_before = 0.0
        #: What the last flush failed with; None while all is well.
        self.outage: UmbelError | None = None

    @property
    def backlog(self) -> int:
        """How many settlements wait."""
        return len(self._pending)

    def pending_receipts(self) -> set[str]:
        """Return the receipts of what waits to be settled."""
        with self._lock:
            return {settlement.delivery.receipt for settlement in self._pending}

    def add(self, settlement: Settlement) -> bool:
        """Take `settlement` in, for the next flush. False: flush now, the journal is full."""
        with self._lock:
            self._pending.append(settlement)
            if self._journal is None or settlement.job is None:
                return True
            return self._journal.note(
                settlement.delivery.receipt, settlement.outcome, settlement.done_at
            )

    def flush(self, *, force: bool = False) -> bool:
        """Settle all that waits; False: an outage holds some of it.

        During an outage a call does nothing until its pause is over, unless `force`.
        """
        if not self._pending:
            return True
        with self._flushing:
            now = self._host.clock.monotonic()
            if self.outage is not None and now < self._not_before and not force:
                return False
            with self._lock:
                batch, self._pending = self._pending, []
            try:
                self._settle(batch)
            except UmbelError as exc:
                with self._lock:
                    self._pending = batch + self._pending
                self._note_outage(exc, len(batch))
                return False
            if self.outage is not None:
                logger.info("settling again after an outage; %d outcomes were kept", len(batch))
                self.outage, self._pause_s = None, 0.0
            if self._journal is not None:
                self._rewrite(self._journal)
        return True

    def _rewrite(self, journal: Board) -> None:
        """Let the journal hold what came in during the flush, and nothing else."""
        with self._lock:
            journal.clear_journal()
            for left in self._pending:
                if left.job is not None:
                    journal.note(left.delivery.receipt, left.outcome, left.done_at)

    def _note_outage(self, exc: UmbelError, waiting: int) -> None:
        if self.outage is None:
            logger.error(
                "can't settle %d outcomes, they are kept and tried again: %s", waiting, exc
            )
        self.outage = exc
        self._pause_s = min(max(self._pause_s * 2, _FIRST_PAUSE_S), _LONGEST_PAUSE_S)
        jittered = self._pause_s * (0.5 + random.random() / 2)
        self._not_before = self._host.clock.monotonic() + jittered

    def _settle(self, batch: Sequence[Settlement]) -> None:
        """Do it. Raises BrokerError or BackendError: unknown how far it got; all repeatable."""
        if self._in_doubt is not None and self._in_doubt():
            batch = self._still_held(batch)
        plans = [self._plan(settlement) for settlement in batch]
        stale = self._store([each.result for each in plans if each.result is not None])
        if stale:
            plans = [each for each in plans if not _is_stale(each, stale)]
        done = [each for each in plans if each.give_back_s is None and each.bury is None]
        sends = [message for each in plans for message in each.follow_ups]
        lost = self._broker.settle([each.delivery for each in done if not each.acked], sends)
        if lost:
            logger.warning(
                "%d deliveries were taken over before they were settled here (lease lost): %s",
                len(lost),
                ", ".join(header_id(delivery.message) or delivery.receipt for delivery in lost[:5]),
            )
        self._put_away(plans)
        self._tell(batch)

    def _still_held(self, batch: Sequence[Settlement]) -> Sequence[Settlement]:
        """Return those whose delivery the broker still thinks is held here."""
        held = {each.receipt: each.token for each in self._broker.held(self._consumer)}
        kept: list[Settlement] = []
        lost: list[Settlement] = []
        for settlement in batch:
            delivery = settlement.delivery
            ours = settlement.acked or held.get(delivery.receipt) == delivery.token
            (kept if ours else lost).append(settlement)
        if lost:
            logger.warning(
                "this node's lease ran out: %d outcomes are refused, their tasks went to others: %s",
                len(lost),
                ", ".join(header_id(each.delivery.message) or "?" for each in lost[:5]),
            )
        return kept

    def _plan(self, settlement: Settlement) -> Plan:
        """Plan one; where that fails, the task has failed, and its neighbours go on."""
        try:
            return self._planner.plan(settlement)
        except Exception as exc:
            label = settlement.job.label if settlement.job else settlement.delivery.receipt
            logger.exception("%s: its outcome can't be settled", label)
            reason = f"its outcome can't be settled: {exc}"
            error = error_info(exc if isinstance(exc, UmbelError) else TaskError(reason))
            failed = Settlement(settlement.delivery, Failure(error, dead_letter=reason))
            try:
                result = self._planner.result(failed)
            except Exception:  # noqa: BLE001 - then the dead letter alone tells of it
                result = None
            return Plan(settlement.delivery, result=result, bury=reason)

    def _store(self, results: list[StoredResult]) -> set[str]:
        """Store the results; return the ids of those that a later delivery superseded."""
        if not results or self._backend is None:
            return set()
        refused = set(self._backend.store(results))
        if refused:
            logger.warning(
                "%d results were refused, since later deliveries of their tasks stored one: %s",
                len(refused),
                ", ".join(sorted(refused)[:5]),
            )
        return refused

    def _put_away(self, plans: Sequence[Plan]) -> None:
        buried = [
            (each.delivery, each.bury) for each in plans if each.bury is not None and not each.acked
        ]
        if buried:
            self._broker.bury(buried)
        for each in plans:
            if each.give_back_s is not None and not each.acked:
                self._broker.nack([each.delivery], delay_s=each.give_back_s)

    def _tell(self, batch: Sequence[Settlement]) -> None:
        events = self._host.events
        for settlement in batch:
            outcome, job = settlement.outcome, settlement.job
            if isinstance(outcome, Revoked) and job is not None:
                logger.info("%s: %s", job.label, outcome.reason)
                if events.task_revoked:
                    notify(events.task_revoked, job.request, outcome.reason)
            elif isinstance(outcome, Rejected):
                _log_rejected(settlement, outcome)
                if events.task_rejected and not outcome.requeue:
                    notify(events.task_rejected, settlement.delivery, outcome.reason)


def _is_stale(plan: Plan, stale: set[str]) -> bool:
    return plan.result is not None and plan.result.task_id in stale


def _log_rejected(settlement: Settlement, outcome: Rejected) -> None:
    what = settlement.job.label if settlement.job else header_id(settlement.delivery.message)
    if outcome.requeue:
        logger.info("%s: given back: %s", what, outcome.reason)
    else:
        logger.error("%s: put with the dead letters: %s", what, outcome.reason)
