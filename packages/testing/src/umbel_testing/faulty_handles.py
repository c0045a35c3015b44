"""Handles with faults: a broker, backend or coordinator whose calls go through `Faults`.

They wrap any implementation, and stand in an app for all handles that it opens.
"""

from __future__ import annotations

from abc import ABCMeta
from collections.abc import Iterator
from contextlib import contextmanager
from operator import attrgetter
from typing import TYPE_CHECKING, Any, Protocol, TypeVar, cast
from weakref import WeakKeyDictionary

from umbel.handles import Handles
from umbel.interfaces.backend import Backend
from umbel.interfaces.broker import Broker
from umbel.interfaces.coordinator import Coordinator
from umbel_testing.fault_effects import NO_STEPS, Call, steps_of
from umbel_testing.faults import Faults

if TYPE_CHECKING:
    from umbel import Umbel

T = TypeVar("T")


class Carrier(Protocol):
    """Who makes the calls of a faulty handle."""

    def carry_out(self, call: Call) -> Any:
        """Make `call`, or what becomes of it."""


def _wrapper(contract: type[T]) -> type[T]:
    """Make a class that fulfils `contract` by an inner handle, through a carrier."""

    def init(self: Any, inner: T, carrier: Carrier) -> None:
        self._inner, self._carrier = inner, carrier

    def plain(name: str) -> Any:
        def call(self: Any, *args: Any, **kwargs: Any) -> Any:
            return getattr(self._inner, name)(*args, **kwargs)

        return call

    def step(name: str) -> Any:
        def call(self: Any, *args: Any, **kwargs: Any) -> Any:
            return self._carrier.carry_out(Call(name, self._inner, args, kwargs))

        return call

    namespace: dict[str, Any] = {
        "__init__": init,
        "__doc__": f"A {contract.__name__} whose calls may fail; all else is the inner one's.",
        "__module__": __name__,
        # What is not of the contract: a broker's own methods, its bounds and options.
        "__getattr__": lambda self, name: getattr(self._inner, name),
    }
    namespace |= {name: step(name) for name in steps_of(contract)}
    namespace |= {name: plain(name) for name in NO_STEPS if hasattr(contract, name)}
    for name, value in vars(contract).items():
        if not name.startswith("_") and not callable(value):
            namespace[name] = property(attrgetter(f"_inner.{name}"))
    return cast("type[T]", ABCMeta(f"Faulty{contract.__name__}", (contract,), namespace))


FaultyBroker: Any = _wrapper(Broker)
FaultyBackend: Any = _wrapper(Backend)
FaultyCoordinator: Any = _wrapper(Coordinator)


def without_faults(handle: T) -> T:
    """Return what a handle wraps, so that a test can look without meeting its own faults."""
    while isinstance(handle, (FaultyBroker, FaultyBackend, FaultyCoordinator)):
        handle = handle._inner
    return handle


class FaultyHandles(Handles):
    """The handles of an app with faults."""

    def __init__(self, app: Umbel, faults: Faults) -> None:
        super().__init__(app.conf, app.plugins, app.clock, app)
        self._faults = faults

    def open_broker(self) -> Broker:
        """Return a new broker handle with faults."""
        return cast("Broker", FaultyBroker(super().open_broker(), self._faults.broker))

    def open_backend(self) -> Backend | None:
        """Return a new backend handle with faults, or None."""
        inner = super().open_backend()
        return inner and cast("Backend", FaultyBackend(inner, self._faults.backend))

    def open_coordinator(self) -> Coordinator | None:
        """Return a new coordinator handle with faults, or None."""
        inner = super().open_coordinator()
        return inner and cast("Coordinator", FaultyCoordinator(inner, self._faults.coordinator))


_INSTALLED: WeakKeyDictionary[Any, Faults] = WeakKeyDictionary()


@contextmanager
def faults_in(app: Umbel) -> Iterator[Faults]:
    """Give an app faults for the time of a block: all handles that it opens in it may fail.

    Handles that are open already stay as they are, but for the app's own, which are opened anew.
    Where the app has faults already, these are returned.
    """
    if app in _INSTALLED:
        yield _INSTALLED[app]
        return
    faults = _INSTALLED[app] = Faults(app.clock)
    before = app._handles
    app._handles = FaultyHandles(app, faults)
    before.close()
    try:
        yield faults
    finally:
        app._handles.close()
        app._handles = before
        del _INSTALLED[app]
