"""The signals that stop a worker, from its start to its end."""

from __future__ import annotations

import os
import signal
import socket
import sys
import threading
from collections.abc import Callable
from types import TracebackType
from typing import Any, Self

from umbel.worker.shutdown import Phase

#: Asked for a phase of the shutdown; None: the next one.
Request = Callable[[Phase | None], object]

#: What each signal asks for: TERM and HUP warm, however often; INT one phase on each time.
_ASKS: dict[str, Phase | None] = {
    "SIGTERM": Phase.WARM,
    "SIGHUP": Phase.WARM,
    "SIGBREAK": Phase.WARM,
    "SIGINT": None,
    "SIGQUIT": Phase.COLD,
}


class StopSignals:
    """Context manager: heeds the signals that stop a worker. Main thread only.

    As long as nobody listens, TERM and HUP end the program in order: for process 1 of a
    container the system would pass them over.
    """

    def __init__(self) -> None:
        self._before: dict[int, Any] = {}
        self._wakeup_before = -1
        self._sockets: tuple[socket.socket, socket.socket] | None = None
        self._thread: threading.Thread | None = None

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
        if self._sockets is not None and self._thread is not None:
            signal.set_wakeup_fd(self._wakeup_before)
            reader, writer = self._sockets
            writer.close()
            self._thread.join()
            reader.close()

    def listen(self, request: Request) -> None:
        """From now on hand signals to `request`, which is called wherever the main thread is."""
        for name, phase in _ASKS.items():
            self._handle(name, _asking(request, phase))

    def listen_in_thread(self, request: Request) -> None:
        """From now on hand signals to `request` in a thread, whatever holds the main one up.

        A handler runs when the main thread is back in Python code, which may be the end of a
        task's long call; what the system writes into a socket is there at once.
        """
        if os.name == "nt":  # event loops there take the socket for themselves
            self.listen(lambda phase: threading.Thread(target=request, args=(phase,)).start())
            return
        asks = {
            getattr(signal, name): phase
            for name, phase in _ASKS.items()
            if self._handle(name, _pass_over)
        }
        reader, writer = self._sockets = socket.socketpair()
        writer.setblocking(False)
        self._wakeup_before = signal.set_wakeup_fd(writer.fileno(), warn_on_full_buffer=False)

        def read() -> None:
            while numbers := reader.recv(64):
                for number in numbers:
                    if number in asks:
                        request(asks[number])

        self._thread = threading.Thread(target=read, name="umbel-signals", daemon=True)
        self._thread.start()

    def _handle(self, name: str, handler: Callable[[int, Any], object]) -> bool:
        """Set a handler; False: the system has no such signal, or it is to be passed over."""
        number = getattr(signal, name, None)
        if number is None or (name == "SIGHUP" and signal.getsignal(number) is signal.SIG_IGN):
            return False  # … since the worker was started by nohup
        before = signal.signal(number, handler)
        self._before.setdefault(number, signal.SIG_DFL if before is None else before)
        return True


def _asking(request: Request, phase: Phase | None) -> Callable[[int, Any], object]:
    return lambda _signum, _frame: request(phase)


def _end(_signum: int, _frame: Any) -> None:
    sys.exit(0)


def _pass_over(_signum: int, _frame: Any) -> None:
    """Do nothing."""
