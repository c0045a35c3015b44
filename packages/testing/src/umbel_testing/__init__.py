"""For authors of plugins: the contracts of umbel as tests. For everybody: a pytest plugin.

The suites (`BrokerSuite`, `BackendSuite`, `CoordinatorSuite`, `SerializerSuite`, `PoolSuite`) are
loaded when they are first asked for: every process of an app with this package installed imports
it.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from umbel_testing.assertions import assert_enqueued, refute_enqueued
    from umbel_testing.backend_suite import BackendSuite
    from umbel_testing.broker_suite import BrokerSuite
    from umbel_testing.clock import FakeClock
    from umbel_testing.coordinator_suite import CoordinatorSuite
    from umbel_testing.draining import drain, drain_on_advance
    from umbel_testing.enqueued_calls import Enqueued, enqueued
    from umbel_testing.fault_effects import Crash
    from umbel_testing.faults import Faults
    from umbel_testing.faulty_handles import faults_in
    from umbel_testing.pool_suite import PoolSuite
    from umbel_testing.serializer_suite import SerializerSuite
    from umbel_testing.stepping import TaskRun
    from umbel_testing.task_queue import TaskQueue

__all__ = [
    "BackendSuite",
    "BrokerSuite",
    "CoordinatorSuite",
    "Crash",
    "Enqueued",
    "FakeClock",
    "Faults",
    "PoolSuite",
    "SerializerSuite",
    "TaskQueue",
    "TaskRun",
    "assert_enqueued",
    "drain",
    "drain_on_advance",
    "enqueued",
    "faults_in",
    "refute_enqueued",
]

_HOMES = {
    "BackendSuite": "umbel_testing.backend_suite",
    "BrokerSuite": "umbel_testing.broker_suite",
    "CoordinatorSuite": "umbel_testing.coordinator_suite",
    "Crash": "umbel_testing.fault_effects",
    "Enqueued": "umbel_testing.enqueued_calls",
    "FakeClock": "umbel_testing.clock",
    "Faults": "umbel_testing.faults",
    "PoolSuite": "umbel_testing.pool_suite",
    "SerializerSuite": "umbel_testing.serializer_suite",
    "TaskQueue": "umbel_testing.task_queue",
    "TaskRun": "umbel_testing.stepping",
    "assert_enqueued": "umbel_testing.assertions",
    "drain": "umbel_testing.draining",
    "drain_on_advance": "umbel_testing.draining",
    "enqueued": "umbel_testing.enqueued_calls",
    "faults_in": "umbel_testing.faulty_handles",
    "refute_enqueued": "umbel_testing.assertions",
}


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(home), name)
