"""For authors of plugins: the contracts of umbel as tests. For everybody: a pytest plugin.

The suites (`BrokerSuite`, `BackendSuite`, `CoordinatorSuite`, `SerializerSuite`) are loaded when
they are first asked for: every process of an app with this package installed imports it.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from umbel_testing.backend_suite import BackendSuite
    from umbel_testing.broker_suite import BrokerSuite
    from umbel_testing.clock import FakeClock
    from umbel_testing.coordinator_suite import CoordinatorSuite
    from umbel_testing.serializer_suite import SerializerSuite

__all__ = ["BackendSuite", "BrokerSuite", "CoordinatorSuite", "FakeClock", "SerializerSuite"]

_HOMES = {
    "BackendSuite": "umbel_testing.backend_suite",
    "BrokerSuite": "umbel_testing.broker_suite",
    "CoordinatorSuite": "umbel_testing.coordinator_suite",
    "FakeClock": "umbel_testing.clock",
    "SerializerSuite": "umbel_testing.serializer_suite",
}


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(home), name)
