"""Outcome → effects: store the result, publish what follows, acknowledge. The only place that acks.

`Settler` carries out the plans of a batch, in an order in which a crash at any point repeats
work and loses none: results first, then follow-ups, then the acks.
"""

from __future__ import annotations

import logging
import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from itertools import groupby
from typing import TYPE_CHECKING

import msgspec

from umbel.error_info import error_info
from umbel.errors import QueueFullError, TaskError, UmbelError
from umbel.events import notify
from umbel.interfaces.broker import Capability
from umbel.messages import DeathKind
from umbel.outcomes import Failure, Rejected, Revoked, StoredResult
from umbel.worker.chords import Chords, Refusal
from umbel.worker.decode import header_id
from umbel.worker.jobs import Settlement
from umbel.worker.planning import Plan, Planner
from umbel.worker.rates import OVER_LIMIT
from umbel.worker.unsure import made_sure

if TYPE_CHECKING:
    from umbel.interfaces.backend import Backend
    from umbel.interfaces.broker import Broker
    from umbel.messages import Delivery, Message
    from umbel.worker.fates import Fates
    from umbel.worker.host import Host
    from umbel.worker.journal import Journal
    from umbel.worker.lease import LeaseView
    from umbel.worker.revocations import Revocations

logger = logging.getLogger("umbel.worker")

#: What a broker's `settle` does: sends, acknowledges, and returns what wasn't held any more.
Settle = Callable[[Sequence["Delivery"], Sequence["Message"]], Sequence["Delivery"]]

_FIRST_PAUSE_S = 0.1
_LONGEST_PAUSE_S = 2.0
#: Errors that say nothing of the outcomes: the same call may work later. An unavailable broker
#: or backend is a ConnectionError, which is an OSError.
_OUTAGES = (OSError, MemoryError)
#: How often an error that isn't umbel's may refuse an outcome before its task has failed.
_MOST_REFUSALS = 5


class Settler:
    """Settles batches for one consumer, and keeps what can't be settled during an outage.

    Thread-safe. `add` is cheap; `flush` does the I/O. What a flush can't settle stays and is
    tried again by a later one. Nothing that a broker, a backend or a listener raises passes.
    """

    def __init__(
        self,
        host: Host,
        broker: Broker,
        backend: Backend | None,
        *,
        planner: Planner,
        journal: Journal | None = None,
        lease: LeaseView | None = None,
        consumer: str | None = None,
        jitter: Callable[[], float] = random.random,
        fates: Fates | None = None,
        revocations: Revocations | None = None,
    ):
        """Settle for `consumer`.

        Args:
            journal: Keeps what isn't settled yet for the supervisor, should this process die.
            lease: The node's lease: where it may have run out, the broker is asked what is still
                held before anything is stored or sent.
            consumer: Whose deliveries these are; None: of several, who are known to hold them.
            jitter: Returns a number from 0 to below 1, for the pauses of an outage.
            fates: Where what is known of tasks is dropped once they are settled.
            revocations: Which tasks were revoked; None: as if none.
        """
        self._host, self._broker, self._backend = host, broker, backend
        self._consumer = consumer if Capability.LEASE in broker.capabilities else None
        self._lease = lease if self._consumer is not None else None
        self._planner, self._fates = planner, fates
        self._chords = Chords(host, backend, revocations=revocations)
        self._journal = journal
        self._pending: list[Settlement] = []
        self._settling: list[Settlement] = []
        self._lock = threading.Lock()
        self._flushing = threading.Lock()
        #: By receipt: how often broker or backend refused the outcome.
        self._refusals: Counter[str] = Counter()
        #: Whether there ever was one that may have been acknowledged.
        self._has_unsure = False
        self._settle_there: Settle = broker.settle
        self._monotonic, self._jitter = host.clock.monotonic, jitter
        self._pause_s = 0.0
        #: By the app's clock and by the machine's: one that nobody moves shall hang nobody.
        self._not_before = self._machine_not_before = 0.0
        #: What the last flush failed with; None while all is well.
        self.outage: Exception | None = None

    @property
    def backlog(self) -> int:
        """How many settlements aren't carried out yet."""
        return len(self._pending) + len(self._settling)

    def pending_receipts(self) -> set[str]:
        """Return the receipts of what isn't settled yet."""
        with self._lock:
            both = (*self._settling, *self._pending)
            return {settlement.delivery.receipt for settlement in both}

    def forget(self, taken: Collection[tuple[str, int]]) -> None:
        """Drop what isn't settled yet of these receipts and tokens: others have taken it over."""
        if taken:
            with self._lock:
                self._pending = [
                    each
                    for each in self._pending
                    if each.acked or (each.delivery.receipt, each.delivery.token) not in taken
                ]

    def note_early(self, delivery: Delivery) -> None:
        """Note a delivery that is about to be acknowledged and run: its broker will forget it."""
        if self._journal is not None:
            with self._lock:
                self._journal.note_early(delivery)

    def forget_early(self, delivery: Delivery) -> None:
        """Take `note_early` back: it could not be acknowledged."""
        if self._journal is not None:
            with self._lock:
                self._journal.forget_early(delivery, (*self._settling, *self._pending))

    def add(self, settlement: Settlement) -> bool:
        """Take `settlement` in, for the next flush. False: flush now, the journal is full."""
        with self._lock:
            self._pending.append(settlement)
            return self._journal is None or self._journal.note(settlement)

    def add_unsure(self, settlement: Settlement) -> None:
        """Take in what may have been acknowledged and was not run (`umbel.worker.unsure`)."""
        self._has_unsure = True
        self.add(settlement)

    def flush(self, *, force: bool = False, settle: Settle | None = None) -> bool:
        """Settle all that waits; False: an outage holds some of it.

        During an outage a call does nothing until its pause is over, unless `force`.

        Args:
            settle: Called in the place of the broker's `settle`, perhaps several times.
        """
        if not self._pending:
            return True
        with self._flushing:
            if self.outage is not None and not force and self._is_pausing():
                return False
            with self._lock:
                batch, self._pending = self._pending, []
                self._settling = batch
            if not batch:
                return True
            left = batch
            try:
                self._settle_there = settle or self._broker.settle
                left = self._attempt(batch)
            finally:
                self._put_back(batch, left)
            if not left and self.outage is not None:
                logger.info("settling again after an outage; %d outcomes were kept", len(batch))
                self.outage, self._pause_s = None, 0.0
        return not left

    def _put_back(self, batch: list[Settlement], left: list[Settlement]) -> None:
        """Keep what is `left` of `batch` for a later flush, and forget the rest."""
        with self._lock:
            self._pending, self._settling = left + self._pending, []
            if not left:
                self._refusals.clear()
            if self._journal is not None and len(left) < len(batch):
                self._journal.forget_settled(batch, self._pending)

    def drain(self, given_up: threading.Event) -> None:
        """Settle all that waits, through an outage, until that is done or `given_up`."""
        with self._flushing:  # what another thread is settling may come back
            pass
        done = self.flush(force=True)
        while not done and not given_up.wait(_FIRST_PAUSE_S):
            done = self.flush()

    # -- outages --------------------------------------------------------------------------------

    def _attempt(self, batch: list[Settlement], *, is_last: bool = False) -> list[Settlement]:
        """Settle `batch`; return what is left of it, to be tried again.

        Args:
            is_last: It is a single one that was refused a moment ago.
        """
        try:
            self._settle(batch)
        except _OUTAGES as exc:
            self._note_outage(exc, len(batch))
            return batch
        except Exception as exc:  # noqa: BLE001 - a plugin's own errors are told by `_refused`
            if not self._are_usable():
                self._note_outage(exc, len(batch))
                return batch
            if not is_last:
                return self._one_by_one(batch)
            if isinstance(exc, QueueFullError):
                self._note_outage(exc, 1)
                return batch
            return self._refused(batch[0], exc)
        return []

    def _one_by_one(self, batch: list[Settlement]) -> list[Settlement]:
        """Settle each alone, since one of them is refused: it shall not hold up the others."""
        left: list[Settlement] = []
        for index, settlement in enumerate(batch):
            kept = self._attempt([settlement], is_last=True)
            left += kept
            if kept and isinstance(self.outage, _OUTAGES):
                return left + batch[index + 1 :]
        return left

    def _are_usable(self) -> bool:
        """Tell whether broker and backend can be used at all; if so, they refuse an outcome.

        A file that is gone, foreign or read-only refuses too, whatever it is asked for.
        """
        try:
            self._broker.check()
            if self._backend is not None:
                self._backend.check()
        except Exception as exc:  # noqa: BLE001 - as everywhere here
            logger.debug("an outcome is refused by what can't be used now: %s", exc)
            return False
        return True

    def _refused(self, settlement: Settlement, exc: Exception) -> list[Settlement]:
        """Let a task fail whose outcome nobody takes; return it where that can't be stored too."""
        receipt = settlement.delivery.receipt
        self._refusals[receipt] += 1
        if not isinstance(exc, UmbelError) and self._refusals[receipt] < _MOST_REFUSALS:
            # A plugin's own error says nothing of whether it lasts.
            self._note_outage(exc, 1)
            return [settlement]
        label = settlement.job.label if settlement.job else receipt
        failure = _unsettled(exc)
        failed = msgspec.structs.replace(settlement, outcome=failure)
        silent = Refusal(exc, sends=False)
        tries = [
            (failed, Refusal(exc)),
            # Without errbacks: they may be what is refused.
            (failed, silent),
            (msgspec.structs.replace(failed, job=None), silent),
        ]
        if self._chords.has_sent:
            # It may be the body of a chord that is refused: then that has failed, not the task.
            tries.insert(0, (settlement, Refusal(exc)))
        for each, refusal in tries:
            try:
                self._settle([each], refusal)
            except Exception as also:  # noqa: BLE001 - then it is kept as it was
                logger.debug("%s: its failure can't be settled either: %s", label, also)
                continue
            if each is not settlement:
                logger.error("%s: %s", label, failure.dead_letter, exc_info=_unless_ours(exc))
            return []
        self._note_outage(exc, 1)
        return [settlement]

    def _note_outage(self, exc: Exception, waiting: int) -> None:
        if self.outage is None:
            logger.error(
                "can't settle %d outcomes, they are kept and tried again: %s",
                waiting,
                exc,
                exc_info=_unless_ours(exc),
            )
        self.outage = exc
        self._pause_s = min(max(self._pause_s * 2, _FIRST_PAUSE_S), _LONGEST_PAUSE_S)
        jittered = self._pause_s * (0.5 + self._jitter() / 2)
        self._not_before = self._monotonic() + jittered
        self._machine_not_before = time.monotonic() + jittered

    def _is_pausing(self) -> bool:
        is_over = time.monotonic() >= self._machine_not_before
        return not is_over and self._monotonic() < self._not_before

    # -- settling -------------------------------------------------------------------------------

    def _settle(self, batch: Sequence[Settlement], refusal: Refusal | None = None) -> None:
        """Do it. Raises what broker and backend do: unknown how far it got; all repeatable.

        Args:
            refusal: Why the try before this one came to nothing.
        """
        if self._has_unsure:
            batch = self._made_sure(batch)
        if self._lease is not None and _in_doubt(batch, self._lease, self._monotonic()):
            batch = self._still_held(batch)
        plans = [self._plan(settlement) for settlement in batch]
        for each in plans:
            if each.beyond is not None:
                self._chords.keep_added(each.beyond.following)
        plans = self._not_superseded(plans, self._store(plans))
        done = [each for each in plans if each.give_back_s is None and each.bury is None]
        sends = [message for each in plans for message in each.follow_ups]
        beyond = [each.beyond for each in plans if each.beyond is not None]
        ended = self._chords.settle(beyond, sends, refusal) if beyond else None
        if refusal is not None and not refusal.sends:
            sends.clear()
        lost = self._settle_there([each.delivery for each in done if not each.acked], sends)
        if lost:
            logger.warning(
                "%d deliveries were taken over before they were settled here (lease lost): %s",
                len(lost),
                _ids(lost),
            )
        self._put_away(plans)
        if ended is not None:
            self._chords.close(ended)
        if self._fates is not None:
            settled = [each.delivery for each in plans if each.give_back_s is None]
            self._fates.forget_marked(settled)
        self._tell(batch)

    def _still_held(self, batch: Sequence[Settlement]) -> Sequence[Settlement]:
        """Return those whose delivery the broker still thinks is held here."""
        held = self._held()
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
                _ids([each.delivery for each in lost]),
            )
        return kept

    def _made_sure(self, batch: Sequence[Settlement]) -> Sequence[Settlement]:
        lease = self._lease

        def may_be_elsewhere(settlement: Settlement) -> bool:
            return lease is not None and _in_doubt([settlement], lease, self._monotonic())

        return made_sure(
            batch, lambda: None if self._consumer is None else self._held(), may_be_elsewhere
        )

    def _held(self) -> dict[str, int]:
        """Return what the broker thinks is held by this consumer: receipt and token."""
        held = self._broker.held(self._consumer or "")
        return {delivery.receipt: delivery.token for delivery in held}

    def _plan(self, settlement: Settlement) -> Plan:
        """Plan one; where that fails, the task has failed, and its neighbours go on.

        Raises: OSError: a part of its workflow can't be read now.
        """
        try:
            return self._planner.plan(settlement)
        except _OUTAGES:
            raise
        except Exception as exc:
            label = settlement.job.label if settlement.job else settlement.delivery.receipt
            logger.exception("%s: its outcome can't be settled", label)
            failed = msgspec.structs.replace(settlement, outcome=_unsettled(exc))
        # The second is without what follows from it: that may be what can't be planned.
        for each in (failed, msgspec.structs.replace(failed, job=None)):
            try:
                return self._planner.plan(each)
            except _OUTAGES:
                raise
            except Exception as also:  # noqa: BLE001 - then the dead letter alone tells of it
                logger.debug("%s: its failure can't be settled either: %s", label, also)
        bury = self._planner.burial(failed)
        return Plan(settlement.delivery, bury=bury, acked=settlement.acked)

    def _store(self, plans: Sequence[Plan]) -> set[str]:
        """Store the results; return the ids of those that were refused for newer ones."""
        results: list[StoredResult] = [each.result for each in plans if each.result is not None]
        if not results or self._backend is None:
            return set()
        return set(self._backend.store(results))

    def _not_superseded(self, plans: list[Plan], refused: set[str]) -> list[Plan]:
        """Leave out what a later delivery has taken over, of those whose result was refused.

        Another message of the same id may have left a result too: then this one's is refused,
        and the rest of it goes on.
        """
        if not refused:
            return plans
        held = None if self._consumer is None else self._held()

        def is_lost(plan: Plan) -> bool:
            if held is None or plan.acked or plan.result is None:
                return False
            delivery = plan.delivery
            return plan.result.task_id in refused and held.get(delivery.receipt) != delivery.token

        logger.warning(
            "%d results were refused, since there are later ones of their tasks: %s",
            len(refused),
            ", ".join(sorted(refused)[:5]),
        )
        return [each for each in plans if not is_lost(each)]

    def _put_away(self, plans: Sequence[Plan]) -> None:
        plans = [each for each in plans if not each.acked]
        buried = [each.bury for each in plans if each.bury is not None]
        if buried:
            self._broker.bury(buried)
        back = [(each.give_back_s, each.delivery) for each in plans if each.give_back_s is not None]
        back.sort(key=lambda pair: pair[0])
        for delay_s, group in groupby(back, key=lambda pair: pair[0]):
            self._broker.nack([delivery for _, delivery in group], delay_s=delay_s)

    def _tell(self, batch: Sequence[Settlement]) -> None:
        events = self._host.events
        for settlement in batch:
            outcome, job = settlement.outcome, settlement.job
            if isinstance(outcome, Revoked) and job is not None:
                logger.info("%s: %s", job.label, outcome.reason)
                if events.task_revoked:
                    notify(events.task_revoked, job.request, outcome.reason)
            elif isinstance(outcome, Failure) and outcome.death is DeathKind.UNKNOWN:
                task_id = header_id(settlement.delivery.message)
                logger.error("%s: put with the dead letters: %s", task_id, outcome.dead_letter)
            elif isinstance(outcome, Rejected):
                _log_rejected(settlement, outcome)
                if events.task_rejected and not outcome.requeue:
                    notify(events.task_rejected, settlement.delivery, outcome.reason)


def _in_doubt(batch: Sequence[Settlement], lease: LeaseView, now: float) -> bool:
    """Tell whether others may have taken over what `batch` settles."""
    since = lease.lease_since
    return now >= lease.lease_until or any(
        settlement.job is not None and settlement.job.received_at < since for settlement in batch
    )


def _unsettled(exc: Exception) -> Failure:
    """Return the failure of a task whose outcome can't be settled, because of `exc`."""
    reason = f"its outcome can't be settled: {exc}"
    error = error_info(exc if isinstance(exc, UmbelError) else TaskError(reason))
    return Failure(error, dead_letter=reason)


def _ids(deliveries: Sequence[Delivery]) -> str:
    return ", ".join(header_id(each.message) or each.receipt for each in deliveries[:5])


def _unless_ours(exc: Exception) -> Exception | None:
    """Return what the log shows a traceback of: errors that aren't umbel's, as a plugin's bugs."""
    return None if isinstance(exc, UmbelError) else exc


def _log_rejected(settlement: Settlement, outcome: Rejected) -> None:
    delivery = settlement.delivery
    what = settlement.job.label if settlement.job else header_id(delivery.message)
    if what is None:
        what = f"message {delivery.receipt} of queue {delivery.queue}"
    if outcome.requeue:
        # It may be many times a second that a task is over its limit, and nothing is wrong.
        level = logging.DEBUG if outcome.reason == OVER_LIMIT else logging.INFO
        logger.log(level, "%s: given back: %s", what, outcome.reason)
    else:
        logger.error("%s: put with the dead letters: %s", what, outcome.reason)
