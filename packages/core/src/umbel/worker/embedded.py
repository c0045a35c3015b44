"""A worker in threads of this process: for tests, small programs and notebooks."""

from __future__ import annotations

import logging
import threading
from collections.abc import Sequence
from contextlib import ExitStack
from types import TracebackType
from typing import TYPE_CHECKING, Self

from umbel.errors import ConfigError
from umbel.events import notify
from umbel.ids import expand_node_name, new_id
from umbel.worker.answers import Answers
from umbel.worker.commands import Commands
from umbel.worker.consumer import Consumer
from umbel.worker.identity import Identity
from umbel.worker.layout import DEFAULT_SLOTS
from umbel.worker.lease import Lease
from umbel.worker.limits import DeadlineWatch, ShutdownInterrupt, ThreadGuard
from umbel.worker.node import Node
from umbel.worker.pooled import PooledLane
from umbel.worker.requirements import check_capabilities, queues_of
from umbel.worker.solo import SoloLane
from umbel.worker.views import LaneView

if TYPE_CHECKING:
    from umbel.interfaces.pool import PoolSpec
    from umbel.worker.host import Host

logger = logging.getLogger("umbel.worker")

_STOP_S = 10.0
#: Seconds that interrupted tasks get to clean up.
_CLEAN_UP_S = 1.0


class EmbeddedWorker:
    """A worker as a context manager: consumes from entry to exit.

    Args:
        app: The app.
        pool: ``threads``, ``asyncio``, ``solo``, or another that runs in one process.
        concurrency: Slots.
        queues: Queues to consume; as for a worker where None.
        hostname: Node name.
        timeout_s: Seconds that running tasks get on exit before they are interrupted and given
            back.
    """

    def __init__(
        self,
        app: Host,
        *,
        pool: str = "threads",
        concurrency: int | None = None,
        queues: Sequence[str] | None = None,
        hostname: str = "embedded@%h",
        timeout_s: float = _STOP_S,
    ):
        spec = app.pool(pool)
        if spec.concurrency_is_processes:
            raise ConfigError(
                f"pool {pool!r} needs child processes, which an embedded worker has none of; "
                "use 'threads', 'asyncio' or 'solo'"
            )
        self._app, self._spec, self._timeout_s = app, spec, timeout_s
        self._slots = 1 if spec.factory is None else concurrency or DEFAULT_SLOTS
        self._queues = queues_of(app.conf, queues, ())
        self.hostname = expand_node_name(hostname)
        self._running: _Running | None = None

    def start(self) -> Self:
        """Begin to consume. Raises: ConfigError, BrokerError: it can't, or it does already."""
        if self._running is not None:
            raise ConfigError("this embedded worker runs already; make another one")
        self._app.import_tasks()
        if self._app.events.worker_starting:
            notify(self._app.events.worker_starting, self)
        self._running = _Running(self._app, self._spec, self._slots, self._queues, self.hostname)
        if self._app.events.worker_ready:
            notify(self._app.events.worker_ready, self)
        return self

    def stop(self) -> None:
        """Finish what runs, give back the rest, and end. Repeatable."""
        running, self._running = self._running, None
        if running is None:
            return
        events = self._app.events
        if events.worker_stopping:
            notify(events.worker_stopping, self, "warm")
        running.end(self._timeout_s)
        if events.worker_stopped:
            notify(events.worker_stopped, self)

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self,
        _kind: type[BaseException] | None,
        _error: BaseException | None,
        _traceback: TracebackType | None,
    ) -> None:
        self.stop()


class _Running:
    """The parts of an embedded worker from start to stop."""

    def __init__(self, app: Host, spec: PoolSpec, slots: int, queues: Sequence[str], hostname: str):
        identity = Identity(
            node=new_id(),
            consumer=f"embedded-{new_id()[-12:]}",
            hostname=hostname,
            lease_s=app.conf.worker_lease_s,
        )
        with ExitStack() as undo:
            self._broker = app.open_broker()  # the node's own
            undo.callback(self._broker.close)
            self._broker.check()
            check_capabilities(self._broker, 0)
            lease = Lease()
            self._consumer = consumer = Consumer(app, identity, queues, slots=slots, lease=lease)
            undo.callback(consumer.close)
            self._watch = DeadlineWatch()
            self._lane: SoloLane | PooledLane
            if spec.factory is None:
                self._lane = SoloLane(consumer, guard=ThreadGuard(self._watch))
            else:
                self._lane = PooledLane(consumer, spec.factory(slots))
            rates, coordinator = consumer.rates.table, consumer.coordinator
            commands = Commands(
                app,
                Answers(
                    app,
                    identity,
                    pool=spec.name,
                    queues=queues,
                    view=LaneView(self._lane, slots=slots),
                    rates=rates,
                    coordinator=coordinator,
                ),
                rates,
                coordinator=coordinator,
                note_revokes=consumer.revocations.changed,
                more={},
            )
            commands.read_rates()
            self._node = Node(
                identity,
                broker=self._broker,
                backend=consumer.backend,
                coordinator=consumer.coordinator,
                on_lease=lease.set_lease,
                on_control=commands.obey,
                clock=app.clock,
            )
            self._node.start()
            undo.pop_all()
        self._thread = threading.Thread(target=self._lane.run, name="umbel-worker", daemon=True)
        self._thread.start()

    def end(self, timeout_s: float) -> None:
        """Stop within about `timeout_s` seconds."""
        self._lane.stop()
        self._thread.join(timeout_s)
        if self._thread.is_alive():
            self._lane.interrupt(ShutdownInterrupt)
            self._thread.join(_CLEAN_UP_S)
        if self._thread.is_alive():
            logger.warning("tasks still run at the end of the embedded worker; given back")
            self._lane.give_up()
        self._node.stop()
        self._watch.stop()
        self._consumer.close()
        self._broker.close()
