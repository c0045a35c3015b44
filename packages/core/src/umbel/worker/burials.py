"""Outcome → burial: what goes to the dead letters, as which kind, with what is known of it. Pure.

What can't be read, isn't known, is refused or can't be delivered always goes there: nothing is
lost silently. What failed goes there as the task's policy says (``task_dead_letter``).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from umbel.messages import Burial, DeathKind
from umbel.outcomes import ErrorInfo, Failure, Rejected
from umbel.redaction import mask_text

if TYPE_CHECKING:
    from umbel.worker.jobs import Settlement

#: Characters of a reason that are kept.
_REASON_LENGTH = 1000


class Burials:
    """Decides over burials with the settings of one worker process.

    Args:
        policy: The setting ``task_dead_letter``; a task's option ``dead_letter`` goes before it.
        hostname: Node name of this worker, told with each.
    """

    def __init__(self, policy: str, hostname: str) -> None:
        self._policy, self._hostname = policy, hostname

    def of(self, settlement: Settlement) -> Burial | None:
        """Return how the message of `settlement` is buried; None: it isn't."""
        match settlement.outcome:
            case Rejected(reason, requeue, _, error, death) if not requeue:
                return self._burial(settlement, reason, death, error, {})
            case Failure() as failure:
                return self._of_failure(settlement, failure)
            case _:
                return None

    def _of_failure(self, settlement: Settlement, failure: Failure) -> Burial | None:
        job, reason, death = settlement.job, failure.dead_letter, failure.death
        own = None if job is None else job.runner.dead_letter
        policy = self._policy if own is None else own
        if reason is None:
            if policy != "failed" and (job is None or job.runner.acks_on_failure):
                return None
            reason, death = f"failed: {_summary(failure.error)}", DeathKind.FAILED
        elif death is DeathKind.POISON and policy == "never":
            return None
        return self._burial(settlement, reason, death, failure.error, failure.details)

    def _burial(
        self,
        settlement: Settlement,
        reason: str,
        kind: DeathKind,
        error: ErrorInfo | None,
        also: dict[str, Any],
    ) -> Burial:
        details: dict[str, Any] = {"hostname": self._hostname}
        if error is not None:
            details["exception"] = {
                "type": error.exc_type,
                "message": _summary(error),
                "traceback": error.traceback,
            }
        return Burial(settlement.delivery, _readable(reason), kind, {**details, **also})


def _summary(error: ErrorInfo) -> str:
    """Return the error in one line; one that was read from a stored result has no summary."""
    return error.summary or f"{error.exc_type}({', '.join(map(repr, error.exc_message))})"


def _readable(reason: str) -> str:
    """Return `reason` fit to be stored and shown: no passwords, no end of it, no odd characters."""
    text = mask_text(reason[: 2 * _REASON_LENGTH])
    if len(text) > _REASON_LENGTH:
        text = f"{text[: _REASON_LENGTH - 1]}…"
    return text.encode("utf-8", "backslashreplace").decode("utf-8")
