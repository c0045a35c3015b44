"""Whether a decoded job may run now. Pure: told the time and what the stores say."""

from __future__ import annotations

import msgspec

from umbel.messages import Malformed
from umbel.outcomes import Outcome, Revoked
from umbel.worker.jobs import Job
from umbel.worker.strikes import poison

#: An eta this near is now: clocks of two machines differ by more.
ETA_SLACK_S = 0.002


class Run(msgspec.Struct, frozen=True):
    """Run it now."""


class Hold(msgspec.Struct, frozen=True):
    """Give it back until `until` (unix seconds)."""

    until: float


class Drop(msgspec.Struct, frozen=True):
    """Don't run it; settle it with `outcome`."""

    outcome: Outcome


Admission = Run | Hold | Drop
RUN = Run()


def admit(
    job: Job, *, now: float, revoked: bool, max_deliveries: int, keeps_time: bool = False
) -> Admission:
    """Decide what to do with `job` at `now` (unix seconds).

    `keeps_time`: the broker hands nothing over before its `due_at`, unless it was promoted.
    """
    if revoked:
        return Drop(Revoked("revoked"))
    if job.expires_at is not None and job.expires_at <= now:
        return Drop(Revoked("expired"))
    if job.delivery.strikes >= max_deliveries:
        return Drop(poison(job.delivery.strikes))
    if job.eta_at is not None and job.eta_at > now + ETA_SLACK_S:
        return RUN if keeps_time and _has_due_at(job) else Hold(job.eta_at)
    return RUN


def _has_due_at(job: Job) -> bool:
    message = job.delivery.message
    return not isinstance(message, Malformed) and message.due_at is not None
