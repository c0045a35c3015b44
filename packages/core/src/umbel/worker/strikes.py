"""A task that kills its process: when it is tried again, what is known of each time, its end.

What is known is kept with the coordinator from one delivery to the next, since another node may
have the next one, and no broker would keep it. Without a coordinator only the last time is known.
"""

from __future__ import annotations

import logging
import signal
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import msgspec

from umbel.error_info import error_info
from umbel.errors import WorkerLostError
from umbel.messages import DeathKind
from umbel.outcomes import Failure

if TYPE_CHECKING:
    from umbel.interfaces.coordinator import Coordinator

logger = logging.getLogger("umbel.worker")

#: Seconds before a task that killed its process is delivered again, by its strikes before.
BACK_OFF_S = (1.0, 5.0, 25.0)
_KEPT_S = 7 * 86400.0
_MIB = 1024 * 1024


class Attempt(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A time that a process died while it ran the task."""

    #: Unix seconds.
    at: float
    #: Exit code; None: a signal ended it, or it isn't known.
    exit: int | None
    #: Name of the signal that ended the process.
    signal: str | None
    pid: int
    hostname: str
    #: Of the process, when it was last looked at; None: not known.
    memory_bytes: int | None
    #: Why the supervisor ended the process, where it did.
    fault: str | None = None

    def describe(self) -> str:
        """Return it in words."""
        exited = "reason unknown" if self.exit is None else f"exit code {self.exit}"
        how = self.fault or self.signal or exited
        if self.memory_bytes:
            how += f", {round(self.memory_bytes / _MIB)} MiB of memory"
        return how

    def as_json(self) -> dict[str, Any]:
        """Return it as the dead letter shows it."""
        shown = {name: getattr(self, name) for name in self.__struct_fields__}
        if self.fault is None:
            del shown["fault"]
        return shown


_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(list[Attempt]).decode


def back_off_s(strikes: int) -> float:
    """Return the seconds to wait after a death, `strikes` before which there were."""
    return BACK_OFF_S[min(strikes, len(BACK_OFF_S) - 1)]


def poison(strikes: int, attempts: Sequence[Attempt] = ()) -> Failure:
    """Return the failure of a task whose process died `strikes` times while it ran.

    Args:
        strikes: How often.
        attempts: What is known of these times, the last one last.
    """
    times = "" if strikes == 1 else f" {strikes} times"
    reason = f"its process died{times} while running it"
    if attempts:
        last = "last: " if strikes > 1 else ""
        reason += f" ({last}{attempts[-1].describe()})"
    return Failure(
        error_info(WorkerLostError(f"worker lost: {reason}"), with_traceback=False),
        dead_letter=reason,
        death=DeathKind.POISON,
        details={"attempts": [attempt.as_json() for attempt in attempts]} if attempts else {},
    )


class Attempts:
    """What is known of the times that processes died of tasks, by task id. Raises nothing."""

    def __init__(self, coordinator: Coordinator | None):
        self._coordinator = coordinator

    def load(self, task_id: str | None) -> list[Attempt]:
        """Return what is known of one task, in order."""
        if self._coordinator is None or task_id is None:
            return []
        key = _key(task_id)
        try:
            known = self._coordinator.get([key]).get(key)
            return [] if known is None else _decode(known)
        except Exception as exc:  # noqa: BLE001 - a plugin's own errors count as an outage
            logger.warning("can't look up earlier deaths of task %s: %s", task_id, exc)
            return []

    def add(self, task_id: str | None, attempt: Attempt, *, strikes: int) -> list[Attempt]:
        """Add a death to what is known, and return all of it.

        Args:
            task_id: Of the task; None: it has none.
            attempt: The death; one that is known already isn't added again.
            strikes: How many there were before. What is known of others was of another message.
        """
        before = [each for each in self.load(task_id) if each != attempt]
        known = [*(before[-strikes:] if strikes else ()), attempt]
        if self._coordinator is not None and task_id is not None:
            try:
                self._coordinator.put(_key(task_id), _encode(known), ttl_s=_KEPT_S)
            except Exception as exc:  # noqa: BLE001 - as above
                logger.warning("can't keep what task %s died of: %s", task_id, exc)
        return known

    def forget(self, task_ids: Sequence[str | None]) -> None:
        """Drop what is known of these: it is with their dead letters now."""
        keys = [_key(task_id) for task_id in task_ids if task_id is not None]
        if self._coordinator is None or not keys:
            return
        try:
            self._coordinator.delete(keys)
        except Exception as exc:  # noqa: BLE001 - it expires by itself
            logger.debug("can't drop what is known of dead tasks: %s", exc)


def signal_name(exitcode: int | None) -> str | None:
    """Return the name of the signal that ended a process; None: none did, or it has no name."""
    try:
        return None if exitcode is None else signal.Signals(-exitcode).name
    except ValueError:
        return None


def _key(task_id: str) -> str:
    return f"attempts/{task_id}"
