"""The signals that a worker heeds, from its start to its end: to stop, to reload, to dump stacks."""

from __future__ import annotations

import os
import signal
import socket
import sys
import threading
from collections.abc import Callable, Mapping
from functools import partial
from types import TracebackType
from typing import Any, Protocol, Self

from umbel.worker.shutdown import Phase

#: Asked for a phase of the shutdown; None: the next one.
Request = Callable[[Phase | None], object]
Action = Callable[[], object]


class Listen(Protocol):
    """One of the ways to listen."""

    def __call__(
        self, request: Request, *, reload: Action | None = None, dump: Action | None = None
    ) -> None:
        """Carry signals out from now on."""


#: What each signal asks for: TERM and HUP warm, however often; INT one phase on each time.
#: HUP asks for a reload instead, where the worker can and no terminal may have sent it.
_ASKS: dict[str, Phase | None] = {
    "SIGTERM": Phase.WARM,
    "SIGHUP": Phase.WARM,
    "SIGBREAK": Phase.WARM,
    "SIGINT": None,
    "SIGQUIT": Phase.COLD,
}


#: What service managers send, and what would end a process that has no handler.
SENT_BY_MANAGERS = frozenset(
    getattr(signal, name) for name in ("SIGTERM", "SIGHUP", "SIGUSR1") if hasattr(signal, name)
)


def heed_while_starting() -> None:
    """Let TERM and HUP end this program in order from now on, though nothing of it runs yet.

    For a program that is nothing but a worker, before it loads the app. Main thread only.
    """
    for number in SENT_BY_MANAGERS:
        if signal.getsignal(number) is not signal.SIG_IGN:
            is_dump = number == getattr(signal, "SIGUSR1", None)
            signal.signal(number, _pass_over if is_dump else _end_at_once)
    _let_through()


class StopSignals:
    """Context manager: heeds the signals that a worker knows. Main thread only.

    As long as nobody listens, TERM and HUP end the program in order: for process 1 of a
    container the system would pass them over.
    """

    def __init__(self, *, owns_process: bool = False) -> None:
        """`owns_process`: the program ends with the worker, so nobody needs its handlers back.

        One more TERM then hastens the end of the program; by default it would make a failure
        of it.
        """
        self._owns_process = owns_process
        self._before: dict[int, Any] = {}
        self._wakeup_before = -1
        self._sockets: tuple[socket.socket, socket.socket] | None = None
        self._thread: threading.Thread | None = None

    def __enter__(self) -> Self:
        for name in ("SIGTERM", "SIGHUP", "SIGBREAK"):
            self._handle(name, _end)
        self._handle("SIGUSR1", _pass_over)
        _let_through()
        return self

    def __exit__(
        self,
        _kind: type[BaseException] | None,
        _error: BaseException | None,
        _traceback: TracebackType | None,
    ) -> None:
        after = _AT_THE_END if self._owns_process else {}
        for number, handler in self._before.items():
            signal.signal(number, after.get(number, handler))
        if self._sockets is not None and self._thread is not None:
            signal.set_wakeup_fd(self._wakeup_before)
            reader, writer = self._sockets
            writer.close()
            self._thread.join()
            reader.close()

    def listen(
        self, request: Request, *, reload: Action | None = None, dump: Action | None = None
    ) -> None:
        """From now on carry signals out, wherever the main thread is.

        Args:
            request: Told which phase of the shutdown is asked for.
            reload: What HUP does; None: it stops the worker.
            dump: What USR1 does.
        """
        for name, action in _actions(request, reload, dump).items():
            self._handle(name, partial(_call, action))

    def listen_in_thread(
        self, request: Request, *, reload: Action | None = None, dump: Action | None = None
    ) -> None:
        """From now on carry signals out as `listen` does, whatever holds the main thread up.

        A handler runs when the main thread is back in Python code, which may be the end of a
        task's long call; what the system writes into a socket is there at once.
        """
        if os.name == "nt":  # event loops there take the socket for themselves
            self.listen(lambda phase: threading.Thread(target=request, args=(phase,)).start())
            return
        actions = {
            getattr(signal, name): action
            for name, action in _actions(request, reload, dump).items()
            if self._handle(name, _pass_over)
        }
        reader, writer = self._sockets = socket.socketpair()
        writer.setblocking(False)
        self._wakeup_before = signal.set_wakeup_fd(writer.fileno(), warn_on_full_buffer=False)

        def read() -> None:
            while numbers := reader.recv(64):
                for number in numbers:
                    if number in actions:
                        actions[number]()

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


def _actions(request: Request, reload: Action | None, dump: Action | None) -> Mapping[str, Action]:
    actions: dict[str, Action] = {name: partial(request, phase) for name, phase in _ASKS.items()}
    if reload is not None:
        actions["SIGHUP"] = reload
    if dump is not None:
        actions["SIGUSR1"] = dump
    return actions


def _call(action: Action, _signum: int, _frame: Any) -> None:
    action()


def _end_at_once(_signum: int, _frame: Any) -> None:
    os._exit(0)


def _let_through() -> None:
    """Take signals again: a reload holds up those that come meanwhile."""
    if hasattr(signal, "pthread_sigmask"):
        signal.pthread_sigmask(signal.SIG_UNBLOCK, SENT_BY_MANAGERS)


def _end(_signum: int, _frame: Any) -> None:
    sys.exit(0)


def _pass_over(_signum: int, _frame: Any) -> None:
    """Do nothing."""


#: What a program does between the end of its worker and its own.
_AT_THE_END: Mapping[int, Any] = {
    number: _end_at_once if number == signal.SIGTERM else signal.SIG_IGN
    for number in SENT_BY_MANAGERS
}
