"""The log lines of finished tasks: one line a task, at the level that its outcome deserves."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from umbel.events import notify
from umbel.outcomes import Failure, Outcome, Replaced, Retry, Success

if TYPE_CHECKING:
    from umbel.worker.jobs import Job

logger = logging.getLogger("umbel.task")

_SHOWN = 256


def log_finished(job: Job, outcome: Outcome) -> None:
    """Log what came of `job`. Rejected and revoked ones are told where they are settled."""
    match outcome:
        case Success(value, runtime_s):
            if logger.isEnabledFor(logging.INFO):
                shown = value[:_SHOWN].decode("utf-8", "replace")
                logger.info(
                    "%s succeeded in %.4fs: %s",
                    job.label,
                    runtime_s,
                    shown,
                    extra=_context(job),
                )
        case Failure(error, runtime_s, expected):
            if expected:
                logger.info("%s raised expected: %s", job.label, error.summary, extra=_context(job))
            else:
                logger.error(
                    "%s raised in %.4fs: %s%s",
                    job.label,
                    runtime_s,
                    error.summary,
                    f"\n{error.traceback}" if error.traceback else "",
                    extra=_context(job),
                )
        case Retry(message, error):
            logger.info(
                "%s retry %s, at %s: %s",
                job.label,
                message.headers.get("retries"),
                message.headers.get("eta"),
                error.summary,
                extra=_context(job),
            )
        case Replaced(_, name):
            logger.info("%s replaced by %s", job.label, name, extra=_context(job))
        case _:
            pass


def tell_not_run(job: Job, outcome: Outcome) -> None:
    """Tell the log and the listeners of a failure that no run of `job` has told of: lost, limits."""
    if not isinstance(outcome, Failure):
        return
    logger.error("%s failed: %s", job.label, outcome.error.summary, extra=_context(job))
    events = job.runner.events
    if events.task_failed:
        notify(events.task_failed, job.runner.task, job.request, outcome.error, None)


def _context(job: Job) -> dict[str, str | None]:
    return {"task_name": job.request.task, "task_id": job.request.id}
