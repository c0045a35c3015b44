"""This process's open handles: broker, backend, coordinator.

Opened at their first use, one of each kind a process, and opened anew in a forked child, which
must not talk over its parent's connections.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, TypeVar

from umbel.errors import ConfigError
from umbel.interfaces.broker import Capability
from umbel.plugins import Kind, PluginManager
from umbel.routing import queue_bounds

if TYPE_CHECKING:
    from umbel.clock import Clock
    from umbel.interfaces.backend import Backend
    from umbel.interfaces.broker import Broker
    from umbel.interfaces.coordinator import Coordinator
    from umbel.settings import Settings

H = TypeVar("H")


class Handles:
    """Opens what an app's URLs name, and keeps what the app itself uses.

    Args:
        conf: The app's settings.
        plugins: Who offers brokers and backends.
        clock: Where to read the time.
        scope: What keeps the embedded stores in memory apart from those of other apps.
    """

    def __init__(self, conf: Settings, plugins: PluginManager, clock: Clock, scope: object) -> None:
        self._conf, self._plugins, self._clock, self._scope = conf, plugins, clock, scope
        # By process and kind. Changed by atomic dict calls alone: a lock could be held by
        # another thread at a fork, and would then be held for ever in the child.
        self._open: dict[tuple[int, Kind], Any] = {}

    @property
    def broker(self) -> Broker:
        """This process's broker handle."""
        found: Broker | None = self._open.get((os.getpid(), Kind.BROKER))
        return self._keep(Kind.BROKER, self.open_broker) if found is None else found

    @property
    def backend(self) -> Backend | None:
        """This process's backend handle; None where results are disabled."""
        found: Backend | None = self._open.get((os.getpid(), Kind.BACKEND))
        return self._keep(Kind.BACKEND, self.open_backend) if found is None else found

    @property
    def coordinator(self) -> Coordinator | None:
        """This process's coordinator handle; None where there is none."""
        found: Coordinator | None = self._open.get((os.getpid(), Kind.COORDINATOR))
        return self._keep(Kind.COORDINATOR, self.open_coordinator) if found is None else found

    def open_broker(self) -> Broker:
        """Return a new broker handle. Raises: UnknownPluginError, ConfigError."""
        conf = self._conf
        broker: Broker = self._new(Kind.BROKER, conf.broker_url, conf.broker_transport_options)
        bounds = queue_bounds(conf.task_queues)
        broker.configure(once_window_s=conf.task_once_window_s, bounds=bounds)
        if bounds and broker.capabilities.isdisjoint({Capability.BOUNDED, Capability.INSPECT}):
            broker.close()
            raise ConfigError(
                f"queue {next(iter(bounds))!r} has a max_length, which {type(broker).__name__} "
                f"can't keep to (it has neither of the capabilities 'bounded' and 'inspect'); "
                f"take it out of task_queues, or use another broker"
            )
        self._complete(broker)
        return broker

    def open_backend(self) -> Backend | None:
        """Return a new backend handle, or None. Raises: UnknownPluginError, ConfigError."""
        conf = self._conf
        if conf.result_backend is None:
            return None
        options = conf.result_backend_transport_options
        backend: Backend = self._new(Kind.BACKEND, conf.result_backend, options)
        return backend

    def open_coordinator(self) -> Coordinator | None:
        """Return a new coordinator handle, or None. Raises: UnknownPluginError, ConfigError."""
        found = self.coordinator_url()
        if found is None:
            return None
        coordinator: Coordinator = self._new(Kind.COORDINATOR, *found)
        return coordinator

    def coordinator_url(self) -> tuple[str, Mapping[str, Any]] | None:
        """Return the URL and options of the coordinator: its own setting's, else those of the
        backend or the broker, whichever offers one first; None where neither does.
        """
        conf = self._conf
        candidates = [
            (conf.result_backend, conf.result_backend_transport_options),
            (conf.broker_url, conf.broker_transport_options),
        ]
        if conf.coordinator_url is not None:
            shared = [options for url, options in candidates if url == conf.coordinator_url]
            return conf.coordinator_url, shared[0] if shared else {}
        for url, options in candidates:
            if url is not None and self._plugins.offers(Kind.COORDINATOR, scheme_of(url)):
                return url, options
        return None

    def _complete(self, broker: Broker) -> None:
        """Lend a broker that keeps no dead letters those of the coordinator.

        Not one that is UNIQUE: it would take what was buried for done.
        """
        if not broker.capabilities.isdisjoint({Capability.DEAD_LETTER, Capability.UNIQUE}):
            return
        coordinator = self.open_coordinator()
        if coordinator is None:
            return
        if Capability.SHARED in broker.capabilities and not coordinator.shared:
            coordinator.close()  # a dead letter would be gone with the process that buried it
            return
        from umbel.dead_letter_store import lend_dead_letters  # noqa: PLC0415 - seldom needed

        lend_dead_letters(broker, coordinator, self._clock)

    def close(self) -> None:
        """Close what this process has open; it is opened anew when needed again."""
        pid = os.getpid()
        for key in list(self._open):
            if key[0] == pid:
                handle = self._open.pop(key, None)
                if handle is not None:
                    handle.close()

    def _new(self, kind: Kind, url: str, options: Mapping[str, Any]) -> Any:
        factory = self._plugins.offer(kind, scheme_of(url))
        if getattr(factory, "takes_scope", False):
            options = {**options, "_scope": self._scope}
        return factory(url, options=options, clock=self._clock)

    def _keep(self, kind: Kind, opened: Callable[[], H]) -> H:
        handle = opened()
        if handle is None:
            return handle
        kept: H = self._open.setdefault((os.getpid(), kind), handle)
        if kept is not handle:  # another thread was quicker
            handle.close()  # type: ignore[attr-defined]
        return kept


def scheme_of(url: str) -> str:
    """Return the scheme of `url`, in lower case."""
    return url.partition("://")[0].lower()
