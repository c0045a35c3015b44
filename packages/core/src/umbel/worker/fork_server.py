"""The process that children are forked from: no threads, no connections, the app imported.

It waits on one socket for orders, forks, and tells how children end: nothing else, so that what
is forked from it is clean and shares its memory. Each order brings the files that a child needs;
what is in them is read by the child.
"""

from __future__ import annotations

import gc
import importlib
import os
import pickle
import select
import signal
import socket
import struct
import sys
import traceback
from collections.abc import Iterable, Sequence
from contextlib import suppress
from multiprocessing.connection import Connection
from multiprocessing.context import Process
from multiprocessing.process import BaseProcess, current_process
from typing import NoReturn, TypeVar

import msgspec

from umbel.worker.board import Board
from umbel.worker.child import ChildSpec, child_main
from umbel.worker.heeding import leave_signals_to_supervisor, let_signals_through
from umbel.worker.rate_table import RateTable
from umbel.worker.shared_files import receive_files
from umbel.worker.surroundings import count_threads, flush_standard_files
from umbel.worker.titles import set_title

T = TypeVar("T")

#: An order: its number, and the number of the child in the pool.
ORDER = struct.Struct("QQ")
#: An answer: one of the kinds below, the number of the order, a pid or an error's number.
ANSWER = struct.Struct("cQq")
READY, STARTED, FAILED = b"R", b"S", b"F"
#: What a child's status file gets when it has ended.
STATUS = struct.Struct("i")
#: Files that come with an order: spec, pipe, status, board; then those of the rates, if any.
MOST_FILES = 5
_STATUS_AT = 2
_MOST_EVENTS = 512


class Setup(msgspec.Struct, frozen=True):
    """What a server that was not forked from its supervisor has to be told first; a pickle."""

    modules: Sequence[str]
    argv: Sequence[str]
    authkey: bytes


class ForkServer:
    """Serves one supervisor, to the end of either."""

    def __init__(self, link: socket.socket):
        """`link` leads to the supervisor."""
        self._link = link
        #: By pid: where to write how a child has ended.
        self._children: dict[int, int] = {}
        self._wake_reader, self._wake_writer = os.pipe()
        # For children: it ends with this process.
        self._life_reader, self._life_writer = os.pipe()

    def run(self) -> None:
        """Fork children as ordered, until the supervisor hangs up."""
        os.set_blocking(self._wake_reader, False)
        os.set_blocking(self._wake_writer, False)
        signal.set_wakeup_fd(self._wake_writer, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, _pass_over)
        self._link.sendmsg([ANSWER.pack(READY, 0, os.getpid())])
        waiting = select.poll()
        waiting.register(self._link, select.POLLIN)
        waiting.register(self._wake_reader, select.POLLIN)
        while True:
            ready = {number for number, _ in waiting.poll()}
            if self._wake_reader in ready:
                with suppress(BlockingIOError):
                    os.read(self._wake_reader, _MOST_EVENTS)
                self._reap()
            if self._link.fileno() in ready and not self._obey():
                return

    def _obey(self) -> bool:
        """Carry an order out; False: there will be none any more."""
        data, files = receive_files(self._link, ORDER.size, MOST_FILES)
        if not data:
            return False
        number, index = ORDER.unpack(data)
        process = Process(target=_run_child, args=(files,), name=f"umbel-child-{index}")
        flush_standard_files()
        try:
            pid = os.fork()
        except OSError as exc:
            self._link.sendmsg([ANSWER.pack(FAILED, number, exc.errno or 0)])
            _close(files)
            return True
        if not pid:
            self._become(process, files)
        status = files.pop(_STATUS_AT)
        self._children[pid] = status
        _close(files)
        answer = ANSWER.pack(STARTED, number, pid)
        try:
            pidfd = os.pidfd_open(pid)
        except (AttributeError, OSError):  # an old kernel, or a sandbox forbids it
            self._link.sendmsg([answer])
            return True
        socket.send_fds(self._link, [answer], [pidfd])
        os.close(pidfd)
        return True

    def _become(self, process: BaseProcess, files: Sequence[int]) -> NoReturn:
        """Turn this process into a child, and never return."""
        code = 1
        try:
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            self._link.close()
            _close([self._wake_reader, self._wake_writer, self._life_writer])
            _close(self._children.values())
            # As multiprocessing's own: ends the processes and threads of tasks, too.
            code = process._bootstrap(parent_sentinel=self._life_reader)  # type: ignore[attr-defined]  # noqa: SLF001
        finally:
            os._exit(code)

    def _reap(self) -> None:
        """Tell of the children that have ended."""
        while self._children:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:  # somebody's code has waited for them
                return
            if not pid:
                return
            file = self._children.pop(pid, None)
            if file is not None:
                with suppress(BrokenPipeError):  # the supervisor doesn't want to know any more
                    os.write(file, STATUS.pack(os.waitstatus_to_exitcode(status)))
                os.close(file)


def serve(link: socket.socket) -> NoReturn:
    """Be the server, and never return: this process was forked, or executed, to be it."""
    code = 1
    try:
        leave_signals_to_supervisor()
        let_signals_through()
        set_title("umbel-forks")
        gc.freeze()  # what is here is here to stay, and its pages are to be shared
        ForkServer(link).run()
        code = 0
    except ConnectionError:  # the supervisor is gone
        code = 0
    except BaseException:  # noqa: BLE001 - the end of this process
        traceback.print_exc()
    finally:
        os._exit(code)


def serve_forked(link: socket.socket) -> NoReturn:
    """Be the server, forked from a supervisor that had nothing open yet; never returns.

    Unless somebody's fork hooks have started threads: then the supervisor has to do without.
    """
    if count_threads() != 1:
        os._exit(1)
    serve(link)


def main(handle: int, setup: int) -> NoReturn:
    """Be the server in a fresh interpreter; never returns.

    Args:
        handle: The link to the supervisor.
        setup: A file with a `Setup`.
    """
    leave_signals_to_supervisor()
    let_signals_through()
    link = socket.socket(fileno=handle)
    link.set_inheritable(False)
    wanted = _read(setup, Setup)
    sys.argv[:] = wanted.argv
    current_process().authkey = wanted.authkey
    for name in wanted.modules:
        with suppress(BaseException):  # the child meets it again and reports it
            importlib.import_module(name)
    gc.collect()
    serve(link)


def _run_child(files: Sequence[int]) -> None:
    """Unpack what came with the order, and run the child."""
    payload, pipe, status, board, *rates = files
    os.close(status)
    spec = _read(payload, ChildSpec)
    if rates:
        spec = msgspec.structs.replace(spec, rates=RateTable(rates[0]))
    child_main(spec, Connection(pipe), Board.inherit(board))


def _read(handle: int, kind: type[T]) -> T:
    """Return what a file holds as a pickle, and close it."""
    with open(handle, "rb") as file:
        file.seek(0)
        value = pickle.load(file)  # noqa: S301 - our own supervisor's, in memory
    if not isinstance(value, kind):
        raise TypeError(f"not a {kind.__name__}: {value!r}")
    return value


def _close(files: Iterable[int]) -> None:
    for each in files:
        os.close(each)


def _pass_over(_signum: int, _frame: object) -> None:
    """Do nothing: the wake-up pipe tells."""
