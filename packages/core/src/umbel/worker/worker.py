"""A worker: wires supervisor or foreground lane, node, logging and signals, and runs them."""

from __future__ import annotations

import logging
import random
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from umbel.errors import BrokerUnavailableError, ConfigError
from umbel.events import notify
from umbel.ids import expand_node_name, new_id
from umbel.interfaces.broker import Capability
from umbel.routing import Router
from umbel.worker.child import ChildSpec, make_lane
from umbel.worker.consumer import Consumer
from umbel.worker.foreground import Foreground
from umbel.worker.identity import Identity
from umbel.worker.layout import Layout, layout_of
from umbel.worker.lease import Lease
from umbel.worker.logs import DEFAULT_FORMAT, DEFAULT_TASK_FORMAT, LogOptions, set_up_logging
from umbel.worker.node import ControlMessage, Node
from umbel.worker.planning import Planner
from umbel.worker.settle import Settler
from umbel.worker.shutdown import Shutdown
from umbel.worker.stop_signals import StopSignals
from umbel.worker.supervisor import Supervisor
from umbel.worker.surroundings import current_folder, open_standard_files
from umbel.worker.titles import set_title

if TYPE_CHECKING:
    from umbel.interfaces.broker import Broker
    from umbel.settings import Settings
    from umbel.worker.host import Host

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
        task_events: Send task events.
        purge: Drop all that waits in the queues before consuming.
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
        task_events: bool = False,
        purge: bool = False,
        overrides: Mapping[str, Any] | None = None,
    ):
        self.app, self._app_path, self._purge = app, app_path, purge
        self._overrides = {
            **(overrides or {}),
            **_given(
                task_time_limit=time_limit,
                task_soft_time_limit=soft_time_limit,
                worker_send_task_events=task_events or None,
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
        with StopSignals() as signals:
            self.app.import_tasks()
            set_up_logging(self.log)  # again: the app may have set up its own
            events = self.app.events
            if events.worker_starting:
                notify(events.worker_starting, self)
            broker = self.app.open_broker()
            try:
                self._prepare(broker)
                run = self._run_children if self.layout.processes else self._run_here
                return run(broker, signals)
            finally:
                broker.close()
                if events.worker_stopped:
                    notify(events.worker_stopped, self)

    def _prepare(self, broker: Broker) -> None:
        """Check what can be checked before the start."""
        wait_for_broker(broker, self.app.conf, time.sleep)
        check_capabilities(broker, self.layout.processes)
        if self._purge:
            dropped = sum(broker.purge(queue) for queue in self.queues)
            logger.warning("purged %d messages from %s", dropped, ", ".join(self.queues))

    def _shutdown(self) -> Shutdown:
        conf = self.app.conf
        return Shutdown(
            warm_s=conf.worker_shutdown_timeout, soft_s=conf.worker_soft_shutdown_timeout
        )

    # -- with children ------------------------------------------------------------------------

    def _run_children(self, broker: Broker, signals: StopSignals) -> int:
        app = self.app
        if self._app_path is None:
            raise ConfigError(
                f"pool {self.pool!r} runs tasks in child processes, which import the app by its "
                "path; start it with umbel -A module:app worker, or use pool 'threads' in an "
                "embedded worker"
            )
        backend, coordinator = app.open_backend(), app.open_coordinator()
        planner = Planner(app, self.hostname)
        supervisor = Supervisor(
            app,
            self._child_spec(self._app_path),
            self.layout.processes,
            broker=broker,
            settler=Settler(app, broker, backend, planner=planner),
            shutdown=self._shutdown(),
            alive_timeout_s=app.conf.worker_proc_alive_timeout,
            preloads=app.conf.worker_preload_app,
            worker=self,
        )

        def on_control(message: ControlMessage) -> None:
            supervisor.note_revokes()
            ids = _to_terminate(message)
            if ids:
                supervisor.call(lambda: supervisor.terminate(ids))

        node = Node(
            self.identity,
            broker=broker,
            backend=backend,
            coordinator=coordinator,
            on_lease=supervisor.set_lease,
            on_control=on_control,
            on_heartbeat=self._tell_heartbeat,
        )
        try:
            node.start()
            signals.listen(lambda phase: supervisor.call(lambda: supervisor.request(phase)))
            return supervisor.run()
        finally:
            node.stop()
            for handle in (backend, coordinator):
                if handle is not None:
                    handle.close()

    def _child_spec(self, app_path: str) -> ChildSpec:
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
        )

    # -- in this process ----------------------------------------------------------------------

    def _run_here(self, broker: Broker, signals: StopSignals) -> int:
        app, lease = self.app, Lease()
        backend, coordinator = app.open_backend(), app.open_coordinator()
        consumer = Consumer(
            app, self.identity, self.queues, prefetch_multiplier=self._prefetch, lease=lease
        )
        lane = make_lane(app, consumer, self._child_spec(""), None)
        node = Node(
            self.identity,
            broker=broker,
            backend=backend,
            coordinator=coordinator,
            on_lease=lease.set_lease,
            on_control=lambda _message: consumer.revocations.changed(),
            on_heartbeat=self._tell_heartbeat,
        )
        foreground = Foreground(lane, node, self._shutdown(), on_phase=self._tell_stopping)
        try:
            node.start()
            foreground.start()
            signals.listen_in_thread(foreground.request)
            logger.info("%s ready", self.hostname)
            if app.events.worker_ready:
                notify(app.events.worker_ready, self)
            lane.run()
            foreground.finished()
        finally:
            node.stop()
            consumer.close()
            for handle in (backend, coordinator):
                if handle is not None:
                    handle.close()
        return 0

    def _tell_heartbeat(self) -> None:
        if self.app.events.worker_heartbeat:
            notify(self.app.events.worker_heartbeat, self)

    def _tell_stopping(self, how: str) -> None:
        if self.app.events.worker_stopping:
            notify(self.app.events.worker_stopping, self, how)


def check_capabilities(broker: Broker, processes: int) -> None:
    """Raise ConfigError where a worker can't do its work over this broker."""
    name, able = type(broker).__name__, broker.capabilities
    needed = {
        Capability.DELAY: "retries and eta wait in the broker",
        Capability.DEAD_LETTER: "what can't be run must be kept",
    }
    if processes:
        needed[Capability.SHARED] = "child processes consume for themselves; use an embedded worker"
    missing = [f"{each} ({why})" for each, why in needed.items() if each not in able]
    if missing:
        raise ConfigError(f"{name} lacks what this worker needs: {', '.join(missing)}")


def wait_for_broker(broker: Broker, conf: Any, sleep: Callable[[float], object]) -> None:
    """Return once the broker can be used.

    Raises: BrokerError: it can't, and trying again won't help or isn't wanted (settings
        ``broker_connection_retry_on_startup``, ``broker_connection_max_retries``).
    """
    pause_s, tries = 0.2, 0
    while True:
        try:
            broker.check()
        except BrokerUnavailableError as exc:
            tries += 1
            most = conf.broker_connection_max_retries
            if not conf.broker_connection_retry_on_startup or (most and tries >= most):
                raise
            if tries == 1:
                logger.error("the broker can't be reached yet, trying until it can: %s", exc)
            sleep(pause_s * (0.5 + random.random() / 2))
            pause_s = min(pause_s * 2, 2.0)
        else:
            return


def queues_of(conf: Settings, queues: Sequence[str] | None, exclude: Sequence[str]) -> list[str]:
    """Return the queues to consume: those given, else declared, else the default one.

    Raises: ConfigError: none is left, or one isn't declared where that is needed.
    """
    left = list(Router(conf).select(queues or (), exclude))
    if not left:
        raise ConfigError(f"no queue is left to consume once {', '.join(exclude)} are excluded")
    return left


def _to_terminate(message: ControlMessage) -> list[str]:
    if message.method != "revoke" or not message.arguments.get("terminate"):
        return []
    ids = message.arguments.get("task_id")
    if isinstance(ids, str):
        return [ids]
    return [str(each) for each in ids] if isinstance(ids, list) else []


def _given(**settings: Any) -> dict[str, Any]:
    return {name: value for name, value in settings.items() if value is not None}
