"""Deliveries → jobs to run: decode, then admission. What isn't to run is settled right away."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING

import msgspec

from umbel.error_info import error_info
from umbel.errors import DecodeError
from umbel.events import notify
from umbel.interfaces.broker import Capability
from umbel.messages import RESENT, Delivery, is_later_attempt
from umbel.outcomes import Failure, Ignored, Outcome, Rejected, Revoked, Success
from umbel.states import State, is_final
from umbel.worker.admission import Drop, Hold, Run, admit
from umbel.worker.fates import marked
from umbel.worker.follow_ups import added_by
from umbel.worker.jobs import Job, Settlement
from umbel.worker.joinings import is_part
from umbel.worker.report import tell_not_run
from umbel.worker.stored import outcome_of
from umbel.worker.strikes import Attempts, poison

if TYPE_CHECKING:
    from umbel.interfaces.backend import Backend
    from umbel.interfaces.broker import Broker
    from umbel.outcomes import StoredResult
    from umbel.worker.decode import Decoder
    from umbel.worker.fates import Fate, Fates
    from umbel.worker.host import Host
    from umbel.worker.rates import Rates
    from umbel.worker.revocations import Revocations
    from umbel.worker.settle import Settler

logger = logging.getLogger("umbel.worker")

#: Seconds until an early acknowledgement that failed is tried again.
_ACK_AGAIN_S = 1.0


class Intake:
    """Takes deliveries in for one consumer."""

    def __init__(
        self,
        host: Host,
        decoder: Decoder,
        settler: Settler,
        revocations: Revocations,
        rates: Rates,
        *,
        broker: Broker,
        backend: Backend | None,
        attempts: Attempts | None = None,
        fates: Fates | None = None,
    ):
        self._host, self._decoder, self._settler = host, decoder, settler
        self._revocations, self._rates = revocations, rates
        self._broker, self._backend = broker, backend
        self._attempts = attempts or Attempts(None)
        self._fates = fates
        self._max_deliveries: int = host.conf.task_max_deliveries
        self._keeps_time = Capability.DELAYED in broker.capabilities
        #: Whether results can't be looked up: told once.
        self._is_blind = False
        self._skips_finished: bool = host.conf.worker_deduplicate_successful_tasks

    def take(self, deliveries: Sequence[Delivery]) -> list[Job]:
        """Return the jobs to run now, in order; the rest goes to the settler."""
        now = self._host.clock.time()
        self._rates.refresh()
        jobs: list[Job] = []
        again: list[Job] = []
        received = self._host.events.task_received
        fates = {} if self._fates is None else self._fates.of(deliveries)
        for delivery in marked(deliveries, fates) if fates else deliveries:
            job = self._decoder.decode(delivery)
            if isinstance(job, Settlement):
                self._unreadable(job)
                continue
            if received:
                notify(received, job.request)
            if logger.isEnabledFor(logging.DEBUG):
                logger.debug("%s: received", job.label)
            if fates and self._is_settled(job, fates.get(delivery.receipt), now):
                continue
            decision = admit(
                job,
                now=now,
                revoked=bool(self._revocations) and self._revocations.cover(job.request),
                max_deliveries=self._max_deliveries,
                keeps_time=self._keeps_time,
            )
            match decision:
                case Run():
                    doubted = delivery.redelivered or RESENT in job.request.headers
                    (again if doubted else jobs).append(job)
                case Hold(until):
                    held = Rejected("its time has not come", requeue=True, delay_s=until - now)
                    self._settle(job, held)
                case Drop(outcome):
                    if isinstance(outcome, Failure):  # it killed its processes
                        known = self._attempts.load(job.request.id)
                        outcome = poison(delivery.strikes, known)
                    tell_not_run(job, outcome)
                    self._settle(job, outcome)
        return jobs + self._not_finished(again) if again else jobs

    def _is_settled(self, job: Job, fate: Fate | None, now: float) -> bool:
        """Settle what isn't to run now, going by what it did to its process; False: it may run."""
        if fate is None:
            return False
        outcome = fate.verdict
        if outcome is None:
            strikes = job.delivery.strikes
            if strikes >= self._max_deliveries or not job.runner.rejects_on_lost:
                outcome = poison(strikes, fate.attempts)
            elif pause_s := fate.wait_s(now):
                reason = "its process died while running it"
                self._settle(job, Rejected(reason, requeue=True, delay_s=pause_s))
                return True
            else:
                return False
        tell_not_run(job, outcome)
        self._settle(job, outcome)
        return True

    def may_begin(self, job: Job) -> bool:
        """Tell whether `job` may run, right before it does: not expired nor revoked meanwhile.

        Here it takes a start of its rate limit, which it would waste if it were given back
        unstarted; and an early-acknowledged job is acknowledged.
        """
        if job.expires_at is not None and job.expires_at <= self._host.clock.time():
            self._settle(job, Revoked("expired"))
            return False
        if self._revocations and self._revocations.cover(job.request):
            self._settle(job, Revoked("revoked"))
            return False
        if self._rates.limited and (held := self._rates.held(job)) is not None:
            self._settle(job, held)
            return False
        return self._ack_early(job) if job.early_ack else True

    def _ack_early(self, job: Job) -> bool:
        self._settler.note_early(job.delivery)
        try:
            is_ours = not self._broker.ack([job.delivery])
        except Exception as exc:  # noqa: BLE001 - a plugin's own errors count as an outage
            # Not known to be acknowledged: to run it now could run it twice, which an
            # early-acknowledged task must never. The settler finds out what it is.
            logger.error("%s: not run, since it can't be acknowledged first: %s", job.label, exc)
            delay_s = _ACK_AGAIN_S if Capability.DELAY in self._broker.capabilities else 0.0
            reason = "it can't be acknowledged first"
            outcome = Rejected(reason, requeue=True, delay_s=delay_s)
            now = self._host.clock.time()
            self._settler.add_unsure(Settlement(job.delivery, outcome, job, now, None))
            return False
        if not is_ours:
            self._settler.forget_early(job.delivery)
        return is_ours

    def _settle(self, job: Job, outcome: Outcome) -> None:
        self._settler.add(Settlement(job.delivery, outcome, job, self._host.clock.time()))

    def _unreadable(self, settlement: Settlement) -> None:
        self._settler.add(settlement)
        events = self._host.events
        message = settlement.delivery.message
        name = getattr(message, "task", None)
        if events.task_unknown and name is not None and self._host.tasks.resolve(name) is None:
            notify(events.task_unknown, settlement.delivery, name)

    def _not_finished(self, jobs: list[Job]) -> list[Job]:
        """Return those without a final result; the finished ones are settled again, not run."""
        if self._backend is None or not self._skips_finished:
            return jobs
        try:
            found = self._backend.load([job.request.id or "" for job in jobs])
        except Exception as exc:  # noqa: BLE001 - a plugin's own errors count as an outage
            level = logging.DEBUG if self._is_blind else logging.WARNING
            text = "can't look up results of redelivered tasks, running them: %s"
            logger.log(level, text, exc)
            self._is_blind = True
            return jobs
        self._is_blind = False
        left = []
        for job in jobs:
            stored = found.get(job.request.id or "")
            if stored is not None and self._finished(job, stored):
                logger.info("%s: delivered again, and finished already", job.label)
                try:
                    outcome = self._repeat(job, stored)
                except Exception as exc:  # noqa: BLE001 - a plugin's own errors count as an outage
                    logger.warning("%s: run again, as its end can't be read: %s", job.label, exc)
                    left.append(job)
                else:
                    self._settle(job, outcome)
            else:
                left.append(job)
        return left

    def _finished(self, job: Job, stored: StoredResult) -> bool:
        return is_final(stored.state) and stored.retries >= job.request.result_order

    def _repeat(self, job: Job, stored: StoredResult) -> Outcome:
        """Return the outcome that was stored: what follows from it may not have been sent."""
        if is_later_attempt(stored.retries, job.request.result_order):
            # What follows is for the message of that attempt to see to; it may differ.
            return Ignored("a later attempt is over", goes_on=True)
        outcome = outcome_of(stored, job.runner.result_serializer)
        if isinstance(outcome, Success) and job.request.chord is not None:
            added = self._host.workflow_store.get(added_by(job.request))
            if added is not None:
                data = job.runner.task_serializer.dumps(added)
                return msgspec.structs.replace(outcome, added=data)
        return outcome or _end_of_unreadable(job, stored)


def _end_of_unreadable(job: Job, stored: StoredResult) -> Outcome:
    """Return the end of a task whose stored outcome can't be read: it stands as it is stored."""
    request = job.request
    told = request.callbacks if stored.state == State.SUCCESS else request.errbacks
    if not (told or request.chain or is_part(request)):
        return Ignored("finished already", goes_on=True)
    text = f"the stored outcome of {job.label} can't be read any more, so nothing can follow it"
    logger.error("%s: what comes after it fails, as its stored outcome can't be read", job.label)
    return Ignored("finished already", error=error_info(DecodeError(text), with_traceback=False))
