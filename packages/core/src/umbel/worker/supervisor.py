"""The supervisor: one a node, runs no task. Starts children, watches them, ends them, heals.

Children consume for themselves; nothing of a task passes through here. When a child dies, what
it had finished is settled from its journal, what it was running gets a strike, and the rest is
given back at once (see `recovery`).
"""

from __future__ import annotations

import logging
import sys
import threading
import time
from collections.abc import Callable
from multiprocessing import connection
from typing import TYPE_CHECKING

import msgspec

from umbel.error_info import error_info
from umbel.errors import TimeLimitExceeded, UmbelError
from umbel.events import notify
from umbel.ids import new_id
from umbel.outcomes import Failure, Outcome, Revoked
from umbel.worker.board import Board
from umbel.worker.child import COLD, SOFT, WARM, ChildSpec
from umbel.worker.processes import Child, process_context, reap_adopted, start_child
from umbel.worker.recovery import DeadChild, Recovery, describe_exit, running_among
from umbel.worker.restarts import Restarts
from umbel.worker.shutdown import COLD_GRACE_S, Phase, Shutdown

if TYPE_CHECKING:
    from umbel.interfaces.broker import Broker
    from umbel.worker.host import Host
    from umbel.worker.settle import Settler

logger = logging.getLogger("umbel.worker")

#: How often deadlines are looked at while a task runs, and while none does.
_LOOK_BUSY_S = 0.05
_LOOK_IDLE_S = 0.25
#: Seconds that a process may live on after its work has ended: threads of its tasks hold it.
_LINGER_S = 10.0
#: What `multiprocessing` says where it doesn't know.
_UNKNOWN_EXIT = 255
_PHASE_COMMANDS = {Phase.WARM: WARM, Phase.SOFT: SOFT, Phase.COLD: COLD}
_PHASE_NAMES = {Phase.WARM: "warm", Phase.SOFT: "soft", Phase.COLD: "cold"}


class StartInterruptedError(UmbelError):
    """A signal came while a child was being started."""


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
        preloads: bool,
        worker: object,
    ):
        """`spec` is the pattern of a child; index and identity are filled in."""
        self._host, self._spec, self._wanted = host, spec, children
        self._broker, self.shutdown = broker, shutdown
        self._alive_timeout_s, self._worker = alive_timeout_s, worker
        self._recovery = Recovery(host, spec.identity.hostname, broker=broker, settler=settler)
        #: Guards the dict, for the threads that write to the boards in it.
        self._lock = threading.Lock()
        self._children: dict[int, Child] = {}
        self._born_at: dict[int, float] = {}
        self._ended_at: dict[int, float] = {}
        self._doomed: dict[int, dict[bytes, Outcome]] = {}
        self._restarts = Restarts()
        self._finished: set[int] = set()
        self._childless_since: float | None = None
        self._lease = (0.0, 0.0)
        self._revokes = 0
        self._is_ready = self._is_starting = False
        self._thread = threading.get_ident()
        self._wake_reader, self._wake_writer = connection.Pipe(duplex=False)
        self._calls: list[Callable[[], None]] = []
        self._context = process_context(_preload(spec.app_path) if preloads else [])

    # -- from other threads and signal handlers -----------------------------------------------

    def call(self, function: Callable[[], None]) -> None:
        """Have `function` called on the supervisor's thread, soon. Takes no lock.

        Raises: StartInterruptedError: on the supervisor's thread itself, in a signal handler,
            while it waits for the fork server, which may be long in importing the app.
        """
        self._calls.append(function)
        self._wake_writer.send_bytes(b"!")
        if self._is_starting and threading.get_ident() == self._thread:
            self._is_starting = False
            raise StartInterruptedError

    def set_lease(self, since: float, until: float) -> None:
        """Tell the children from when until when (monotonic seconds) the lease holds."""
        with self._lock:
            self._lease = (since, until)
            for child in self._children.values():
                child.board.set_lease(since, until)

    def note_revokes(self) -> None:
        """Tell the children that the set of revoked tasks changed."""
        with self._lock:
            self._revokes += 1
            for child in self._children.values():
                child.board.set_revokes(self._revokes)

    # -- the supervisor's thread --------------------------------------------------------------

    def run(self) -> int:
        """Supervise until all is over; returns the exit code."""
        self._thread = threading.get_ident()
        try:
            while True:
                self._start_missing()
                if self._is_over(time.monotonic()):
                    break
                self._wait()
                self._run_calls()
                self._bury_dead()
                self._recovery.run()
                now = time.monotonic()
                if self.shutdown.phase is Phase.RUNNING:
                    self._note_readiness(now)
                elif self.shutdown.advance(now):
                    self._announce_phase()
                self._enforce_limits(now)
                self._end_lingering(now)
        finally:
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
        return self._restarts.are_hopeless and not self._children

    def _is_over(self, now: float) -> bool:
        """Tell whether nothing is left to do; an outage may hold that up for a lease's time."""
        stopping = self.shutdown.phase is not Phase.RUNNING
        is_last = stopping or self._has_given_up or len(self._finished) >= self._wanted
        if self._children or not is_last:
            self._childless_since = None
            return False
        if self._recovery.is_done or self.shutdown.phase >= Phase.COLD:
            return True
        if self._childless_since is None:
            self._childless_since = now
        if now - self._childless_since <= self._spec.identity.lease_s:
            return False
        logger.error("what processes had finished can't be settled; their tasks will run again")
        return True

    def _wait(self) -> None:
        sentinels = [child.sentinel for child in self._children.values()]
        is_busy = any(next(child.board.running(), None) for child in self._children.values())
        timeout_s = _LOOK_BUSY_S if is_busy else _LOOK_IDLE_S
        ready = connection.wait([*sentinels, self._wake_reader], timeout_s)
        if self._wake_reader in ready:
            while self._wake_reader.poll():
                self._wake_reader.recv_bytes()
        reap_adopted()

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
        for index in range(self._wanted):
            may_start = self._restarts.may_start(time.monotonic()) and not self._has_given_up
            if self.shutdown.phase is not Phase.RUNNING or self._calls or not may_start:
                return
            if index not in self._children and index not in self._finished:
                self._start(index)

    def _start(self, index: int) -> None:
        events = self._host.events
        if events.process_starting:
            notify(events.process_starting, self._worker)
        identity = msgspec.structs.replace(
            self._spec.identity, consumer=f"{self._spec.identity.node}/{index}-{new_id()[-12:]}"
        )
        spec = msgspec.structs.replace(self._spec, index=index, identity=identity)
        try:
            board = Board.create(self._spec.slots)
            board.set_lease(*self._lease)
            board.set_revokes(self._revokes)
            self._is_starting = True
            child = start_child(self._context, spec, board)
            self._is_starting = False
        except StartInterruptedError:  # a process that starts all the same finds itself alone
            return
        except (OSError, EOFError) as exc:
            self._is_starting = False
            self._note_start_failure(f"child {index} can't be started: {exc!r}", time.monotonic())
            return
        with self._lock:
            self._children[index] = child
        self._born_at[index] = time.monotonic()

    def _note_start_failure(self, what: str, born_at: float) -> None:
        self._restarts.note_start_failure(born_at, time.monotonic())
        logger.error("%s (try %d)", what, self._restarts.start_failures)

    def _note_readiness(self, now: float) -> None:
        for index, child in self._children.items():
            if child.was_ready:
                continue
            child.was_ready = child.board.is_ready
            if child.board.is_alive:  # and waits for the broker, perhaps
                self._restarts.note_alive()
            elif now - self._born_at[index] > self._alive_timeout_s and not child.was_killed:
                logger.error(
                    "child %d (pid %d) hasn't loaded the app in worker_proc_alive_timeout (%g s), "
                    "starting another",
                    index,
                    child.pid,
                    self._alive_timeout_s,
                )
                child.kill()
        are_ready = [child.was_ready for child in self._children.values()]
        if not self._is_ready and len(are_ready) == self._wanted and all(are_ready):
            self._is_ready = True
            logger.info("%s ready", self._spec.identity.hostname)
            if self._host.events.worker_ready:
                notify(self._host.events.worker_ready, self._worker)

    # -- the dead -----------------------------------------------------------------------------

    def _bury_dead(self) -> None:
        for index, child in list(self._children.items()):
            if child.is_alive:
                continue
            with self._lock:  # from here on nobody else writes to its board
                del self._children[index]
            self._ended_at.pop(index, None)
            board, doomed = child.board, self._doomed.pop(index, {})
            in_order, was_alive, done = board.has_ended, board.is_alive, board.done
            running = frozenset(slot.key for slot in board.running())
            journal = {entry.receipt: entry for entry in board.journal()}
            dead = DeadChild(
                consumer=child.spec.identity.consumer,
                pid=child.pid,
                exitcode=child.release(),
                running=running,
                journal=journal,
                doomed=doomed,
                was_spared=in_order or child.was_killed,
            )
            self._recovery.add(dead)
            if in_order:
                self._note_end(index, done)
            else:
                self._note_death(index, dead, done, was_alive=was_alive)

    def _note_end(self, index: int, done: int) -> None:
        """Take note of a child that has ended in order: after so many tasks, or a burst."""
        self._restarts.note_end()
        was_replaced = self._spec.max_tasks is not None and done >= self._spec.max_tasks
        if self._spec.burst and not was_replaced:
            self._finished.add(index)

    def _note_death(self, index: int, dead: DeadChild, done: int, *, was_alive: bool) -> None:
        if self._host.events.process_stopped:
            # None would mean that the child itself tells of its end.
            exitcode = _UNKNOWN_EXIT if dead.exitcode is None else dead.exitcode
            notify(self._host.events.process_stopped, index, exitcode)
        if dead.doomed or self.shutdown.phase is not Phase.RUNNING:
            return
        how = f"child {index} (pid {dead.pid}) died"
        if not was_alive:
            why = describe_exit(dead.exitcode)
            self._note_start_failure(
                f"{how} before it had loaded the app: {why}", self._born_at[index]
            )
            return
        logger.error("%s: %s; starting another", how, describe_exit(dead.exitcode))
        self._restarts.note_death(time.monotonic(), done=done)

    def _end_lingering(self, now: float) -> None:
        """End processes whose work is over and that still live."""
        for index, child in self._children.items():
            if child.was_killed or not child.board.has_ended:
                continue
            if now - self._ended_at.setdefault(index, now) > _LINGER_S:
                logger.warning(
                    "child %d (pid %d) has ended its work and not itself (a thread of a task "
                    "holds it): ending the process",
                    index,
                    child.pid,
                )
                child.kill()

    # -- limits and revokes -------------------------------------------------------------------

    def _enforce_limits(self, now: float) -> None:
        for index, child in self._children.items():
            for slot in child.board.running():
                if slot.key in self._doomed.get(index, {}):
                    continue
                if slot.hard_deadline_at is not None and now >= slot.hard_deadline_at:
                    limit_s = round(slot.hard_deadline_at - slot.begun_at, 6)
                    logger.error(
                        "a task ran over its hard time limit of %g s in pid %d: ending the process",
                        limit_s,
                        child.pid,
                    )
                    error = error_info(TimeLimitExceeded(limit_s), with_traceback=False)
                    self._doom(index, child, slot.key, Failure(error, limit_s))

    def _doom(self, index: int, child: Child, key: bytes, outcome: Outcome) -> None:
        """End `child` for the sake of the task `key`, whose outcome this is."""
        self._doomed.setdefault(index, {}).setdefault(key, outcome)
        child.kill()

    def terminate(self, task_ids: list[str]) -> None:
        """End the processes that run one of these tasks; on the supervisor's thread."""
        for index, child in self._children.items():
            consumer = child.spec.identity.consumer
            found = running_among(task_ids, self._broker, consumer, child.board)
            for key, task_id in found.items():
                logger.warning("terminating task %s in pid %d", task_id, child.pid)
                self._doom(index, child, key, Revoked("terminated"))

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
        phase = self.shutdown.phase
        if phase is Phase.KILL:
            for child in self._children.values():
                child.kill()
            return
        name = _PHASE_NAMES[phase]
        logger.warning("%s shutdown", name)
        for child in self._children.values():
            if child.board.is_alive:
                child.tell(_PHASE_COMMANDS[phase])
            else:  # it holds nothing yet, and may be long in importing the app
                child.kill()
        if self._host.events.worker_stopping:
            notify(self._host.events.worker_stopping, self._worker, name)

    def _end_children(self) -> None:
        """Leave no process behind, where the supervisor itself failed."""
        with self._lock:
            children, self._children = list(self._children.values()), {}
        for child in children:
            child.tell(COLD)
        ends_at = time.monotonic() + COLD_GRACE_S
        for child in children:
            connection.wait([child.sentinel], max(0.0, ends_at - time.monotonic()))
            child.kill()
            connection.wait([child.sentinel], COLD_GRACE_S)
            child.release()


def _preload(app_path: str) -> list[str]:
    """Return the modules that the fork server imports: ours, what plugins loaded, the app's."""
    ours = [name for name in sys.modules if name.partition(".")[0].startswith("umbel")]
    ours = [name for name in ours if not name.startswith("umbel_cli")]
    return [*sorted(ours), app_path.partition(":")[0]]
