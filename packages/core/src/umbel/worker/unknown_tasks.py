"""Messages of tasks that this worker doesn't know: held for workers that may, then buried.

In a rolling deploy, workers of the old release meet tasks of the new one. Each gives them back
with a delay that grows, until it has known of one for ``worker_unknown_task_hold_s``.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TYPE_CHECKING

import msgspec

from umbel.error_info import error_info
from umbel.errors import UnknownTaskError
from umbel.messages import DeathKind, Delivery
from umbel.outcomes import Failure, Outcome, Rejected

if TYPE_CHECKING:
    from umbel.settings import Settings

logger = logging.getLogger("umbel.worker")

_FIRST_DELAY_S = 1.0
_LONGEST_DELAY_S = 60.0
#: Where processes are replaced so often that none remembers it long enough.
_MOST_DELIVERIES = 1000
#: How many are remembered; the oldest are forgotten, and held anew.
_REMEMBERED = 10_000
#: Characters of a name that are shown.
_SHOWN = 200


class _Hold(msgspec.Struct):
    """Since when (monotonic seconds) this process knows of a message, and how often it came."""

    since: float
    count: int = 0


class UnknownTasks:
    """Decides what becomes of unknown tasks, for one consumer."""

    def __init__(self, conf: Settings, monotonic: Callable[[], float]) -> None:
        self._hold_s: float = conf.worker_unknown_task_hold_s
        if conf.worker_unknown_task == "dead_letter":
            self._hold_s = 0.0
        self._monotonic = monotonic
        #: By task id.
        self._holds: dict[str, _Hold] = {}

    def outcome(self, delivery: Delivery, name: str, task_id: str) -> Outcome:
        """Return the outcome of a message of the unknown task `name`."""
        now = self._monotonic()
        hold = self._holds.pop(task_id, None) or _Hold(now)
        left_s = hold.since + self._hold_s - now
        if left_s <= 0 or delivery.token >= _MOST_DELIVERIES:
            reason = f"unknown task {name[:_SHOWN]!r}: no worker that got it knows it"
            error = error_info(UnknownTaskError(name[:_SHOWN]), with_traceback=False)
            details = {"held_s": round(now - hold.since, 3), "deliveries": delivery.token}
            return Failure(error, dead_letter=reason, death=DeathKind.UNKNOWN, details=details)
        if not hold.count:
            logger.warning(
                "task %.200r (%s) isn't registered here; held for workers that may know it",
                name,
                task_id,
            )
        hold.count += 1
        self._holds[task_id] = hold  # at the end: the first is the one not seen for longest
        if len(self._holds) > _REMEMBERED:
            self._holds.pop(next(iter(self._holds)))
        delay_s = min(_FIRST_DELAY_S * 2 ** min(hold.count - 1, 10), _LONGEST_DELAY_S, left_s)
        return Rejected(f"unknown task {name[:_SHOWN]!r}", requeue=True, delay_s=delay_s)
