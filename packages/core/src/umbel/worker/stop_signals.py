"""The signals that stop a worker, from its start to its end."""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable
from types import TracebackType
from typing import Any, Self

from umbel.worker.shutdown import Phase

#: Asked for a phase of the shutdown; None: the next one.
Request = Callable[[Phase | None], object]


class StopSignals:
    """Context manager: TERM and HUP stop warm, however often; INT one phase on each time; QUIT cold.

    Main thread only. As long as nobody listens, TERM and HUP end the program in order: for
    process 1 of a container the system would pass them over.
    """

    def __init__(self) -> None:
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Self:
        for name in ("SIGTERM", "SIGHUP", "SIGBREAK"):
            self._handle(name, _end)
        return self

    def __exit__(
        self,
        _kind: type[BaseException] | None,
        _error: BaseException | None,
        _traceback: TracebackType | None,
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def listen(self, request: Request) -> None:
        """From now on hand signals to `request`, which is called wherever the main thread is."""

        def on_term(_signum: int, _frame: Any) -> None:
            request(Phase.WARM)

        def on_int(_signum: int, _frame: Any) -> None:
            request(None)

        def on_quit(_signum: int, _frame: Any) -> None:
            request(Phase.COLD)

        for name in ("SIGTERM", "SIGHUP", "SIGBREAK"):
            self._handle(name, on_term)
        self._handle("SIGINT", on_int)
        self._handle("SIGQUIT", on_quit)

    def _handle(self, name: str, handler: Callable[[int, Any], None]) -> None:
        number = getattr(signal, name, None)
        if number is None or (name == "SIGHUP" and signal.getsignal(number) is signal.SIG_IGN):
            return  # unknown to this system, or the worker was started by nohup
        before = signal.signal(number, handler)
        self._before.setdefault(number, signal.SIG_DFL if before is None else before)


def _end(_signum: int, _frame: Any) -> None:
    sys.exit(0)
