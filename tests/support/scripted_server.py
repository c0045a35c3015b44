"""A server on loopback that says in Redis' protocol what a test tells it to."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable
from contextlib import suppress

import hiredis

#: What to send for a command: bytes as they are, nothing (b""), or None: close the connection.
Answer = Callable[[list[bytes]], bytes | None]


class ScriptedServer:
    """Asks `answer` about each command of each connection. `close` it."""

    def __init__(self, answer: Answer):
        self.answer = answer
        #: Commands in the order in which they came, over all connections.
        self.commands: list[list[bytes]] = []
        #: How many connections were accepted so far.
        self.accepted = 0
        self._open: list[socket.socket] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._thread = threading.Thread(target=self._accept, daemon=True)
        self._thread.start()

    @property
    def port(self) -> int:
        """Where it listens."""
        return int(self._listener.getsockname()[1])

    def names(self) -> list[str]:
        """Return the first words of all commands that came."""
        return [words[0].decode() for words in self.commands]

    def close(self) -> None:
        """End everything."""
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._thread.join(30)
        self._listener.close()

    def _accept(self) -> None:
        threads = []
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                self.accepted += 1
                self._open.append(client)
                threads.append(threading.Thread(target=self._serve, args=(client,), daemon=True))
                threads[-1].start()
        for client in self._open:
            with suppress(OSError):
                client.shutdown(socket.SHUT_RDWR)
        for thread in threads:
            thread.join(30)

    def _serve(self, client: socket.socket) -> None:
        reader = hiredis.Reader()
        with client, suppress(OSError):
            while data := client.recv(65_536):
                reader.feed(data)
                while words := reader.gets():
                    self.commands.append(words)
                    reply = self.answer(words)
                    if reply is None:
                        return
                    client.sendall(reply)
