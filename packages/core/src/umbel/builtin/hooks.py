"""What core itself offers, by the hooks that any plugin uses. Imports what is asked for only."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from umbel.clock import Clock
from umbel.hookspecs import hookimpl
from umbel.interfaces.backend import Backend, BackendFactory
from umbel.interfaces.broker import Broker, BrokerFactory
from umbel.interfaces.coordinator import Coordinator, CoordinatorFactory
from umbel.interfaces.pool import Pool, PoolSpec
from umbel.interfaces.serializer import Serializer


@hookimpl
def umbel_brokers() -> Mapping[str, BrokerFactory]:
    """Offer the embedded brokers."""
    return {"memory": _memory_broker, "sqlite": _sqlite_broker}


@hookimpl
def umbel_backends() -> Mapping[str, BackendFactory]:
    """Offer the embedded backends."""
    return {"memory": _memory_backend, "sqlite": _sqlite_backend}


@hookimpl
def umbel_coordinators() -> Mapping[str, CoordinatorFactory]:
    """Offer the embedded coordinators."""
    return {"memory": _memory_coordinator, "sqlite": _sqlite_coordinator}


@hookimpl
def umbel_serializers() -> Sequence[Serializer]:
    """Offer JSON."""
    from umbel.builtin.json_serializer import JsonSerializer  # noqa: PLC0415 - not in every process

    return [JsonSerializer()]


@hookimpl
def umbel_pools() -> Sequence[PoolSpec]:
    """Offer the pools of core."""
    return [
        PoolSpec(
            name="solo",
            help="One task at a time in the foreground process, without children.",
            in_children=False,
        ),
        PoolSpec(
            name="process",
            help="Processes that each run one task at a time.",
            concurrency_is_processes=True,
        ),
        PoolSpec(
            name="threads",
            help="Threads; several processes of them with --processes.",
            factory=_thread_pool,
        ),
        PoolSpec(
            name="asyncio",
            help="An event loop for async tasks, and a thread for each other one that runs.",
            factory=_asyncio_pool,
        ),
    ]


# Libraries and modules are imported where something of them is first needed: every process of
# every user imports this one.


def _memory_broker(url: str, *, options: Mapping[str, Any], clock: Clock) -> Broker:
    from umbel.builtin.memory.broker import MemoryBroker  # noqa: PLC0415 - see above

    return MemoryBroker.from_url(url, options=options, clock=clock)


def _memory_backend(url: str, *, options: Mapping[str, Any], clock: Clock) -> Backend:
    from umbel.builtin.memory.backend import MemoryBackend  # noqa: PLC0415 - see above

    return MemoryBackend.from_url(url, options=options, clock=clock)


def _memory_coordinator(url: str, *, options: Mapping[str, Any], clock: Clock) -> Coordinator:
    from umbel.builtin.memory.coordinator import MemoryCoordinator  # noqa: PLC0415 - see above

    return MemoryCoordinator.from_url(url, options=options, clock=clock)


def _sqlite_broker(url: str, *, options: Mapping[str, Any], clock: Clock) -> Broker:
    from umbel.builtin.sqlite.broker import SqliteBroker  # noqa: PLC0415 - see above

    return SqliteBroker(url, options=options, clock=clock)


def _sqlite_backend(url: str, *, options: Mapping[str, Any], clock: Clock) -> Backend:
    from umbel.builtin.sqlite.backend import SqliteBackend  # noqa: PLC0415 - see above

    return SqliteBackend(url, options=options, clock=clock)


def _sqlite_coordinator(url: str, *, options: Mapping[str, Any], clock: Clock) -> Coordinator:
    from umbel.builtin.sqlite.coordinator import SqliteCoordinator  # noqa: PLC0415 - see above

    return SqliteCoordinator(url, options=options, clock=clock)


def _thread_pool(slots: int) -> Pool:
    from umbel.builtin.thread_pool import ThreadPool  # noqa: PLC0415 - see above

    return ThreadPool(slots)


def _asyncio_pool(slots: int) -> Pool:
    from umbel.builtin.asyncio_pool import AsyncioPool  # noqa: PLC0415 - see above

    return AsyncioPool(slots)


# Two apps in one process have no memory in common: the app hands itself over as the scope.
for _factory in (_memory_broker, _memory_backend, _memory_coordinator):
    vars(_factory)["takes_scope"] = True
