"""How a task is settled that its worker can't bring to its end."""

from __future__ import annotations

from umbel.error_info import error_info
from umbel.errors import WorkerLostError
from umbel.outcomes import Failure, Rejected
from umbel.worker.jobs import Job, Settlement


def unfinished(job: Job, now: float, *, has_begun: bool) -> Settlement:
    """Return the settlement of `job` at `now` (unix seconds), whose worker has to end.

    It is given back; what was acknowledged as it began can't be, and has failed.
    """
    if not (job.early_ack and has_begun):
        return Settlement(job.delivery, Rejected("its worker had to end", requeue=True), job, now)
    error = WorkerLostError("worker lost: it had to end while the task ran")
    failure = Failure(error_info(error, with_traceback=False))
    return Settlement(job.delivery, failure, job, now, acked=True)
