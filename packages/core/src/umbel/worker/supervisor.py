"""The supervisor: one a node, runs no task. Starts children, watches them, ends them, heals.

Children consume for themselves; nothing of a task passes through here. When a child dies, what
it had finished is settled from its journal, what it was running gets a strike, and the rest is
given back at once.
"""

from __future__ import annotations

import logging
import signal
import sys
import time
from collections.abc import Callable
from multiprocessing import connection
from typing import TYPE_CHECKING

import msgspec

from umbel.error_info import error_info
from umbel.errors import TimeLimitExceeded, UmbelError
from umbel.events import notify
from umbel.ids import new_id
from umbel.interfaces.broker import Capability
from umbel.messages import Delivery
from umbel.outcomes import Failure, Outcome, Revoked
from umbel.worker.admission import poison
from umbel.worker.board import Board, slot_key
from umbel.worker.child import COLD, SOFT, WARM, ChildSpec
from umbel.worker.decode import Decoder, header_id
from umbel.worker.jobs import Job, Settlement
from umbel.worker.processes import Child, process_context, start_child
from umbel.worker.settle import Settler
from umbel.worker.shutdown import Phase, Shutdown

if TYPE_CHECKING:
    from umbel.interfaces.broker import Broker
    from umbel.worker.host import Host

logger = logging.getLogger("umbel.worker")

#: How often deadlines are looked at while a task runs, and while none does.
_LOOK_BUSY_S = 0.05
_LOOK_IDLE_S = 0.25
#: Children that die before they are ready, in a row, after which the worker gives up.
_START_FAILURES = 5
_FIRST_START_PAUSE_S = 0.5
_PHASE_COMMANDS = {Phase.WARM: WARM, Phase.SOFT: SOFT, Phase.COLD: COLD}
_PHASE_NAMES = {Phase.WARM: "warm", Phase.SOFT: "soft", Phase.COLD: "cold"}


class DeadChild(msgspec.Struct, frozen=True):
    """What a child left behind, for recovery."""

    spec: ChildSpec
    pid: int
    exitcode: int | None
    running: list[bytes]
    journal: dict[str, tuple[Outcome, float]]
    #: By slot key: why the task had to be ended, where the supervisor ended it.
    doomed: dict[bytes, Outcome]


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
        """`spec` is the pattern of a child; index, identity and board are filled in."""
        self._host, self._spec, self._wanted = host, spec, children
        self._broker, self._settler, self.shutdown = broker, settler, shutdown
        self._alive_timeout_s, self._worker = alive_timeout_s, worker
        self._decoder = Decoder(host, spec.identity.hostname)
        self._children: dict[int, Child] = {}
        self._born_at: dict[int, float] = {}
        self._doomed: dict[int, dict[bytes, Outcome]] = {}
        self._dead: list[DeadChild] = []
        self._start_failures = 0
        self._start_after = 0.0
        self._finished: set[int] = set()
        self._lease_until = 0.0
        self._revokes = 0
        self._is_ready = False
        self._wake_reader, self._wake_writer = connection.Pipe(duplex=False)
        self._calls: list[Callable[[], None]] = []
        self._context = process_context(_preload(spec.app_path) if preloads else [])

    # -- from other threads and signal handlers -----------------------------------------------

    def call(self, function: Callable[[], None]) -> None:
        """Have `function` called on the supervisor's thread, soon."""
        self._calls.append(function)
        self._wake_writer.send_bytes(b"!")

    def set_lease_until(self, at: float) -> None:
        """Tell the children until when (monotonic seconds) the lease holds."""
        self._lease_until = at
        for child in list(self._children.values()):
            child.board.set_lease_until(at)

    def note_revokes(self) -> None:
        """Tell the children that the set of revoked tasks changed."""
        self._revokes += 1
        for child in list(self._children.values()):
            child.board.set_revokes(self._revokes)

    # -- the supervisor's thread --------------------------------------------------------------

    def run(self) -> int:
        """Supervise until all is over; returns the exit code."""
        while True:
            now = time.monotonic()
            self._start_missing(now)
            if not self._children and self._is_over():
                break
            self._wait()
            self._run_calls()
            self._bury_dead()
            self._recover_dead()
            now = time.monotonic()
            if self.shutdown.phase is Phase.RUNNING:
                self._note_readiness(now)
            elif self.shutdown.advance(now):
                self._announce_phase()
            self._enforce_limits(now)
        self._recover_dead()
        return 1 if self._start_failures >= _START_FAILURES else 0

    def _is_over(self) -> bool:
        if self._start_failures >= _START_FAILURES:
            return True
        stopping = self.shutdown.phase is not Phase.RUNNING
        return stopping or len(self._finished) >= self._wanted

    def _wait(self) -> None:
        sentinels = [child.process.sentinel for child in self._children.values()]
        is_busy = any(next(child.board.running(), None) for child in self._children.values())
        timeout_s = _LOOK_BUSY_S if is_busy else _LOOK_IDLE_S
        ready = connection.wait([*sentinels, self._wake_reader], timeout_s)
        if self._wake_reader in ready:
            while self._wake_reader.poll():
                self._wake_reader.recv_bytes()

    def _run_calls(self) -> None:
        while self._calls:
            try:
                self._calls.pop(0)()
            except UmbelError as exc:
                logger.error("a control command failed: %s", exc)

    # -- starting -----------------------------------------------------------------------------

    def _start_missing(self, now: float) -> None:
        if self.shutdown.phase is not Phase.RUNNING or now < self._start_after:
            return
        if self._start_failures >= _START_FAILURES:
            return
        for index in range(self._wanted):
            if index not in self._children and index not in self._finished:
                self._start(index)

    def _start(self, index: int) -> None:
        events = self._host.events
        if events.process_starting:
            notify(events.process_starting, self._worker)
        board = Board.create(self._spec.slots)
        board.set_lease_until(self._lease_until)
        board.set_revokes(self._revokes)
        identity = msgspec.structs.replace(
            self._spec.identity, consumer=f"{self._spec.identity.node}/{index}-{new_id()[:8]}"
        )
        spec = msgspec.structs.replace(
            self._spec, index=index, identity=identity, board=str(board.path)
        )
        self._children[index] = start_child(self._context, spec, board)
        self._born_at[index] = time.monotonic()

    def _note_readiness(self, now: float) -> None:
        for index, child in list(self._children.items()):
            if child.was_ready:
                continue
            if child.board.is_ready:
                child.was_ready = True
                child.board.unlink()
                self._start_failures = 0
                logger.debug("child %d (pid %d) is ready", index, child.pid)
            elif child.board.is_alive:
                self._start_failures = 0
            elif now - self._born_at[index] > self._alive_timeout_s:
                logger.error(
                    "child %d (pid %d) wasn't ready within worker_proc_alive_timeout (%g s), "
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
            if child.process.is_alive():
                continue
            del self._children[index]
            exitcode = child.process.exitcode
            dead = DeadChild(
                child.spec,
                child.pid,
                exitcode,
                [slot.key for slot in child.board.running()],
                {each.receipt: (each.outcome, each.done_at) for each in child.board.journal()},
                self._doomed.pop(index, {}),
            )
            was_alive = child.board.is_alive
            child.release()
            self._dead.append(dead)
            self._note_death(index, dead, was_alive=was_alive)

    def _note_death(self, index: int, dead: DeadChild, *, was_alive: bool) -> None:
        in_order = dead.exitcode == 0
        if in_order and self._spec.burst:
            self._finished.add(index)
        if in_order or dead.doomed or self.shutdown.phase is not Phase.RUNNING:
            return
        if was_alive:
            logger.error(
                "child %d (pid %d) died: %s; starting another",
                index,
                dead.pid,
                describe_exit(dead.exitcode),
            )
        else:
            self._start_failures += 1
            pause_s = _FIRST_START_PAUSE_S * 2 ** (self._start_failures - 1)
            self._start_after = time.monotonic() + pause_s
            logger.error(
                "child %d (pid %d) died before it was ready: %s (%d of %d tries)",
                index,
                dead.pid,
                describe_exit(dead.exitcode),
                self._start_failures,
                _START_FAILURES,
            )
        if self._host.events.process_stopped:
            notify(self._host.events.process_stopped, index, dead.exitcode)

    def _recover_dead(self) -> None:
        """Settle what dead children had finished, and give back the rest, through outages."""
        left = []
        for dead in self._dead:
            try:
                self._recover(dead)
            except UmbelError as exc:
                logger.debug("can't recover what pid %d held yet: %s", dead.pid, exc)
                left.append(dead)
        self._dead = left

    def _recover(self, dead: DeadChild) -> None:
        if Capability.LEASE not in self._broker.capabilities:
            return
        consumer = dead.spec.identity.consumer
        struck = []
        pending = self._settler.pending_receipts()
        for delivery in self._broker.held(consumer):
            if delivery.receipt in pending:
                continue  # from a try before this one, which an outage ended
            outcome, done_at = self._left_outcome(dead, delivery)
            if outcome is not None:
                job = self._decoder.decode(delivery)
                self._settler.add(
                    Settlement(delivery, outcome, job if isinstance(job, Job) else None, done_at)
                )
            elif slot_key(delivery.receipt) in dead.running and not _was_spared(dead):
                if self._fails_when_lost(delivery):
                    continue
                struck.append(delivery.receipt)
                logger.error(
                    "task %s was running in pid %d when it died (%s); strike %d",
                    header_id(delivery.message),
                    dead.pid,
                    describe_exit(dead.exitcode),
                    delivery.strikes + 1,
                )
        if not self._settler.flush(force=True):
            raise self._settler.outage or UmbelError("not settled")
        self._broker.recover_consumer(consumer, struck=struck)

    def _fails_when_lost(self, delivery: Delivery) -> bool:
        """Settle a task that isn't to run again after its process died; False: it is to."""
        job = self._decoder.decode(delivery)
        if not isinstance(job, Job) or job.runner.rejects_on_lost:
            return False
        self._settler.add(Settlement(delivery, poison(1), job, self._host.clock.time()))
        return True

    def _left_outcome(self, dead: DeadChild, delivery: Delivery) -> tuple[Outcome | None, float]:
        """Return the outcome that the dead child made of `delivery`, or was ended for."""
        made = dead.journal.get(delivery.receipt)
        if made is not None:
            return made
        return dead.doomed.get(slot_key(delivery.receipt)), self._host.clock.time()

    # -- limits and revokes -------------------------------------------------------------------

    def _enforce_limits(self, now: float) -> None:
        for index, child in self._children.items():
            for slot in child.board.running():
                if slot.key in self._doomed.get(index, {}):
                    continue
                if slot.hard_deadline_at is not None and now >= slot.hard_deadline_at:
                    limit_s = slot.hard_deadline_at - slot.begun_at
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
        wanted = set(task_ids)
        for index, child in self._children.items():
            running = {slot.key for slot in child.board.running()}
            for delivery in self._broker.held(child.spec.identity.consumer):
                key = slot_key(delivery.receipt)
                if key in running and header_id(delivery.message) in wanted:
                    logger.warning(
                        "terminating task %s in pid %d", header_id(delivery.message), child.pid
                    )
                    self._doom(index, child, key, Revoked("terminated"))

    # -- the end ------------------------------------------------------------------------------

    def request(self, phase: Phase) -> None:
        """Begin or hasten the shutdown."""
        if self.shutdown.request(phase, time.monotonic()):
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
            child.tell(_PHASE_COMMANDS[phase])
        if self._host.events.worker_stopping:
            notify(self._host.events.worker_stopping, self._worker, name)


def _was_spared(dead: DeadChild) -> bool:
    """Tell whether the supervisor ended the process: those beside the culprit get no strike."""
    return bool(dead.doomed) or dead.exitcode == 0


def describe_exit(exitcode: int | None) -> str:
    """Return an exit code in words."""
    if exitcode is None:
        return "unknown"
    if exitcode < 0:
        try:
            return f"signal {-exitcode} ({signal.Signals(-exitcode).name})"
        except ValueError:
            return f"signal {-exitcode}"
    return f"exit code {exitcode}"


def _preload(app_path: str) -> list[str]:
    """Return the modules that the fork server imports: ours, what plugins loaded, the app's."""
    ours = [name for name in sys.modules if name.partition(".")[0].startswith("umbel")]
    ours = [name for name in ours if not name.startswith("umbel_cli")]
    return [*sorted(ours), app_path.partition(":")[0]]
