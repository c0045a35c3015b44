"""Orders to a fleet of workers, sent from anywhere: revoke tasks, limit rates, purge queues.

What must not be forgotten is kept with the coordinator; what should be heard at once is also
published there.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

import msgspec

from umbel.errors import ConfigError, InvalidTaskError
from umbel.inspection import CHANNEL, Answers, Inspect, ask
from umbel.off_loop import in_thread
from umbel.rates import RATE_PREFIX, parse_rate
from umbel.results.descendants import descendants as walk_down
from umbel.routing import Router
from umbel.stamps import revoked_as

if TYPE_CHECKING:
    from umbel.interfaces.backend import Backend
    from umbel.interfaces.broker import Broker
    from umbel.interfaces.coordinator import Coordinator
    from umbel.results.source import ResultSource
    from umbel.settings import Settings

#: Keys of revoked tasks begin with this; the value says why.
REVOKED_PREFIX = "revoked/"
#: What a value begins with where the task alone was revoked, and not what descends from it.
ALONE = b"alone: "
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

    @property
    def backend(self) -> Backend | None:
        """This process's handle of the result backend; None where results are disabled."""

    @property
    def results(self) -> ResultSource:
        """How results are read."""


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
        descendants: bool = True,
    ) -> None:
        """Have workers skip tasks that haven't begun; they end as REVOKED.

        Every worker that meets one of them within `ttl_s` skips it, also one that starts later.
        So it is with what descends from them: the members of a group, what a task has sent or
        is followed by, and the body of a chord one of whose parts it is.

        Args:
            task_id: The id of a task or group, or several.
            destination: Node names that are to act now; None: all.
            terminate: Also end those that run.
            signal: By which signal, where a process is to be ended.
            reason: Kept with the revoke.
            ttl_s: Seconds that it is remembered: longer than the task can wait in its queue.
            descendants: False: the tasks alone, and what comes after them in their chains.
        Raises:
            ConfigError: the app has no coordinator.
            BackendUnavailableError: the coordinator can't be reached; or the backend, and then
                the tasks are revoked, but not all that descends from them.
        """
        ids = [task_id] if isinstance(task_id, str) else list(task_id)
        if "" in ids:
            raise InvalidTaskError("a task id to revoke is empty")
        coordinator = self._coordinator("revoke()")
        order = {"terminate": terminate, "signal": _signal_name(signal)}
        value = reason.encode()
        if not descendants:
            order["descendants"], value = False, ALONE + value

        def revoke(these: list[str]) -> None:
            for each in these:
                coordinator.put(f"{REVOKED_PREFIX}{each}", value, ttl_s=ttl_s)
            self.broadcast("revoke", {"task_id": these, **order}, destination=destination)

        revoke(ids)
        if descendants and self._app.backend is not None:
            for below in walk_down(self._app.results, ids):
                revoke(below)

    def revoke_by_stamped_headers(
        self,
        headers: Mapping[str, Any],
        destination: Sequence[str] | None = None,
        terminate: bool = False,
        signal: str = "SIGTERM",
        *,
        reason: str = "revoked",
        ttl_s: float = REVOKED_TTL_S,
    ) -> None:
        """Have workers skip tasks with one of these stamps that haven't begun.

        Args:
            headers: Values by the names of stamps; of a list any.
            destination: Node names that are to act now; None: all.
            terminate: Also end those that run.
            signal: By which signal, where a process is to be ended.
            reason: Kept with the revoke.
            ttl_s: Seconds that it is remembered.
        Raises: as `revoke`.
        """
        self.revoke(
            revoked_as(headers),
            destination,
            terminate,
            signal,
            reason=reason,
            ttl_s=ttl_s,
            descendants=False,
        )

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

    def call(
        self,
        method: str,
        arguments: dict[str, Any] | None = None,
        *,
        destination: Sequence[str] | None = None,
        timeout: float = 1.0,
    ) -> Answers:
        """Publish an order, and return what the workers answered, by node name.

        Args:
            method: What to do, such as ``"pool_grow"``.
            arguments: The method's arguments.
            destination: Node names; None: all.
            timeout: Seconds to wait for answers; less where all of `destination` have answered.
        Raises: as `revoke`.
        """
        coordinator = self._coordinator(f"{method}()")
        return ask(coordinator, method, arguments or {}, destination=destination, timeout_s=timeout)

    async def acall(
        self,
        method: str,
        arguments: dict[str, Any] | None = None,
        *,
        destination: Sequence[str] | None = None,
        timeout: float = 1.0,  # noqa: ASYNC109 - the answers that came by then are returned
    ) -> Answers:
        """Publish an order and wait for answers, without blocking the event loop."""
        return await in_thread(
            self.call, method, arguments, destination=destination, timeout=timeout
        )

    def inspect(self, destination: Sequence[str] | None = None, timeout: float = 1.0) -> Inspect:
        """Return what asks workers about themselves.

        Args:
            destination: Node names; None: all there are, which takes the whole `timeout`.
            timeout: Seconds to wait for answers.
        """
        return Inspect(self._coordinator, destination, timeout)

    def ping(self, destination: Sequence[str] | None = None, timeout: float = 1.0) -> list[Answers]:
        """Return ``{node name: {"ok": "pong"}}`` of each worker that answers. Raises: as `revoke`."""
        answers = self.call("ping", destination=destination, timeout=timeout)
        return [{name: answer} for name, answer in answers.items()]

    def rate_limit(
        self,
        task_name: str,
        rate_limit: str | float | None,
        destination: Sequence[str] | None = None,
        *,
        reply: bool = False,
        timeout: float = 1.0,
    ) -> list[Answers] | None:
        """Limit how many tasks of a type each worker starts in a time, from now on.

        It is remembered: workers that start later go by it too, unless `destination` is given.

        Args:
            task_name: The task's name.
            rate_limit: Such as ``"10/s"``; 0: no limit; None or ``"reset"``: as the code says.
            destination: Node names: only these, and only while they live; None: all.
            reply: Wait for the workers' answers.
            timeout: Seconds to wait for them.
        Returns: ``{node name: answer}`` of each that answered; None unless `reply`.
        Raises:
            ConfigError: `rate_limit` is none; the app has no coordinator.
            BackendUnavailableError: the coordinator can't be reached.
        """
        rate = None if rate_limit == "reset" else rate_limit
        parse_rate(rate)
        if not task_name:
            raise InvalidTaskError("a rate limit needs the name of a task")
        if destination is None:
            coordinator, key = self._coordinator("rate_limit()"), f"{RATE_PREFIX}{task_name}"
            if rate is None:
                coordinator.delete([key])
            else:
                coordinator.put(key, str(rate).encode())
        arguments = {"task_name": task_name, "rate_limit": rate}
        return self._order("rate_limit", arguments, destination, reply=reply, timeout=timeout)

    def pool_grow(
        self,
        n: int = 1,
        destination: Sequence[str] | None = None,
        *,
        reply: bool = False,
        timeout: float = 1.0,
    ) -> list[Answers] | None:
        """Have each worker run `n` more processes. Returns and raises: as `rate_limit`."""
        return self._order("pool_grow", {"n": n}, destination, reply=reply, timeout=timeout)

    def pool_shrink(
        self,
        n: int = 1,
        destination: Sequence[str] | None = None,
        *,
        reply: bool = False,
        timeout: float = 1.0,
    ) -> list[Answers] | None:
        """Have each worker run `n` processes fewer. Returns and raises: as `rate_limit`."""
        return self._order("pool_shrink", {"n": n}, destination, reply=reply, timeout=timeout)

    def autoscale(
        self,
        max: int,
        min: int = 1,
        destination: Sequence[str] | None = None,
        *,
        reply: bool = False,
        timeout: float = 1.0,
    ) -> list[Answers] | None:
        """Have each worker follow the load between so many processes. Else as `rate_limit`."""
        arguments = {"max": max, "min": min}
        return self._order("autoscale", arguments, destination, reply=reply, timeout=timeout)

    def shutdown(
        self,
        destination: Sequence[str] | None = None,
        *,
        reply: bool = False,
        timeout: float = 1.0,
    ) -> list[Answers] | None:
        """Have workers end as on TERM: what runs is finished. Else as `rate_limit`."""
        return self._order("shutdown", {}, destination, reply=reply, timeout=timeout)

    def _order(
        self,
        method: str,
        arguments: dict[str, Any],
        destination: Sequence[str] | None,
        *,
        reply: bool,
        timeout: float,
    ) -> list[Answers] | None:
        if not reply:
            self.broadcast(method, arguments, destination=destination)
            return None
        answers = self.call(method, arguments, destination=destination, timeout=timeout)
        return [{name: answer} for name, answer in answers.items()]

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
