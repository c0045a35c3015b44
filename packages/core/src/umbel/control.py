"""Orders to a fleet of workers, sent from anywhere: revoke tasks, purge queues.

What must not be forgotten is kept with the coordinator; what should be heard at once is also
published there.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, Protocol

import msgspec

from umbel.errors import ConfigError, InvalidTaskError
from umbel.routing import Router

if TYPE_CHECKING:
    from umbel.interfaces.broker import Broker
    from umbel.interfaces.coordinator import Coordinator
    from umbel.settings import Settings

#: Where orders are published; workers listen to it.
CHANNEL = "control"
#: Keys of revoked tasks begin with this; the value says why.
REVOKED_PREFIX = "revoked/"
#: Seconds that a revoke is remembered, unless told otherwise.
REVOKED_TTL_S = 7 * 86400.0


class Commander(Protocol):
    """What orders need of an app."""

    @property
    def conf(self) -> Settings:
        """The app's settings."""

    @property
    def broker(self) -> Broker:
        """This process's handle of the broker."""

    @property
    def coordinator(self) -> Coordinator | None:
        """This process's handle of the coordinator; None where there is none."""


class Control:
    """Sends orders to the workers of one app. At ``app.control``."""

    def __init__(self, app: Commander) -> None:
        self._app = app

    def revoke(
        self,
        task_id: str | Iterable[str],
        destination: Sequence[str] | None = None,
        terminate: bool = False,
        signal: str = "SIGTERM",
        *,
        reason: str = "revoked",
        ttl_s: float = REVOKED_TTL_S,
    ) -> None:
        """Have workers skip tasks that haven't begun; they end as REVOKED.

        Every worker that meets one of them within `ttl_s` skips it, also one that starts later.

        Args:
            task_id: The task's id, or several.
            destination: Node names that are to act now; None: all.
            terminate: Also end those that run.
            signal: By which signal, where a process is to be ended.
            reason: Kept with the revoke.
            ttl_s: Seconds that it is remembered: longer than the task can wait in its queue.
        Raises:
            ConfigError: the app has no coordinator.
            BackendUnavailableError: the coordinator can't be reached.
        """
        ids = [task_id] if isinstance(task_id, str) else list(task_id)
        if "" in ids:
            raise InvalidTaskError("a task id to revoke is empty")
        coordinator = self._coordinator("revoke()")
        for each in ids:
            coordinator.put(f"{REVOKED_PREFIX}{each}", reason.encode(), ttl_s=ttl_s)
        arguments = {"task_id": ids, "terminate": terminate, "signal": _signal_name(signal)}
        self.broadcast("revoke", arguments, destination=destination)

    def terminate(
        self,
        task_id: str | Iterable[str],
        destination: Sequence[str] | None = None,
        signal: str = "SIGTERM",
    ) -> None:
        """Revoke tasks, and end those that run. Raises: as `revoke`."""
        self.revoke(task_id, destination, terminate=True, signal=signal)

    def is_revoked(self, task_id: str) -> bool:
        """Tell whether the task was revoked; no where there is no coordinator."""
        coordinator = self._app.coordinator
        return coordinator is not None and bool(coordinator.get([f"{REVOKED_PREFIX}{task_id}"]))

    def broadcast(
        self,
        method: str,
        arguments: dict[str, Any] | None = None,
        *,
        destination: Sequence[str] | None = None,
    ) -> None:
        """Publish an order to the workers that listen now; waits for no answer.

        Args:
            method: What to do, such as ``"revoke"``.
            arguments: The method's arguments.
            destination: Node names; None: all.
        Raises: as `revoke`.
        """
        order = {
            "method": method,
            "arguments": arguments or {},
            "destination": None if destination is None else list(destination),
        }
        self._coordinator(f"{method}()").publish(CHANNEL, msgspec.json.encode(order))

    def purge(self, queues: Iterable[str] | None = None) -> int:
        """Drop all messages that wait, the delayed included; returns how many.

        Args:
            queues: Their names; None: the app's own (``task_queues``, or the default one).
        Raises: CapabilityError: the broker can't.
        """
        broker = self._app.broker
        names = self.queue_names() if queues is None else list(queues)
        return sum(broker.purge(name) for name in names)

    discard_all = purge

    def queue_names(self) -> list[str]:
        """Return the names of the queues that a worker of this app consumes without ``-Q``."""
        return list(Router(self._app.conf).select())

    def _coordinator(self, what: str) -> Coordinator:
        coordinator = self._app.coordinator
        if coordinator is None:
            raise ConfigError(
                f"{what} needs a coordinator, and neither result_backend nor broker_url offers "
                f"one; set coordinator_url"
            )
        return coordinator


def _signal_name(signal: str) -> str:
    """Return ``"SIGTERM"`` for that, ``"TERM"`` and ``15``."""
    import signal as signals  # noqa: PLC0415 - only who ends tasks needs it

    name = str(signal).upper()
    if name.isdigit():
        number = int(name)
        if number not in set(signals.Signals):
            raise ConfigError(f"there is no signal {number}")
        return signals.Signals(number).name
    name = name if name.startswith("SIG") else f"SIG{name}"
    # Names that only other systems have must pass: the worker may run on one of them.
    if name not in signals.Signals.__members__ and name not in ("SIGKILL", "SIGUSR1", "SIGQUIT"):
        raise ConfigError(f"there is no signal {signal!r}")
    return name
