"""The supervisor's side of the fork server: orders children, and learns which were started.

Nothing here waits: an order is a short message, and the answer is read when it is there. A
server may be long in importing the app; deadlines of tasks must not wait for that.
"""

from __future__ import annotations

import errno
import gc
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from itertools import count
from multiprocessing.connection import Connection, wait
from multiprocessing.process import current_process
from multiprocessing.reduction import ForkingPickler
from typing import NamedTuple

import msgspec

from umbel.worker.board import Board
from umbel.worker.child import ChildSpec
from umbel.worker.fork_server import (
    ANSWER,
    ORDER,
    READY,
    STARTED,
    STATUS,
    Setup,
    serve_forked,
)
from umbel.worker.heeding import holding_signals
from umbel.worker.processes import Child
from umbel.worker.recovery import describe_exit
from umbel.worker.shared_files import new_file, receive_files
from umbel.worker.surroundings import current_folder, flush_standard_files, is_clean

#: Orders that may be unanswered at once: so many always fit into a socket's buffer.
MOST_ORDERS = 16
_PROGRAM = "import sys; sys.path[:] = {path!r}; from umbel.worker.fork_server import main; main({link}, {setup})"


class ForkedProcess:
    """A child of the fork server, as its supervisor sees it."""

    def __init__(self, pid: int, status: int, pidfd: int | None):
        """Take over the descriptors.

        Args:
            pid: The child's.
            status: Gets the exit code, and ends with the server.
            pidfd: Descriptor of the process itself, where the system has such a thing.
        """
        self.pid, self._status, self._pidfd = pid, status, pidfd

    @property
    def sentinel(self) -> int:
        """What becomes readable when the process ends."""
        return self._status if self._pidfd is None else self._pidfd

    def send_signal(self, number: int) -> None:
        """Send a signal, where it can't reach another process by mistake."""
        if self._pidfd is not None:
            signal.pidfd_send_signal(self._pidfd, number)

    def kill(self) -> None:
        """End it at once."""
        if self._pidfd is not None:
            signal.pidfd_send_signal(self._pidfd, signal.SIGKILL)
        elif not wait([self._status], 0):
            os.kill(self.pid, signal.SIGKILL)

    def release(self, wait_s: float) -> int | None:
        """Return the exit code, and free all; None: it isn't known within `wait_s` seconds."""
        told = os.read(self._status, STATUS.size) if wait([self._status], wait_s) else b""
        os.close(self._status)
        pidfd, self._pidfd = self._pidfd, None
        if pidfd is not None:
            os.close(pidfd)
        return STATUS.unpack(told)[0] if told else None


class _Order(NamedTuple):
    """A child that the server was asked for."""

    spec: ChildSpec
    board: Board
    pipe: Connection
    #: Where the exit code will be.
    status: int
    #: What the child gets; closed when it has it.
    files: list[int]
    #: Monotonic seconds.
    ordered_at: float

    def drop(self) -> None:
        """Free all: a child that was started nevertheless finds itself alone."""
        self.pipe.close()
        self.board.close()
        for each in (self.status, *self.files):
            os.close(each)


class _Server:
    """One fork server: a process, and the link to it."""

    def __init__(self, link: socket.socket, pid: int, *, was_forked: bool):
        self.link, self.pid, self.was_forked = link, pid, was_forked
        #: It has imported all that it should.
        self.is_ready = False
        self._exitcode: int | None = None

    def end(self) -> int:
        """Have it be gone; returns its exit code. Repeatable."""
        if self._exitcode is None:
            try:
                os.kill(self.pid, signal.SIGKILL)
                self._exitcode = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
            except (ProcessLookupError, ChildProcessError):  # somebody's code has waited for it
                self._exitcode = 0
        return self._exitcode


class Forks:
    """Starts children by a fork server (Linux). On the supervisor's thread."""

    def __init__(self, modules: Callable[[], Sequence[str]]):
        """`modules` returns what a server imports that isn't forked from a process which has it."""
        self._modules = modules
        self._server: _Server | None = None
        self._orders: dict[int, _Order] = {}
        self._numbers = count(1)
        self._is_closed = False

    # -- servers ------------------------------------------------------------------------------

    def fork_server(self) -> bool:
        """Fork the server from this process, if it is clean; tell whether it was.

        All that is imported here is shared with it, and with the children. Else a server is
        executed when the first child is asked for, and imports all for itself.
        """
        if not is_clean():
            return False
        gc.freeze()  # what is here is here to stay, and its pages are to be shared
        flush_standard_files()
        try:
            ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        except OSError:  # no more descriptors: an order says so, and is tried again
            return False
        try:
            with holding_signals():
                pid = os.fork()
                if not pid:
                    ours.close()
                    serve_forked(theirs)
        except OSError:
            ours.close()
            return False
        finally:
            theirs.close()
        self._server = _Server(ours, pid, was_forked=True)
        return True

    def _execute_server(self) -> _Server:
        """Start a server in a fresh interpreter. Raises: OSError."""
        setup = Setup(self._modules(), sys.argv, bytes(current_process().authkey))
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        file = _file_of(setup)
        program = _PROGRAM.format(path=sys.path, link=theirs.fileno(), setup=file)
        flags = subprocess._args_from_interpreter_flags()  # type: ignore[attr-defined]  # noqa: SLF001 - as multiprocessing does
        try:
            with holding_signals():
                process = subprocess.Popen(
                    [sys.executable, *flags, "-c", program],
                    pass_fds=[theirs.fileno(), file],
                    cwd=os.sep if current_folder() is None else None,
                )
        except BaseException:
            ours.close()
            raise
        finally:
            theirs.close()
            os.close(file)
        process.returncode = 0  # it is waited for here, and by nobody else
        return _Server(ours, process.pid, was_forked=False)

    @property
    def pids(self) -> set[int]:
        """The processes that are waited for here."""
        return set() if self._server is None else {self._server.pid}

    @property
    def sentinels(self) -> list[socket.socket]:
        """What becomes readable when there may be an answer."""
        return [] if self._server is None else [self._server.link]

    @property
    def is_full(self) -> bool:
        """Whether nothing more may be ordered for the moment."""
        return len(self._orders) >= MOST_ORDERS

    @property
    def ordered(self) -> list[int]:
        """The numbers of the children that are ordered and not started yet."""
        return [order.spec.index for order in self._orders.values()]

    @property
    def will_answer(self) -> bool:
        """Whether an answer to an order is due any moment."""
        return bool(self._orders) and self._server is not None and self._server.is_ready

    # -- children -----------------------------------------------------------------------------

    def order(self, spec: ChildSpec, board: Board) -> None:
        """Ask for a child; `answers` brings it. Raises: OSError: `board` is closed then."""
        try:
            made = _new_order(spec, board)
        except BaseException:
            board.close()
            raise
        number = next(self._numbers)
        self._orders[number] = made
        try:
            self._send(number, made)
        except BaseException:
            del self._orders[number]
            made.drop()
            raise

    def _send(self, number: int, order: _Order) -> None:
        if self._server is None:
            self._server = self._execute_server()
        with suppress(ConnectionError):  # `answers` finds the server gone
            data = ORDER.pack(number, order.spec.index)
            socket.send_fds(self._server.link, [data], order.files)

    def answers(self) -> Iterator[Child | OSError]:
        """Yield what has come of orders meanwhile; doesn't wait."""
        while self._server is not None:
            try:
                data, files = receive_files(self._server.link, ANSWER.size, 1, socket.MSG_DONTWAIT)
            except BlockingIOError:
                return
            except ConnectionError:
                data, files = b"", []
            if not data:
                yield from self._lose_server()
                return
            kind, number, value = ANSWER.unpack(data)
            if kind == READY:
                self._server.is_ready = True
                continue
            order = self._orders.pop(number)
            yield self._started(order, value, files) if kind == STARTED else _failed(order, value)

    def _started(self, order: _Order, pid: int, files: list[int]) -> Child:
        for each in order.files:
            os.close(each)
        order.board.forget_file()
        process = ForkedProcess(pid, order.status, files[0] if files else None)
        return Child(order.spec, process, order.pipe, order.board)

    def _lose_server(self) -> Iterator[OSError]:
        """Go on without the server, which has ended."""
        server, self._server = self._server, None
        if server is None:
            return
        server.link.close()
        code = server.end()
        if not self._orders:
            return
        is_unused = server.was_forked and not server.is_ready
        if is_unused and not self._is_closed:  # it found itself not clean
            try:
                for number, order in self._orders.items():
                    self._send(number, order)
            except OSError as exc:
                yield from self._give_up(exc)
            return
        what = f"the process that children are forked from has ended ({describe_exit(code)})"
        yield from self._give_up(OSError(what))

    def _give_up(self, why: OSError) -> Iterator[OSError]:
        for order in self._orders.values():
            order.drop()
        self._orders.clear()
        yield why

    def end_late(self, longest_s: float) -> bool:
        """End a server that is longer than that in starting a child; tell whether it was.

        It imports the app, or somebody has frozen it. `answers` finds it gone.
        """
        if self._server is None or not self._orders:
            return False
        if time.monotonic() - next(iter(self._orders.values())).ordered_at <= longest_s:
            return False
        os.kill(self._server.pid, signal.SIGKILL)
        return True

    def close(self) -> list[Child]:
        """End the server and forget the orders; returns children that it started meanwhile."""
        self._is_closed = True
        if self._server is None:
            return []
        self._server.end()
        return [each for each in self.answers() if isinstance(each, Child)]


def _new_order(spec: ChildSpec, board: Board) -> _Order:
    """Put together what a child gets. Raises: OSError."""
    files: list[int] = []
    rates = None if spec.rates is None else spec.rates.handle
    try:
        files.append(_file_of(msgspec.structs.replace(spec, rates=None)))
        files += [os.dup(each) for each in (board.handle, rates) if each is not None]
        reader, writer = os.pipe()
        files[1:1] = [writer]
        ours, theirs = socket.socketpair()
        files[1:1] = [theirs.detach()]
    except BaseException:
        for each in files:
            os.close(each)
        raise
    return _Order(spec, board, Connection(ours.detach()), reader, files, time.monotonic())


def _failed(order: _Order, number: int) -> OSError:
    order.drop()
    return OSError(number or errno.EAGAIN, os.strerror(number or errno.EAGAIN))


def _file_of(value: object) -> int:
    """Return an open file that holds `value` as a pickle."""
    data = bytes(ForkingPickler.dumps(value))
    handle, _ = new_file("umbel-order", len(data))
    os.pwrite(handle, data, 0)
    return handle
