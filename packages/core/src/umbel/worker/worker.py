"""A worker: wires supervisor or foreground lane, node, logging and signals, and runs them."""

from __future__ import annotations

import logging
import os
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from umbel.errors import ConfigError
from umbel.events import notify
from umbel.ids import expand_node_name, new_id
from umbel.worker.answers import Answers
from umbel.worker.child import ChildSpec, make_lane
from umbel.worker.commands import Commands
from umbel.worker.consumer import Consumer
from umbel.worker.dumps import Dumper, NodeDumps
from umbel.worker.ending import Ending
from umbel.worker.foreground import Foreground
from umbel.worker.identity import Identity
from umbel.worker.layout import Layout, layout_of
from umbel.worker.lease import Lease
from umbel.worker.logs import DEFAULT_FORMAT, DEFAULT_TASK_FORMAT, LogOptions, set_up_logging
from umbel.worker.memory import KIB
from umbel.worker.node import Node
from umbel.worker.planning import Planner
from umbel.worker.pool_commands import pool_commands
from umbel.worker.rate_table import RateTable
from umbel.worker.reloading import Reloader, Restart
from umbel.worker.requirements import check_capabilities, queues_of, wait_for_broker
from umbel.worker.scaling import Bounds
from umbel.worker.settle import Settler
from umbel.worker.shutdown import Phase, Shutdown
from umbel.worker.starting import make_starter
from umbel.worker.stop_signals import Listen, Request, StopSignals
from umbel.worker.supervisor import Supervisor
from umbel.worker.surroundings import current_folder, has_terminal, open_standard_files
from umbel.worker.titles import set_title
from umbel.worker.views import ChildrenView, LaneView, View
from umbel.worker.watching import Watcher

if TYPE_CHECKING:
    from umbel.interfaces.backend import Backend
    from umbel.interfaces.broker import Broker
    from umbel.interfaces.coordinator import Coordinator
    from umbel.worker.host import Host
    from umbel.worker.processes import Starter

logger = logging.getLogger("umbel.worker")

_DEFAULT_POOL = "process"


class Worker:
    """A worker node of an app.

    Args:
        app: The app.
        app_path: ``module:attribute`` of the app, by which child processes load it. Needed by
            all pools but ``solo``.
        pool: Name of a pool; ``worker_pool`` or ``process`` where None.
        concurrency: Processes or slots, as the pool counts; ``worker_concurrency`` where None.
        processes: Child processes, for pools that have many slots in each.
        queues: Queues to consume; those of ``task_queues``, or the default one, where None.
        exclude_queues: Queues not to consume.
        hostname: Node name; ``%h`` and ``%n`` are filled in.
        loglevel: Level of the log ``umbel``; None leaves logging alone.
        logfile: Where to log; None: standard error.
        burst: End when the queues are empty.
        time_limit: Hard limit of tasks that have none of their own, seconds.
        soft_time_limit: Soft limit of such tasks, seconds.
        prefetch_multiplier: Cap of messages held per slot; None: adapts.
        max_tasks_per_child: Replace a child after so many tasks.
        max_memory_per_child: Replace a child that has more memory after a task, kilobytes.
        autoscale: ``MAX,MIN``: the number of processes follows the load between these.
        task_events: Send task events.
        purge: Drop all that waits in the queues before consuming.
        restart: How this process is started again, where it is nothing but a worker: HUP then
            has it execute its own command line again, to run new code. None: HUP stops it.
        reload: Do so whenever a file of the app changes.
        overrides: Settings over the app's own, for the children too.
    """

    def __init__(
        self,
        app: Host,
        *,
        app_path: str | None = None,
        pool: str | None = None,
        concurrency: int | None = None,
        processes: int | None = None,
        queues: Sequence[str] | None = None,
        exclude_queues: Sequence[str] = (),
        hostname: str | None = None,
        loglevel: str | int | None = "WARNING",
        logfile: str | None = None,
        burst: bool = False,
        time_limit: float | None = None,
        soft_time_limit: float | None = None,
        prefetch_multiplier: int | None = None,
        max_tasks_per_child: int | None = None,
        max_memory_per_child: int | None = None,
        autoscale: str | None = None,
        task_events: bool = False,
        purge: bool = False,
        restart: Restart | None = None,
        reload: bool = False,
        overrides: Mapping[str, Any] | None = None,
    ):
        if reload and restart is None:
            raise ConfigError("reload=True needs restart=: how the process is started again")
        self.app, self._app_path, self._purge = app, app_path, purge
        self._restart, self._watches = restart, reload
        self._reloader: Reloader | None = None
        self._ending = Ending()
        self._overrides = {
            **(overrides or {}),
            **_given(
                task_time_limit=time_limit,
                task_soft_time_limit=soft_time_limit,
                worker_send_task_events=task_events or None,
                worker_max_memory_per_child=max_memory_per_child,
                worker_autoscale=autoscale,
            ),
        }
        if self._overrides:
            app.conf.update(self._overrides)
        conf = app.conf
        self.pool = pool or conf.worker_pool or _DEFAULT_POOL
        self.pool_spec = app.pool(self.pool)
        self.layout: Layout = layout_of(
            self.pool_spec,
            concurrency=concurrency,
            processes=processes,
            conf=conf,
        )
        if autoscale and not self.layout.processes:
            raise ConfigError(
                f"pool {self.pool!r} has no processes whose number could follow a load"
            )
        self.queues = queues_of(conf, queues, exclude_queues)
        self.hostname = expand_node_name(hostname or "worker@%h")
        self.burst = burst
        self._prefetch = prefetch_multiplier or conf.worker_prefetch_multiplier
        self._max_tasks = max_tasks_per_child or conf.worker_max_tasks_per_child
        self.log = LogOptions(
            level=loglevel.upper() if isinstance(loglevel, str) else loglevel,
            file=logfile,
            format=conf.worker_log_format or DEFAULT_FORMAT,
            task_format=conf.worker_task_log_format or DEFAULT_TASK_FORMAT,
            hijack_root=conf.worker_hijack_root_logger,
        )
        self.identity = Identity(
            node=new_id(),
            consumer=f"foreground-{new_id()[-12:]}",
            hostname=self.hostname,
            lease_s=conf.worker_lease_s,
        )

    def run(self) -> int:
        """Work until told to stop by a signal, or to the end of a burst. Main thread only.

        Returns: The exit code: 0 in order, 1 where children could not be started.
        Raises: ConfigError, BrokerError, BackendError: it can't start; the text says why.
        """
        open_standard_files()
        set_up_logging(self.log)
        set_title("umbel-worker")
        with StopSignals(owns_process=self._restart is not None) as signals:
            self.app.import_tasks()
            set_up_logging(self.log)  # again: the app may have set up its own
            starter = self._make_starter()
            events = self.app.events
            if events.worker_starting:
                notify(events.worker_starting, self)
            broker = self.app.open_broker()
            try:
                self._prepare(broker)
                if self.layout.processes:
                    exitcode = self._run_children(broker, signals, starter)
                else:
                    exitcode = self._run_here(broker, signals)
            finally:
                if starter is not None:
                    starter.close()
                self._ending.take(broker.close)
                if events.worker_stopped:
                    notify(events.worker_stopped, self)
            if self._reloader is not None:
                self._reloader.finish()
            if self._ending.was_cut_short and self._restart is not None:
                logging.shutdown()
                os._exit(exitcode)  # the program's own end would wait for what doesn't answer
            return exitcode

    def _listen(self, listen: Listen, request: Request, dump: Callable[[], object]) -> None:
        """Heed signals from now on, and changes of files."""
        restart, reload = self._restart, None
        if restart is not None:
            self._reloader = Reloader(restart, lambda: request(Phase.WARM))
            self._reloader.start()
            if self._watches:
                Watcher(self._reloader.request, since=restart.begun_at).start()
            if not has_terminal():
                reload = self._reloader.request

        def ask(phase: Phase | None) -> None:
            if self._reloader is not None:
                self._reloader.cancel()
            request(phase)

        listen(ask, reload=reload, dump=dump)

    def _prepare(self, broker: Broker) -> None:
        """Check what can be checked before the start."""
        wait_for_broker(broker, self.app.conf, time.sleep)
        coordinator = self.app.open_coordinator()
        try:
            check_capabilities(broker, self.layout.processes, coordinator)
        finally:
            if coordinator is not None:
                coordinator.close()
        if self._purge:
            dropped = sum(broker.purge(queue) for queue in self.queues)
            logger.warning("purged %d messages from %s", dropped, ", ".join(self.queues))

    def _shutdown(self) -> Shutdown:
        conf = self.app.conf
        return Shutdown(
            warm_s=conf.worker_shutdown_timeout, soft_s=conf.worker_soft_shutdown_timeout
        )

    # -- with children ------------------------------------------------------------------------

    def _make_starter(self) -> Starter | None:
        """Return what starts the children; None: there are none, or can't be any."""
        if not self.layout.processes or self._app_path is None:
            return None
        return make_starter(self.app, self._app_path, owns_process=self._restart is not None)

    def _run_children(self, broker: Broker, signals: StopSignals, starter: Starter | None) -> int:
        app = self.app
        if self._app_path is None or starter is None:
            raise ConfigError(
                f"pool {self.pool!r} runs tasks in child processes, which import the app by its "
                "path; start it with umbel -A module:app worker, or use pool 'threads' in an "
                "embedded worker"
            )
        backend, coordinator = app.open_backend(), app.open_coordinator()
        planner = Planner(app, self.hostname)
        rates = RateTable.create()
        supervisor = Supervisor(
            app,
            self._child_spec(self._app_path, rates),
            self.layout.processes,
            broker=broker,
            coordinator=coordinator,
            bounds=Bounds.of(app.conf),
            settler=Settler(app, broker, backend, planner=planner),
            shutdown=self._shutdown(),
            alive_timeout_s=app.conf.worker_proc_alive_timeout,
            starter=starter,
            worker=self,
        )

        commands = Commands(
            app,
            self._answers(
                ChildrenView(supervisor.children, broker, slots=self.layout.slots),
                rates,
                coordinator,
            ),
            rates,
            coordinator=coordinator,
            note_revokes=supervisor.note_revokes,
            terminate=supervisor.terminate,
            more=pool_commands(supervisor),
        )
        node = Node(
            self.identity,
            broker=broker,
            backend=backend,
            coordinator=coordinator,
            on_lease=supervisor.set_lease,
            on_control=commands.obey,
            on_heartbeat=self._tell_heartbeat,
            clock=self.app.clock,
        )
        dumps = NodeDumps(Dumper(self.hostname, self.log.file), lambda: list(supervisor.children))
        try:
            commands.read_rates()
            node.start()
            dumps.start()
            self._listen(
                signals.listen,
                lambda phase: supervisor.call(lambda: supervisor.request(phase)),
                dumps.request,
            )
            return supervisor.run()
        finally:
            self._ending.take(node.stop, *_closing(backend, coordinator))
            rates.close()

    def _answers(self, view: View, rates: RateTable, coordinator: Coordinator | None) -> Answers:
        return Answers(
            self.app,
            self.identity,
            pool=self.pool,
            queues=self.queues,
            view=view,
            rates=rates,
            coordinator=coordinator,
        )

    def _child_spec(self, app_path: str, rates: RateTable | None = None) -> ChildSpec:
        return ChildSpec(
            index=0,
            identity=self.identity,
            app_path=app_path,
            overrides=dict(self._overrides),
            pool=self.pool,
            slots=self.layout.slots,
            queues=self.queues,
            log=self.log,
            sys_path=list(sys.path),
            cwd=current_folder(),
            burst=self.burst,
            prefetch_multiplier=self._prefetch,
            max_tasks=self._max_tasks if self.layout.processes else None,
            max_memory_bytes=self._max_memory_bytes(),
            rates=rates,
        )

    def _max_memory_bytes(self) -> int | None:
        most = self.app.conf.worker_max_memory_per_child
        return most * KIB if most is not None and self.layout.processes else None

    # -- in this process ----------------------------------------------------------------------

    def _run_here(self, broker: Broker, signals: StopSignals) -> int:
        app, lease = self.app, Lease()
        backend, coordinator = app.open_backend(), app.open_coordinator()
        consumer = Consumer(
            app, self.identity, self.queues, prefetch_multiplier=self._prefetch, lease=lease
        )
        lane = make_lane(app, consumer, self._child_spec(""), None)
        rates = consumer.rates.table
        commands = Commands(
            app,
            self._answers(LaneView(lane, slots=self.layout.slots), rates, coordinator),
            rates,
            coordinator=coordinator,
            note_revokes=consumer.revocations.changed,
            more={"shutdown": lambda _: foreground.stop_when_done()},
        )
        node = Node(
            self.identity,
            broker=broker,
            backend=backend,
            coordinator=coordinator,
            on_lease=lease.set_lease,
            on_control=commands.obey,
            on_heartbeat=self._tell_heartbeat,
            clock=self.app.clock,
        )
        foreground = Foreground(lane, node, self._shutdown(), on_phase=self._tell_stopping)
        try:
            commands.read_rates()
            node.start()
            foreground.start()
            dumper = Dumper(self.hostname, self.log.file, lane.runs)
            self._listen(signals.listen_in_thread, foreground.request, dumper.dump)
            logger.info("%s ready", self.hostname)
            if app.events.worker_ready:
                notify(app.events.worker_ready, self)
            lane.run()
            foreground.finished()
        finally:
            self._ending.take(node.stop, consumer.close, *_closing(backend, coordinator))
        return 0

    def _tell_heartbeat(self) -> None:
        if self.app.events.worker_heartbeat:
            notify(self.app.events.worker_heartbeat, self)

    def _tell_stopping(self, how: str) -> None:
        if self.app.events.worker_stopping:
            notify(self.app.events.worker_stopping, self, how)


def _closing(*handles: Backend | Coordinator | None) -> list[Callable[[], None]]:
    return [handle.close for handle in handles if handle is not None]


def _given(**settings: Any) -> dict[str, Any]:
    return {name: value for name, value in settings.items() if value is not None}
