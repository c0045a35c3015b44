"""Commands that only a node with child processes has, carried out on its supervisor's thread."""

from __future__ import annotations

import queue
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from umbel.errors import ConfigError, UmbelError
from umbel.worker.shutdown import Phase

if TYPE_CHECKING:
    from umbel.worker.commands import Method
    from umbel.worker.supervisor import Supervisor

#: Seconds that a command waits for the supervisor's thread, which may be in starting a process.
_LONGEST_WAIT_S = 5.0


def pool_commands(supervisor: Supervisor) -> dict[str, Method]:
    """Return what grows, shrinks and ends the pool of `supervisor`."""

    def resize(change: Callable[[int], int]) -> Method:
        def command(arguments: Mapping[str, Any]) -> dict[str, Any]:
            by = _count(arguments, "n", 1)
            return _processes(_on_its_thread(supervisor, lambda: change(by)))

        return command

    def autoscale(arguments: Mapping[str, Any]) -> dict[str, Any]:
        most, fewest = _count(arguments, "max", None), _count(arguments, "min", 1)
        return _processes(_on_its_thread(supervisor, lambda: supervisor.set_bounds(most, fewest)))

    def shutdown(_arguments: Mapping[str, Any]) -> dict[str, Any]:
        supervisor.call(lambda: supervisor.request(Phase.WARM))
        return {"ok": "shutting down"}

    return {
        "pool_grow": resize(supervisor.grow),
        "pool_shrink": resize(supervisor.shrink),
        "autoscale": autoscale,
        "shutdown": shutdown,
    }


def _on_its_thread(supervisor: Supervisor, function: Callable[[], int]) -> int:
    """Call `function` there; return or raise what it does."""
    done: queue.SimpleQueue[tuple[int, Exception | None]] = queue.SimpleQueue()

    def run() -> None:
        try:
            done.put((function(), None))
        except Exception as exc:  # noqa: BLE001 - raised where it is waited for
            done.put((0, exc))

    supervisor.call(run)
    try:
        result, error = done.get(timeout=_LONGEST_WAIT_S)
    except queue.Empty:
        raise UmbelError("the supervisor is busy; it does so as soon as it can") from None
    if error is not None:
        raise error
    return result


def _count(arguments: Mapping[str, Any], name: str, default: int | None) -> int:
    value = arguments.get(name, default)
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise ConfigError(f"{name} must be a number of processes of 1 or more, not {value!r}")
    return value


def _processes(count: int) -> dict[str, Any]:
    return {"ok": f"{count} process{'' if count == 1 else 'es'} from now on"}
