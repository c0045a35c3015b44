"""Telling that a queue is used: umbel's set of queues, and kombu's bindings of exchanges."""

from __future__ import annotations

from collections.abc import Iterable

from umbel.messages import Message
from umbel_broker_redis.keys import SEPARATOR, Keys
from umbel_redis_client import Call, Client, raised


class Bindings:
    """Tells it once a handle, exchange and queue."""

    def __init__(self, client: Client, keys: Keys) -> None:
        self._client, self._keys = client, keys
        self._known: set[tuple[str, str]] = set()

    def tell(self, messages: Iterable[Message]) -> None:
        """Tell of the queues of `messages`, where this wasn't told before.

        Raises: ReplyError, ConnectionLostError.
        """
        known = self._known
        new: dict[tuple[str, str], str] = {}
        for message in messages:
            name = (message.exchange, message.queue)
            if name not in known:
                new[name] = message.routing_key or message.queue
        if not new:
            return
        calls = []
        for (exchange, queue), routing_key in new.items():
            calls.append(Call.of("SADD", self._keys.queues, queue))
            if exchange:  # the default exchange needs none
                member = f"{routing_key}{SEPARATOR}{SEPARATOR}{queue}"
                calls += [Call.of("SADD", key, member) for key in self._keys.binding(exchange)]
        raised(self._client.pipeline(calls))
        known.update(new)

    def forget(self) -> None:
        """Tell again: the server may have been started anew, without what was told."""
        self._known.clear()
