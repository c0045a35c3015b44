"""A TCP proxy on loopback that a test tells how bad the network is."""

from __future__ import annotations

import asyncio
import socket
import struct
import threading
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress

from server_process import free_port

CHUNK = 65_536


class TcpProxy:
    """Forwards what comes in at `port` to a port of 127.0.0.1, as long as it is told to.

    It begins at once, with `pass_on`. What a method says holds once it has returned. `close` it.
    """

    def __init__(self, target_port: int):
        self.target_port = target_port
        self.port = free_port()
        #: How many connections were accepted so far.
        self.accepted = 0
        self._links: set[asyncio.Task[None]] = set()
        self._acceptor: asyncio.Task[None] | None = None
        self._resets = False
        self._delay_s = 0.0
        self._passing = asyncio.Event()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="proxy", daemon=True)
        self._thread.start()
        self.pass_on()

    # -- what a test says ---------------------------------------------------------------------

    def pass_on(self) -> None:
        """Forward everything, what `swallow` has held back too."""
        self._be(passing=True)

    def delay(self, seconds: float) -> None:
        """Forward everything, each piece so many seconds later."""
        self._be(passing=True, delay_s=seconds)

    def swallow(self) -> None:
        """Accept connections and forward nothing, as a network that drops every packet does.

        What comes in meanwhile is forwarded after `pass_on`, as TCP would send it again.
        """
        self._be(passing=False)

    def reset(self) -> None:
        """Reset every connection: those there are, and each new one after it was accepted."""
        self._be(passing=True, resets=True)
        self.cut()

    def refuse(self) -> None:
        """Refuse new connections, as a host without a server does; reset those there are."""
        self._be(passing=True, listens=False)
        self.cut()

    def cut(self) -> None:
        """Reset the connections there are; new ones are treated as before."""
        self._call(self._cut)

    @contextmanager
    def broken(self, fault: Callable[[TcpProxy], None]) -> Iterator[None]:
        """Be broken for the length of a block: ``with proxy.broken(TcpProxy.swallow): …``."""
        fault(self)
        try:
            yield
        finally:
            self.pass_on()

    @property
    def connections(self) -> int:
        """How many connections there are now."""
        return len(self._links)

    def close(self) -> None:
        """End everything."""
        self.refuse()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(30)
        self._loop.close()

    # -- how it is done -----------------------------------------------------------------------

    def _call(self, function: Callable[[], Awaitable[None]]) -> None:
        """Run a coroutine function in the proxy's thread, and wait for its end."""

        async def run() -> None:
            await function()

        asyncio.run_coroutine_threadsafe(run(), self._loop).result(30)

    def _be(
        self, *, passing: bool, listens: bool = True, resets: bool = False, delay_s: float = 0.0
    ) -> None:
        async def change() -> None:
            self._resets, self._delay_s = resets, delay_s
            if passing:
                self._passing.set()
            else:
                self._passing.clear()
            if listens:
                self._listen()
            else:
                await self._stop_listening()

        self._call(change)

    def _listen(self) -> None:
        if self._acceptor is None:
            listener = socket.create_server(("127.0.0.1", self.port), backlog=512)
            listener.setblocking(False)
            self._acceptor = self._loop.create_task(self._accept(listener))

    async def _stop_listening(self) -> None:
        if self._acceptor is not None:
            self._acceptor.cancel()
            await asyncio.wait([self._acceptor])
            self._acceptor = None

    async def _accept(self, listener: socket.socket) -> None:
        with listener:
            while True:
                client, _ = await self._loop.sock_accept(listener)
                self.accepted += 1
                link = self._loop.create_task(self._serve(client))
                self._links.add(link)
                link.add_done_callback(self._links.discard)

    async def _cut(self) -> None:
        links = list(self._links)
        for link in links:
            link.cancel()
        if links:
            await asyncio.wait(links)

    async def _serve(self, client: socket.socket) -> None:
        """Serve one connection until a side ends it well; any other end is a reset to both."""
        with client, socket.socket() as server:
            server.setblocking(False)
            for end in (client, server):
                reset_when_closed(end, True)
            if self._resets:
                return
            with suppress(OSError, ExceptionGroup):
                await self._passing.wait()
                await self._loop.sock_connect(server, ("127.0.0.1", self.target_port))
                async with asyncio.TaskGroup() as pumps:
                    pumps.create_task(self._pump(client, server))
                    pumps.create_task(self._pump(server, client))
                for end in (client, server):
                    reset_when_closed(end, False)

    async def _pump(self, source: socket.socket, target: socket.socket) -> None:
        """Forward one way until its end, and forward that too."""
        while True:
            data = await self._loop.sock_recv(source, CHUNK)
            if self._delay_s:
                await asyncio.sleep(self._delay_s)
            await self._passing.wait()
            if not data:
                break
            await self._loop.sock_sendall(target, data)
        target.shutdown(socket.SHUT_WR)


def reset_when_closed(end: socket.socket, whether: bool) -> None:
    """Choose what the other side sees when `end` is closed: a reset, or an end."""
    end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", int(whether), 0))
