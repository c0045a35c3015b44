"""Countdowns of calls that begin one after the other."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count

from umbel.argument_checks import number


def countdowns(start: float, stop: float | None, step: float) -> Iterator[float]:
    """Return endless countdowns; once `stop` is reached the last one stays, as in Celery.

    Args:
        start: The first one, seconds.
        stop: None is longer, seconds; None: no bound.
        step: Seconds from one to the next.
    Raises: WrongTypeError: one of these is no number.
    """
    number("start", start)
    number("step", step)
    if stop is not None:
        number("stop", stop)
    return _counted(start, stop, step)


def _counted(start: float, stop: float | None, step: float) -> Iterator[float]:
    last = start
    for index in count():
        value = start + index * step
        if stop is None or value <= stop:
            last = value
        yield last
