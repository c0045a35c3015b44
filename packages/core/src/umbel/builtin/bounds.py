"""How many messages may wait in a queue, for the embedded brokers."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from umbel.errors import QueueFullError


def added(bounds: Mapping[str, int], queues: Iterable[str]) -> dict[str, int]:
    """Return how many of `queues`, one for each message to be sent, go to which bounded queue."""
    counts: dict[str, int] = {}
    for queue in queues:
        if queue in bounds:
            counts[queue] = counts.get(queue, 0) + 1
    return counts


def queue_full(queue: str, bound: int, adding: int) -> QueueFullError:
    """Return the error of a queue that hasn't room for `adding` more."""
    if adding > bound:
        return QueueFullError(
            f"{adding} messages at once don't fit into queue {queue!r}, whose max_length is "
            f"{bound}, and nothing was sent; send smaller batches",
            queue=queue,
        )
    return QueueFullError(
        f"queue {queue!r} is full: its max_length is {bound}, and {adding} more would go beyond "
        f"it, so nothing was sent; try again later, or let the queue block (overflow='block')",
        queue=queue,
    )
