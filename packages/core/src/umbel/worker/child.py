"""A child process of a worker: consumes for itself until its supervisor says stop, or is gone."""

from __future__ import annotations

import logging
import os
import sys
import threading
import time
from contextlib import suppress
from multiprocessing.connection import Connection
from typing import TYPE_CHECKING

import msgspec

from umbel.events import notify
from umbel.worker.app_loading import load_app
from umbel.worker.board import Board, Doing
from umbel.worker.consumer import Consumer
from umbel.worker.dumps import Dumper
from umbel.worker.heeding import heed_signals_in_forks, leave_signals_to_supervisor
from umbel.worker.identity import Identity
from umbel.worker.limits import MainThreadGuard, ShutdownInterrupt
from umbel.worker.logs import LogOptions, set_up_logging
from umbel.worker.memory import MemoryMeter, memory_of
from umbel.worker.pooled import PooledLane
from umbel.worker.rate_table import RateTable
from umbel.worker.solo import SoloLane
from umbel.worker.titles import set_title

if TYPE_CHECKING:
    from umbel.worker.host import Host

logger = logging.getLogger("umbel.worker")

#: Commands that the supervisor writes into the pipe.
WARM, SOFT, COLD, DUMP = b"warm", b"soft", b"cold", b"dump"
#: Shares of the lease, from its end, in which an orphan interrupts its tasks, and gives them back.
_ORPHAN_SOFT, _ORPHAN_COLD = 0.25, 0.1
_LONGEST_SLEEP_S = 3600.0


class ChildSpec(msgspec.Struct, frozen=True, kw_only=True):
    """All that a child needs to know; crosses to it as a pickle."""

    index: int
    identity: Identity
    app_path: str
    #: Settings given on the command line, over the app's own.
    overrides: dict[str, object] = {}
    pool: str
    slots: int
    queues: list[str]
    log: LogOptions
    sys_path: list[str]
    #: None: the folder is gone.
    cwd: str | None
    burst: bool = False
    prefetch_multiplier: int | None = None
    max_tasks: int | None = None
    max_memory_bytes: int | None = None
    #: Shared by all children of the node.
    rates: RateTable | None = None


def child_main(spec: ChildSpec, pipe: Connection, board: Board) -> None:
    """Run a child to its end. The entry point of the process."""
    leave_signals_to_supervisor()
    heed_signals_in_forks()
    Dumper("", spec.log.file).stand_by()
    set_title(f"umbel-child-{spec.index}")
    if _is_abandoned(pipe):
        return
    try:
        set_up_logging(spec.log)
        host = _load(spec)
        consumer = Consumer(
            host,
            spec.identity,
            spec.queues,
            slots=spec.slots,
            prefetch_multiplier=spec.prefetch_multiplier,
            board=board,
            rates=spec.rates,
        )
        lane = make_lane(host, consumer, spec, board)
        if _is_abandoned(pipe):
            consumer.close()
            return
        dumper = Dumper(f"child {spec.index}", spec.log.file, lane.runs)
        _Monitor(pipe, lane, board, spec.identity.lease_s, dumper).start()
    except Exception:
        logger.critical("child %d can't start", spec.index, exc_info=True)
        sys.exit(1)
    if host.events.process_started:
        notify(host.events.process_started, spec.index)
    board.set_memory(memory_of() or 0)
    board.set_doing(Doing.STARTING, time.monotonic())
    board.set_alive()
    consumer.source.when_joined(board.set_ready)
    try:
        lane.run()
    finally:
        if host.events.process_stopped:
            notify(host.events.process_stopped, spec.index, None)
        consumer.close()
    board.set_ended()


def _is_abandoned(pipe: Connection) -> bool:
    """Tell whether the supervisor is gone before this process does anything, or gave it up."""
    try:
        while pipe.poll():
            pipe.recv_bytes()  # a dump, which the supervisor gets without this process's help
    except (EOFError, OSError):
        return True
    return False


def _load(spec: ChildSpec) -> Host:
    """Go where the worker was started, and load the app there."""
    if spec.cwd is not None:
        try:
            os.chdir(spec.cwd)
        except OSError as exc:
            logger.warning("the folder that the worker was started in can't be used: %s", exc)
    sys.path[:] = spec.sys_path
    host = load_app(spec.app_path, spec.overrides)
    host.import_tasks()
    set_up_logging(spec.log)  # again: the app may have set up its own
    return host


def make_lane(
    host: Host, consumer: Consumer, spec: ChildSpec, board: Board | None
) -> SoloLane | PooledLane:
    """Return what runs tasks in a process of the pool that `spec` names."""
    factory = host.pool(spec.pool).factory
    meter = MemoryMeter.for_child(spec.max_memory_bytes, board)
    if factory is None:
        return SoloLane(
            consumer,
            guard=MainThreadGuard(),
            board=board,
            burst=spec.burst,
            max_tasks=spec.max_tasks,
            meter=meter,
        )
    return PooledLane(
        consumer,
        factory(spec.slots),
        board=board,
        burst=spec.burst,
        max_tasks=spec.max_tasks,
        meter=meter,
    )


class _Monitor(threading.Thread):
    """Listens to the supervisor; its silence for good means that it is gone."""

    def __init__(
        self,
        pipe: Connection,
        lane: SoloLane | PooledLane,
        board: Board,
        lease_s: float,
        dumper: Dumper,
    ):
        super().__init__(name="umbel-monitor", daemon=True)
        self._pipe, self._lane, self._board, self._lease_s = pipe, lane, board, lease_s
        self._dumper = dumper

    def run(self) -> None:
        while True:
            try:
                command = self._pipe.recv_bytes()
            except (EOFError, OSError):
                self._orphaned()
                return
            if command == DUMP:
                self._dump()
                continue
            if command == COLD:
                self._end(exitcode=0)
            self._stop()
            if command == SOFT:
                self._interrupt()

    def _dump(self) -> None:
        self._dumper.dump()
        with suppress(OSError):  # the supervisor is gone, which the next turn finds
            self._pipe.send_bytes(DUMP)

    def _orphaned(self) -> None:
        """Finish what runs while the node's lease lasts, which nobody renews; give back the rest.

        The process ends by itself when the lane is done; this thread is a daemon.
        """
        logger.error("the supervisor of this process is gone; finishing what runs, then ending")
        self._stop()
        self._sleep_until_before_end(_ORPHAN_SOFT)
        self._interrupt()
        self._sleep_until_before_end(_ORPHAN_COLD)
        self._end(exitcode=1)

    def _sleep_until_before_end(self, share: float) -> None:
        """Sleep until only `share` of the lease is left."""
        at = self._board.lease_until - self._lease_s * share
        while (left_s := at - time.monotonic()) > 0:
            time.sleep(min(left_s, _LONGEST_SLEEP_S))

    # What the lane or a plugin may raise must not keep the process alive.

    def _stop(self) -> None:
        try:
            self._lane.stop()
        except Exception:
            logger.exception("can't stop receiving in order")

    def _interrupt(self) -> None:
        try:
            self._lane.interrupt(ShutdownInterrupt)
        except Exception:
            logger.exception("can't interrupt what runs")

    def _end(self, *, exitcode: int) -> None:
        """Give back what runs, and end the process."""
        try:
            self._lane.give_up()
            self._board.set_ended()
        except Exception:
            logger.exception("can't give back what runs; the supervisor does")
        finally:
            os._exit(exitcode)
