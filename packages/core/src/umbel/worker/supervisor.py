"""The supervisor: one a node, runs no task. Starts children, watches them, ends them, heals.

Children consume for themselves; nothing of a task passes through here. When a child dies, what
it had finished is settled from its journal, what it was running gets a strike, and the rest is
given back at once (see `recovery`).
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from multiprocessing import connection
from typing import TYPE_CHECKING

from umbel.errors import UmbelError
from umbel.events import notify
from umbel.worker.child import COLD, SOFT, WARM, ChildSpec
from umbel.worker.children import Children
from umbel.worker.processes import Child, Starter, reap_adopted
from umbel.worker.recovery import DeadChild, Recovery, describe_exit
from umbel.worker.restarts import Restarts
from umbel.worker.scaling import Bounds, Gauge, Scaling
from umbel.worker.shutdown import COLD_GRACE_S, Phase, Shutdown
from umbel.worker.undertaker import Undertaker
from umbel.worker.warden import Warden

if TYPE_CHECKING:
    from umbel.interfaces.broker import Broker
    from umbel.interfaces.coordinator import Coordinator
    from umbel.worker.host import Host
    from umbel.worker.settle import Settler

logger = logging.getLogger("umbel.worker")

#: How often deadlines are looked at while a task runs, and while none does.
_LOOK_BUSY_S = 0.05
_LOOK_IDLE_S = 0.25
#: Processes for each place in the pool: one that works, and one that finishes its last tasks.
_MOST_PER_PLACE = 2
#: How long the end waits for a process that is being forked.
_ANSWER_S = 1.0
#: What is told where it isn't known.
_UNKNOWN_EXIT = 255
_PHASE_COMMANDS = {Phase.WARM: WARM, Phase.SOFT: SOFT, Phase.COLD: COLD}
_PHASE_NAMES = {Phase.WARM: "warm", Phase.SOFT: "soft", Phase.COLD: "cold"}


class Supervisor:
    """Keeps a number of children alive and takes care of what dead ones held."""

    def __init__(
        self,
        host: Host,
        spec: ChildSpec,
        children: int,
        *,
        broker: Broker,
        settler: Settler,
        shutdown: Shutdown,
        alive_timeout_s: float,
        starter: Starter,
        worker: object,
        coordinator: Coordinator | None = None,
        bounds: Bounds | None = None,
    ):
        """`spec` is the pattern of a child; `bounds`, between which their number follows the load."""
        self._host, self._spec = host, spec
        self._broker, self.shutdown = broker, shutdown
        self._alive_timeout_s, self._worker = alive_timeout_s, worker
        recovery = Recovery(
            host, spec.identity.hostname, broker=broker, settler=settler, coordinator=coordinator
        )
        self._undertaker = Undertaker(recovery, on_done=lambda: self._wake_writer.send_bytes(b"!"))
        self.children = Children(host, spec, starter, worker=worker)
        conf = host.conf
        self._warden = Warden(self.children, broker, conf, coordinator)
        self._gauge = Gauge(broker, spec.queues)
        self.scaling = Scaling(
            children,
            bounds,
            slots=spec.slots,
            idle_s=conf.worker_autoscale_idle_s,
            gauge=self._gauge,
        )
        self._restarts = Restarts()
        #: How many children have ended, since their burst is over.
        self._finished = 0
        self._childless_since: float | None = None
        self._is_ready = False
        self._wake_reader, self._wake_writer = connection.Pipe(duplex=False)
        self._calls: list[Callable[[], None]] = []

    # -- from other threads and signal handlers -----------------------------------------------

    def call(self, function: Callable[[], None]) -> None:
        """Have `function` called on the supervisor's thread, soon. Takes no lock."""
        self._calls.append(function)
        self._wake_writer.send_bytes(b"!")

    def set_lease(self, since: float, until: float) -> None:
        """Tell the children from when until when (monotonic seconds) the lease holds."""
        self.children.set_lease(since, until)

    def note_revokes(self) -> None:
        """Tell the children that the set of revoked tasks changed."""
        self.children.note_revokes()

    @property
    def is_consuming(self) -> bool:
        """Whether each process of the pool runs something or was answered by the broker lately."""
        return self._warden.are_consuming(time.monotonic())

    def terminate(self, task_ids: list[str], descendants: bool = False) -> None:
        """End the processes that run one of these tasks. Not on the supervisor's thread.

        Args:
            task_ids: Ids of tasks or groups.
            descendants: Or a member of the groups, or what one of the tasks sent.
        Raises: BrokerError: it can't tell which do.
        """
        found = self._warden.find(task_ids, descendants=descendants)
        if found:
            self.call(lambda: self._warden.terminate(found))

    # -- on its thread, by `call` --------------------------------------------------------------

    def grow(self, by: int = 1) -> int:
        """Have more processes; returns how many there will be.

        Raises: ConfigError: `by` isn't 1 or more.
        """
        return self.scaling.grow(by)

    def shrink(self, by: int = 1) -> int:
        """Have fewer processes, at least one; returns how many.

        Those that are too many finish what they run. Raises: ConfigError: as `grow`.
        """
        return self.scaling.shrink(by)

    def set_bounds(self, most: int, fewest: int = 1) -> int:
        """Let the number follow the load between bounds; returns how many there will be.

        Raises: ConfigError: the bounds contradict each other.
        """
        return self.scaling.set_bounds(most, fewest)

    # -- the supervisor's thread --------------------------------------------------------------

    def run(self) -> int:
        """Supervise until all is over; returns the exit code."""
        try:
            while True:
                self._start_missing()
                if self._is_over(time.monotonic()):
                    break
                self._wait()
                self._run_calls()
                self._bury_dead()
                now = time.monotonic()
                if self.shutdown.phase is Phase.RUNNING:
                    self._note_readiness(now)
                    self._warden.replace_stuck(now)
                    self._scale(now)
                elif self.shutdown.advance(now):
                    self._announce_phase()
                self._warden.enforce(now)
        finally:
            self._gauge.stop()
            self._undertaker.stop()
            self._end_children()
        if self._has_given_up and self.shutdown.phase is Phase.RUNNING:
            logger.critical(
                "giving up: no process could load the app in %d tries; their own errors are in the log "
                "above",
                self._restarts.start_failures,
            )
            return 1
        return 0

    @property
    def _has_given_up(self) -> bool:
        is_alone = not len(self.children) and not self.children.starter.ordered
        return self._restarts.are_hopeless and is_alone

    def _is_over(self, now: float) -> bool:
        """Tell whether nothing is left to do; an outage may hold that up, for a while."""
        stopping = self.shutdown.phase is not Phase.RUNNING
        is_last = stopping or self._has_given_up or self._finished >= self.scaling.size
        if len(self.children) or not is_last:
            self._childless_since = None
            return False
        if self._childless_since is None:
            self._childless_since = now
        if self.children.starter.will_answer and now - self._childless_since < _ANSWER_S:
            return False
        if self._undertaker.is_done:
            return True
        longest_s = self._spec.identity.lease_s
        if self.shutdown.phase >= Phase.COLD:
            longest_s = min(longest_s, COLD_GRACE_S)
        if now - self._childless_since <= longest_s:
            return False
        logger.error("what processes had finished can't be settled; their tasks will run again")
        return True

    def _wait(self) -> None:
        sentinels = [child.sentinel for child in self.children]
        timeout_s = _LOOK_BUSY_S if self.children.are_busy else _LOOK_IDLE_S
        answers = self.children.starter.sentinels
        ready = connection.wait([*sentinels, *answers, self._wake_reader], timeout_s)
        if self._wake_reader in ready:
            while self._wake_reader.poll():
                self._wake_reader.recv_bytes()
        self._take_started()
        reap_adopted(self.children.starter.pids)

    def _run_calls(self) -> None:
        while self._calls:
            try:
                self._calls.pop(0)()
            except UmbelError as exc:
                logger.error("a control command failed: %s", exc)
            except Exception:
                logger.exception("a control command failed")

    # -- starting -----------------------------------------------------------------------------

    def _start_missing(self) -> None:
        size = self.scaling.size
        starter = self.children.starter
        ordered = len(starter.ordered)
        missing = size - self._finished - len(self.children.active) - ordered
        # Those that retire and are long in it shall not pile up.
        room = _MOST_PER_PLACE * size - len(self.children) - ordered
        for _ in range(min(missing, room)):
            may_start = self._restarts.may_start(time.monotonic()) and not self._has_given_up
            if self.shutdown.phase is not Phase.RUNNING or not may_start or starter.is_full:
                break
            try:
                self.children.order()
            except OSError as exc:
                self._note_unstarted(exc)
        self._take_started()

    def _take_started(self) -> None:
        started, failures = self.children.take_started()
        if self.shutdown.phase is Phase.RUNNING:
            for exc in failures:
                self._note_unstarted(exc)
        else:  # they were ordered before
            for child in started:
                self._hasten(child)

    def _note_unstarted(self, exc: OSError) -> None:
        self._note_start_failure(f"a child can't be started: {exc}", time.monotonic())

    def _note_start_failure(self, what: str, born_at: float) -> None:
        self._restarts.note_start_failure(born_at, time.monotonic())
        logger.error("%s (try %d)", what, self._restarts.start_failures)

    def _note_readiness(self, now: float) -> None:
        if self.children.starter.end_late(self._alive_timeout_s):
            logger.error(
                "the process that children are forked from hasn't loaded the app in "
                "worker_proc_alive_timeout (%g s), starting another",
                self._alive_timeout_s,
            )
        for child in self.children:
            if child.board.is_retiring:  # it said so by itself: its successor is due
                child.is_retiring = True
            if child.was_ready:
                continue
            child.was_ready = child.board.is_ready
            if child.board.is_alive:  # and waits for the broker, perhaps
                self._restarts.note_alive()
            elif now - child.born_at > self._alive_timeout_s and not child.was_killed:
                logger.error(
                    "child %d (pid %d) hasn't loaded the app in worker_proc_alive_timeout (%g s), "
                    "starting another",
                    child.index,
                    child.pid,
                    self._alive_timeout_s,
                )
                child.kill()
        if self._is_ready:
            return
        are_ready = [child.was_ready for child in self.children.active]
        if len(are_ready) >= self.scaling.size and all(are_ready):
            self._is_ready = True
            logger.info("%s ready", self._spec.identity.hostname)
            if self._host.events.worker_ready:
                notify(self._host.events.worker_ready, self._worker)

    # -- how many -----------------------------------------------------------------------------

    def _scale(self, now: float) -> None:
        active = self.children.active
        self.scaling.look(active, now)
        surplus = len(active) + self._finished - self.scaling.size
        if surplus <= 0:
            return
        # First those that do nothing, the youngest before the others.
        active.sort(
            key=lambda child: (next(child.board.running(), None) is not None, -child.born_at)
        )
        for child in active[:surplus]:
            self.children.retire(child)

    # -- the dead -----------------------------------------------------------------------------

    def _bury_dead(self) -> None:
        for child in self.children:
            if child.is_alive:
                continue
            self.children.remove(child)
            board, now = child.board, self._host.clock.time()
            in_order, was_alive, done = board.has_ended, board.is_alive, board.done
            was_replaced = child.is_retiring or board.is_retiring
            running = frozenset(slot.key for slot in board.running())
            memory_bytes = child.memory_bytes or board.memory_bytes or None
            journal = {entry.receipt: entry for entry in board.journal()}
            dead = DeadChild(
                consumer=child.spec.identity.consumer,
                pid=child.pid,
                exitcode=child.release(),
                running=running,
                journal=journal,
                doomed=child.doomed,
                was_spared=in_order or (child.was_killed and child.fault is None),
                died_at=now,
                memory_bytes=memory_bytes,
                fault=child.fault,
            )
            self._undertaker.add(dead)
            if in_order:
                self._restarts.note_end()
                if self._spec.burst and not was_replaced:
                    self._finished += 1
            else:
                self._note_death(child, dead, done, was_alive=was_alive)

    def _note_death(self, child: Child, dead: DeadChild, done: int, *, was_alive: bool) -> None:
        if self._host.events.process_stopped:
            # None would mean that the child itself tells of its end.
            exitcode = _UNKNOWN_EXIT if dead.exitcode is None else dead.exitcode
            notify(self._host.events.process_stopped, child.index, exitcode)
        if dead.doomed or child.is_retiring or self.shutdown.phase is not Phase.RUNNING:
            return
        how = f"child {child.index} (pid {dead.pid}) died"
        if not was_alive:
            why = describe_exit(dead.exitcode)
            self._note_start_failure(f"{how} before it had loaded the app: {why}", child.born_at)
            return
        logger.error("%s: %s; starting another", how, describe_exit(dead.exitcode))
        self._restarts.note_death(time.monotonic(), done=done, was_running=bool(dead.running))

    # -- the end ------------------------------------------------------------------------------

    def request(self, phase: Phase | None) -> None:
        """Begin or hasten the shutdown; None: the next phase. On the supervisor's thread."""
        now = time.monotonic()
        changed = (
            self.shutdown.escalate(now) if phase is None else self.shutdown.request(phase, now)
        )
        if changed:
            self._announce_phase()

    def _announce_phase(self) -> None:
        name = _PHASE_NAMES.get(self.shutdown.phase)
        if name is not None:
            logger.warning("%s shutdown", name)
        for child in self.children:
            self._hasten(child)
        if name is not None and self._host.events.worker_stopping:
            notify(self._host.events.worker_stopping, self._worker, name)

    def _hasten(self, child: Child) -> None:
        """Tell a child how far the shutdown is."""
        command = _PHASE_COMMANDS.get(self.shutdown.phase)
        if command is not None and child.board.is_alive:
            child.tell(command)
        else:  # it is time, or it holds nothing yet and may be long in importing the app
            child.kill()

    def _end_children(self) -> None:
        """Leave no process behind, where the supervisor itself failed."""
        self.children.close()
        children = list(self.children)
        for child in children:
            self.children.remove(child)
            if child.board.is_alive:
                child.tell(COLD)
            else:
                child.kill()
        ends_at = time.monotonic() + COLD_GRACE_S
        for child in children:
            connection.wait([child.sentinel], max(0.0, ends_at - time.monotonic()))
            child.kill()
            connection.wait([child.sentinel], COLD_GRACE_S)
            child.release()
