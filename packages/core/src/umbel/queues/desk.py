"""The queues of an app's broker: look into them, empty them, pause them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Protocol

from umbel.interfaces.broker import Capability
from umbel.off_loop import in_thread

if TYPE_CHECKING:
    from umbel.control import Control
    from umbel.interfaces.broker import Broker
    from umbel.messages import Malformed, Message, QueueStats


class Keeper(Protocol):
    """What queues need of an app."""

    @property
    def broker(self) -> Broker:
        """This process's handle of the broker."""

    @property
    def control(self) -> Control:
        """Knows which queues the app's workers consume."""


class Queues:
    """The queues of one app's broker. At ``app.queues``.

    All of it raises CapabilityError where the broker can't do it, and BrokerUnavailableError
    where the broker can't be reached.
    """

    def __init__(self, app: Keeper) -> None:
        self._app = app

    def names(self) -> list[str]:
        """Return the names of all queues, sorted: the broker's, and those of this app's workers."""
        broker = self._app.broker
        found = {*broker.queues(), *self._app.control.queue_names()}
        if Capability.PAUSE in broker.capabilities:
            found.update(broker.paused())
        return sorted(found)

    def __iter__(self) -> Iterator[QueueStats]:
        """Go through all queues, by name, with how each stands."""
        return map(self.stats, self.names())

    def stats(self, name: str) -> QueueStats:
        """Return how many messages of a queue are ready, delayed, held or dead."""
        return self._app.broker.stats(name)

    def peek(self, name: str, *, limit: int = 10, offset: int = 0) -> Sequence[Message | Malformed]:
        """Return what waits in a queue, next to run first, without taking it."""
        return self._app.broker.peek(name, limit=limit, offset=offset)

    def purge(self, *names: str) -> int:
        """Drop all that waits in queues, the delayed included; returns how many.

        What workers hold, and dead letters, stay.
        """
        return sum(self._app.broker.purge(name) for name in dict.fromkeys(names))

    def pause(self, *names: str) -> None:
        """Let no worker take anything out of queues, until `resume`. Repeatable.

        All workers, of whatever app: it is kept with the broker, also over its restarts where it
        keeps messages over them. Sending goes on, and so does what workers hold already; a worker
        that waits for a message at this moment may take one more.
        """
        for name in dict.fromkeys(names):
            self._app.broker.pause(name)

    def resume(self, *names: str) -> None:
        """Let workers take from queues again. Repeatable."""
        for name in dict.fromkeys(names):
            self._app.broker.resume(name)

    def paused(self) -> Sequence[str]:
        """Return the names of the queues that are paused, sorted."""
        return self._app.broker.paused()

    # -- from coroutines ------------------------------------------------------------------------

    async def anames(self) -> list[str]:
        """Return what `names` returns, without blocking the event loop."""
        return await in_thread(self.names)

    async def astats(self, name: str) -> QueueStats:
        """Return what `stats` returns, without blocking the event loop."""
        return await in_thread(self.stats, name)

    async def apeek(
        self, name: str, *, limit: int = 10, offset: int = 0
    ) -> Sequence[Message | Malformed]:
        """Return what `peek` returns, without blocking the event loop."""
        return await in_thread(self.peek, name, limit=limit, offset=offset)

    async def apurge(self, *names: str) -> int:
        """Purge as `purge` does, without blocking the event loop."""
        return await in_thread(self.purge, *names)

    async def apause(self, *names: str) -> None:
        """Pause as `pause` does, without blocking the event loop."""
        await in_thread(self.pause, *names)

    async def aresume(self, *names: str) -> None:
        """Resume as `resume` does, without blocking the event loop."""
        await in_thread(self.resume, *names)

    async def apaused(self) -> Sequence[str]:
        """Return what `paused` returns, without blocking the event loop."""
        return await in_thread(self.paused)
