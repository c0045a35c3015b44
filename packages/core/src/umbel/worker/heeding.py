"""Which signals a process of a worker heeds.

Ctrl-C, a closing terminal and service managers send theirs to all processes of a node at once.
Only the supervisor acts on them: the others hear from it what to do.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

_NAMES = ("SIGINT", "SIGTERM", "SIGQUIT", "SIGHUP", "SIGBREAK")
_SUPERVISORS = [getattr(signal, name) for name in _NAMES if hasattr(signal, name)]
#: Asks for a stack dump, and may be sent to a whole group.
_ALL = [*_SUPERVISORS, *([signal.SIGUSR1] if hasattr(signal, "SIGUSR1") else [])]


def leave_signals_to_supervisor() -> None:
    """Pass over, in this process, the signals that a supervisor acts on. Main thread only.

    By a handler that does nothing, since an ignored signal would stay ignored in every program
    that a task starts.
    """
    for each in _ALL:
        signal.signal(each, _pass_over)


@contextmanager
def holding_signals() -> Iterator[None]:
    """Hold signals up in a process that is started meanwhile, until it lets them through."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _ALL)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def let_signals_through() -> None:
    """Take the signals that were held up at the start of this process."""
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _ALL)


def heed_signals_in_forks() -> None:
    """Let processes that tasks fork heed signals as ever: `multiprocessing` ends its own so."""
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(before=_hold, after_in_parent=_let_go, after_in_child=_heed_again)


def _pass_over(_signum: int, _frame: Any) -> None:
    """Do nothing."""


class _Held(threading.local):
    """The signals that the thread which forks had blocked before."""

    mask: set[int] | None = None


_held = _Held()


def _hold() -> None:
    """Hold signals up until the fork heeds them: one that comes at once must not be lost."""
    _held.mask = set(signal.pthread_sigmask(signal.SIG_BLOCK, _SUPERVISORS))


def _let_go() -> None:
    if _held.mask is not None:
        signal.pthread_sigmask(signal.SIG_SETMASK, _held.mask)


def _heed_again() -> None:
    for each in _SUPERVISORS:
        usual = signal.default_int_handler if each is signal.SIGINT else signal.SIG_DFL
        if signal.getsignal(each) is _pass_over:
            signal.signal(each, usual)
    _let_go()
