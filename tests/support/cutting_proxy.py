"""A proxy that loses a connection at an exact byte, or so that only one side learns of it."""

from __future__ import annotations

import socket
import threading
from contextlib import suppress
from typing import Self

CHUNK = 65_536


class CuttingProxy:
    """Forwards to a port of 127.0.0.1 until `cut_after` says otherwise; a context manager."""

    def __init__(self, target_port: int):
        self._target = ("127.0.0.1", target_port)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._lock = threading.Lock()
        #: Bytes that still pass, to the server and back; None: all.
        self._left: dict[str, int | None] = {"sent": None, "answered": None}
        self._passed = {"sent": 0, "answered": 0}
        self._ends: list[socket.socket] = []
        #: Ends of servers that are gone, as their clients don't hear.
        self._forgotten: set[socket.socket] = set()
        self._threads = [threading.Thread(target=self._accept)]
        self._threads[0].start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        # Closing alone wouldn't wake the thread that accepts.
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._cut()
        for thread in self._threads:
            thread.join(30)
        for end in self._ends:
            end.close()

    def cut_after(self, *, sent: int | None = None, answered: int | None = None) -> None:
        """Let so many bytes pass from now on, then lose that connection, and be well again."""
        with self._lock:
            self._left = {"sent": sent, "answered": answered}

    def forget(self, port: int) -> None:
        """End the connection that the server knows by `port`, and tell its client nothing."""
        for end in self._ends:
            with suppress(OSError):
                if end.getsockname()[1] == port and end.getpeername() == self._target:
                    self._forgotten.add(end)
                    end.shutdown(socket.SHUT_RDWR)

    @property
    def has_cut(self) -> bool:
        """Whether what was asked for has happened."""
        return self._left == {"sent": None, "answered": None}

    def measure(self) -> dict[str, int]:
        """Return how many bytes have passed each way since the last time."""
        with self._lock:
            passed, self._passed = self._passed, {"sent": 0, "answered": 0}
        return passed

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                server = socket.create_connection(self._target)
                self._ends += [client, server]
                for way, source, target in (("sent", client, server), ("answered", server, client)):
                    pump = threading.Thread(target=self._pump, args=(way, source, target))
                    self._threads.append(pump)
                    pump.start()

    def _pump(self, way: str, source: socket.socket, target: socket.socket) -> None:
        with suppress(OSError):
            while data := source.recv(CHUNK):
                passing, is_cut = self._share(way, len(data))
                target.sendall(data[:passing])
                if is_cut:
                    break
        for end in () if self._forgotten & {source, target} else (source, target):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def _share(self, way: str, count: int) -> tuple[int, bool]:
        with self._lock:
            left = self._left[way]
            if left is None or count < left:
                if left is not None:
                    self._left[way] = left - count
                self._passed[way] += count
                return count, False
            self._left = {"sent": None, "answered": None}
            return left, True

    def _cut(self) -> None:
        for end in self._ends:
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
