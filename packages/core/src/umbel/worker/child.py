"""A child process of a worker: consumes for itself until its supervisor says stop, or is gone."""

from __future__ import annotations

import logging
import os
import signal
import sys
import threading
import time
from multiprocessing.connection import Connection
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from umbel.events import notify
from umbel.worker.app_loading import load_app
from umbel.worker.board import Board
from umbel.worker.consumer import Consumer, Identity
from umbel.worker.limits import MainThreadGuard, ShutdownInterrupt
from umbel.worker.logs import LogOptions, set_up_logging
from umbel.worker.pooled import PooledLane
from umbel.worker.solo import SoloLane
from umbel.worker.titles import set_title

if TYPE_CHECKING:
    from umbel.worker.host import Host

logger = logging.getLogger("umbel.worker")

#: Commands that the supervisor writes into the pipe.
WARM, SOFT, COLD = b"warm", b"soft", b"cold"
#: Shares of the lease, from its end, in which an orphan interrupts its tasks, and gives them back.
_ORPHAN_SOFT, _ORPHAN_COLD = 0.25, 0.1


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
    board: str
    log: LogOptions
    sys_path: list[str]
    cwd: str
    burst: bool = False
    prefetch_multiplier: int | None = None
    max_tasks: int | None = None


def child_main(spec: ChildSpec, pipe: Connection) -> None:
    """Run a child to its end. The entry point of the process."""
    _ignore_signals()
    set_title(f"umbel-child-{spec.index}")
    os.chdir(spec.cwd)
    sys.path[:] = spec.sys_path
    set_up_logging(spec.log)
    host = load_app(spec.app_path, spec.overrides)
    host.import_tasks()
    board = Board.attach(Path(spec.board))
    board.set_alive()
    consumer = Consumer(
        host,
        spec.identity,
        spec.queues,
        slots=spec.slots,
        prefetch_multiplier=spec.prefetch_multiplier,
        board=board,
        on_joined=board.set_ready,
    )
    lane = make_lane(host, consumer, spec, board)
    monitor = _Monitor(pipe, lane, board, spec.identity.lease_s)
    monitor.start()
    if host.events.process_started:
        notify(host.events.process_started, spec.index)
    try:
        lane.run()
    finally:
        if host.events.process_stopped:
            notify(host.events.process_stopped, spec.index, None)
        consumer.close()


def make_lane(
    host: Host, consumer: Consumer, spec: ChildSpec, board: Board | None
) -> SoloLane | PooledLane:
    """Return what runs tasks in a process of the pool that `spec` names."""
    factory = host.pool(spec.pool).factory
    if factory is None:
        return SoloLane(
            consumer,
            guard=MainThreadGuard(),
            board=board,
            burst=spec.burst,
            max_tasks=spec.max_tasks,
        )
    return PooledLane(
        consumer, factory(spec.slots), board=board, burst=spec.burst, max_tasks=spec.max_tasks
    )


def _ignore_signals() -> None:
    """Leave signals to the supervisor: Ctrl-C and service managers send them to all of us."""
    for name in ("SIGINT", "SIGTERM", "SIGQUIT", "SIGHUP", "SIGBREAK"):
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), signal.SIG_IGN)


class _Monitor(threading.Thread):
    """Listens to the supervisor; its silence for good means that it is gone."""

    def __init__(self, pipe: Connection, lane: SoloLane | PooledLane, board: Board, lease_s: float):
        super().__init__(name="umbel-monitor", daemon=True)
        self._pipe, self._lane, self._board, self._lease_s = pipe, lane, board, lease_s

    def run(self) -> None:
        while True:
            try:
                command = self._pipe.recv_bytes()
            except (EOFError, OSError):
                self._orphaned()
                return
            if command == WARM:
                self._lane.stop()
            elif command == SOFT:
                self._lane.stop()
                self._lane.interrupt(ShutdownInterrupt)
            elif command == COLD:
                self._lane.give_up()
                os._exit(0)

    def _orphaned(self) -> None:
        """Finish what runs while the node's lease lasts, which nobody renews; give back the rest.

        The process ends by itself when the lane is done; this thread is a daemon.
        """
        logger.error("the supervisor of this process is gone; finishing what runs, then ending")
        self._lane.stop()
        self._sleep_until(self._board.lease_until - self._lease_s * _ORPHAN_SOFT)
        self._lane.interrupt(ShutdownInterrupt)
        self._sleep_until(self._board.lease_until - self._lease_s * _ORPHAN_COLD)
        self._lane.give_up()
        os._exit(1)

    def _sleep_until(self, at: float) -> None:
        time.sleep(max(0.0, at - time.monotonic()))
