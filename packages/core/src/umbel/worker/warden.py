"""Ends child processes that have to be ended: over a limit, stuck, or done and still there."""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterable
from typing import TYPE_CHECKING, NamedTuple

from umbel.error_info import error_info
from umbel.errors import TimeLimitExceeded
from umbel.outcomes import Failure, Revoked
from umbel.worker.board import Doing
from umbel.worker.dooms import Dooms
from umbel.worker.fates import Fates
from umbel.worker.memory import MemoryWatch
from umbel.worker.recovery import running_among
from umbel.worker.watchdog import Watchdog

if TYPE_CHECKING:
    from umbel.interfaces.broker import Broker
    from umbel.interfaces.coordinator import Coordinator
    from umbel.settings import Settings
    from umbel.worker.children import Children
    from umbel.worker.processes import Child

logger = logging.getLogger("umbel.worker")

#: Seconds that a process may live on after its work has ended: threads of its tasks hold it.
_LINGER_S = 10.0


class Found(NamedTuple):
    """A task that runs in a child."""

    child: Child
    #: Of its slot.
    key: bytes
    task_id: str


class Warden:
    """Looks after the children of a supervisor, on its thread but for `find`."""

    def __init__(
        self,
        children: Children,
        broker: Broker,
        conf: Settings,
        coordinator: Coordinator | None = None,
    ):
        self._children, self._broker = children, broker
        self._dooms = Dooms(children, Fates.beside(broker, coordinator))
        self._memory = MemoryWatch(conf.worker_memory_ceiling_bytes)
        self._watchdog = Watchdog(conf.worker_consume_timeout_s)

    def enforce(self, now: float) -> None:
        """End what is over its time or memory, and what has ended its work and not itself."""
        for child in self._children:
            self._enforce_time(child, now)
            self._end_lingering(child, now)
        self._dooms.carry_out(now)
        for child in self._memory.look(self._children, now):
            if not child.was_killed:
                self._end_too_large(child)

    def find(self, task_ids: Collection[str], *, descendants: bool = False) -> list[Found]:
        """Return where one of these tasks runs. Not on the supervisor's thread: it asks the broker.

        Args:
            task_ids: Ids of tasks or groups.
            descendants: Also where a member of the groups runs, or what one of the tasks sent.
        Raises: BrokerError.
        """
        found: list[Found] = []
        for child in self._children:
            consumer = child.spec.identity.consumer
            try:
                keys = running_among(
                    task_ids, self._broker, consumer, child.board, descendants=descendants
                )
            except ValueError:
                if child in tuple(self._children):
                    raise
                continue  # it ended meanwhile, and its board was closed
            found += [Found(child, key, task_id) for key, task_id in keys.items()]
        return found

    def terminate(self, found: Iterable[Found]) -> None:
        """End the processes that still run what was found."""
        living = set(self._children)
        for child, key, task_id in found:
            if child in living and any(slot.key == key for slot in child.board.running()):
                logger.warning("terminating task %s in pid %d", task_id, child.pid)
                self._dooms.add(child, key, Revoked("terminated"))

    def replace_stuck(self, now: float) -> None:
        """Have a successor started for what doesn't consume; end it when it runs nothing."""
        for child in self._watchdog.look(self._children, now):
            if child.was_killed:
                continue
            if not child.is_stuck:
                logger.error(
                    "child %d (pid %d) hasn't come back from %s for %.0f s: starting another",
                    child.index,
                    child.pid,
                    "the broker" if child.board.doing is Doing.RECEIVING else "its work",
                    now - child.board.turned_at,
                )
                child.is_stuck = True
                self._children.retire(child)
            if next(child.board.running(), None) is None:
                child.kill()

    def are_consuming(self, now: float) -> bool:
        """Tell whether each child of the pool runs something or had an answer of the broker."""
        active = self._children.active
        return bool(active) and all(self._watchdog.is_consuming(each, now) for each in active)

    def _enforce_time(self, child: Child, now: float) -> None:
        for slot in child.board.running():
            if slot.key in child.doomed:
                continue
            if slot.hard_deadline_at is not None and now >= slot.hard_deadline_at:
                limit_s = round(slot.hard_deadline_at - slot.begun_at, 6)
                logger.error(
                    "a task ran over its hard time limit of %g s in pid %d: ending the process",
                    limit_s,
                    child.pid,
                )
                error = error_info(TimeLimitExceeded(limit_s), with_traceback=False)
                self._dooms.add(child, slot.key, Failure(error, limit_s))

    def _end_lingering(self, child: Child, now: float) -> None:
        if child.was_killed or not child.board.has_ended:
            return
        if child.ended_at is None:
            child.ended_at = now
        if now - child.ended_at > _LINGER_S:
            logger.warning(
                "child %d (pid %d) has ended its work and not itself (a thread of a task "
                "holds it): ending the process",
                child.index,
                child.pid,
            )
            child.kill()

    def _end_too_large(self, child: Child) -> None:
        ceiling = self._memory.ceiling_bytes
        child.fault = f"over worker_memory_ceiling_bytes ({ceiling})"
        logger.error(
            "child %d (pid %d) has %d bytes of memory, over worker_memory_ceiling_bytes (%d): "
            "ending the process",
            child.index,
            child.pid,
            child.memory_bytes,
            ceiling,
        )
        child.kill()
