"""How many messages may wait in a queue, for the embedded brokers."""

from __future__ import annotations

from collections.abc import Iterable, Mapping


def added(bounds: Mapping[str, int], queues: Iterable[str]) -> dict[str, int]:
    """Return how many of `queues`, one for each message to be sent, go to which bounded queue."""
    counts: dict[str, int] = {}
    for queue in queues:
        if queue in bounds:
            counts[queue] = counts.get(queue, 0) + 1
    return counts
