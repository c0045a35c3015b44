"""A job: a delivery decoded, bound to its task, with its deadlines. What the lanes hand around."""

from __future__ import annotations

import msgspec

from umbel.messages import Delivery
from umbel.outcomes import Outcome
from umbel.requests import Request
from umbel.worker.runners import Runner


class Job(msgspec.Struct, frozen=True, kw_only=True):
    """One run of a task to be."""

    delivery: Delivery
    request: Request
    runner: Runner
    #: Unix seconds; None: no such bound.
    eta_at: float | None = None
    expires_at: float | None = None
    #: Seconds that the run may take; None: no limit.
    soft_limit_s: float | None = None
    hard_limit_s: float | None = None
    #: To be acknowledged before it runs (``acks_late=False``).
    early_ack: bool = False
    #: Monotonic seconds at which it was decoded.
    received_at: float = 0.0

    @property
    def label(self) -> str:
        """Name and id, as the log shows them."""
        return f"{self.request.shadow or self.request.task}[{self.request.id}]"


class Settlement(msgspec.Struct, frozen=True):
    """A delivery and what came of it; what `settle` takes.

    `job` is None where the message could not be decoded.
    """

    delivery: Delivery
    outcome: Outcome
    job: Job | None = None
    #: Unix seconds at which the outcome was made.
    done_at: float = 0.0
    #: The message was acknowledged before the run (``acks_late=False``); None: nobody knows.
    acked: bool | None = False
