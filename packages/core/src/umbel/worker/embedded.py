"""A worker in threads of this process: for tests, small programs and notebooks."""

from __future__ import annotations

import logging
import threading
from collections.abc import Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Self

from umbel.errors import ConfigError
from umbel.ids import expand_node_name, new_id
from umbel.worker.consumer import Consumer, Identity
from umbel.worker.layout import DEFAULT_SLOTS
from umbel.worker.limits import DeadlineWatch, ShutdownInterrupt, ThreadGuard
from umbel.worker.node import Node
from umbel.worker.pooled import PooledLane
from umbel.worker.solo import SoloLane
from umbel.worker.worker import check_capabilities, queues_of

if TYPE_CHECKING:
    from umbel.worker.host import Host

logger = logging.getLogger("umbel.worker")

_STOP_S = 10.0


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
        self._identity = Identity(
            node=new_id(),
            consumer=f"embedded-{new_id()[:8]}",
            hostname=self.hostname,
            lease_s=app.conf.worker_lease_s,
        )
        self._thread: threading.Thread | None = None

    def start(self) -> Self:
        """Begin to consume. Raises: ConfigError, BrokerError: it can't."""
        app = self._app
        app.import_tasks()
        self._consumer = consumer = Consumer(app, self._identity, self._queues, slots=self._slots)
        consumer.broker.check()
        check_capabilities(consumer.broker, 0)
        self._lane: SoloLane | PooledLane
        if self._spec.factory is None:
            self._lane = SoloLane(consumer, guard=ThreadGuard(DeadlineWatch()))
        else:
            self._lane = PooledLane(consumer, self._spec.factory(self._slots))
        self._node = Node(
            self._identity,
            broker=consumer.broker,
            backend=consumer.backend,
            coordinator=consumer.coordinator,
            on_lease=lambda _until: None,
            on_control=lambda _message: consumer.revocations.changed(),
        )
        self._node.start()
        self._thread = threading.Thread(target=self._lane.run, name="umbel-worker", daemon=True)
        self._thread.start()
        return self

    def stop(self) -> None:
        """Finish what runs, give back the rest, and end. Repeatable."""
        thread, self._thread = self._thread, None
        if thread is None:
            return
        self._lane.stop()
        thread.join(self._timeout_s)
        if thread.is_alive():
            self._lane.interrupt(ShutdownInterrupt)
            thread.join(1.0)
        if thread.is_alive():
            logger.warning("tasks still run at the end of the embedded worker; given back")
            self._lane.give_up()
        self._node.stop()
        self._consumer.close()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self,
        _kind: type[BaseException] | None,
        _error: BaseException | None,
        _traceback: TracebackType | None,
    ) -> None:
        self.stop()
