"""In which order a consumer looks into its queues: each receive takes the names anew."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from enum import StrEnum
from itertools import cycle
from math import log

#: Returns the names for one receive, the first to be looked into first.
Order = Callable[[], Sequence[str]]


class QueueOrder(StrEnum):
    """The values of ``worker_queue_order``."""

    #: Each time another queue is the first: none starves behind a full one.
    ROUND_ROBIN = "round_robin"
    #: As they are given: a queue has its turn when those before it are empty.
    STRICT = "strict"
    #: By lot: of two queues, one of weight 3 goes first three times as often as one of weight 1.
    WEIGHTED = "weighted"


def order_of(
    kind: str,
    queues: Sequence[str],
    weights: Mapping[str, float],
    *,
    draw: Callable[[], float] = random.random,
) -> Order:
    """Return the order of `queues`.

    Args:
        kind: One of `QueueOrder`.
        queues: Not empty.
        weights: Above 0, by queue, for WEIGHTED; others have 1.
        draw: Returns a number from 0 to below 1.
    """
    names = list(queues)
    if len(names) == 1 or kind == QueueOrder.STRICT:
        return lambda: names
    if kind == QueueOrder.ROUND_ROBIN:
        return cycle([names[at:] + names[:at] for at in range(len(names))]).__next__
    means = {name: 1.0 / weights.get(name, 1.0) for name in names}
    # Who waits a random time of such a mean is the first with a chance that goes by its weight.
    return lambda: sorted(names, key=lambda name: -log(1.0 - draw()) * means[name])
