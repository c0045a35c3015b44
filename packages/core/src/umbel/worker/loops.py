"""Event loops of worker threads: they outlast whatever tasks do to them."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")

logger = logging.getLogger("umbel.worker")

#: How often a loop is resumed under one coroutine: what ends it more often isn't an accident.
_MOST_RESUMES = 100
#: Seconds that what tasks left on a loop gets to be cancelled.
_CLOSE_S = 0.5


def run_to_end(loop: asyncio.AbstractEventLoop, coroutine: Coroutine[Any, Any, T]) -> T:
    """Run `coroutine` to its end, even if something else on the loop stops it meanwhile.

    A task's background task may raise SystemExit or call ``loop.stop()``, and a task may cancel
    itself as it returns: none of these is the end of what runs here.

    Raises: what `coroutine` raises; RuntimeError: the loop can't be run.
    """
    found: list[T] = []

    async def run() -> None:
        found.append(await coroutine)

    task = loop.create_task(run())
    for _ in range(_MOST_RESUMES):
        try:
            loop.run_until_complete(task)
        except KeyboardInterrupt:
            task.cancel()
            raise
        except BaseException as exc:
            if found:
                break
            if task.done() or loop.is_closed():
                raise
            logger.error("something in the background of a task stopped its event loop: %r", exc)
        if task.done():
            break
    if not found:
        raise RuntimeError("the event loop was stopped again and again")
    return found[0]


def close(loop: asyncio.AbstractEventLoop) -> None:
    """Cancel what is left on `loop`, and close it. Never raises."""
    if loop.is_closed():
        return
    try:
        left = asyncio.all_tasks(loop)
        for task in left:
            task.cancel()
        if left:
            loop.run_until_complete(asyncio.wait(left, timeout=_CLOSE_S))
        loop.run_until_complete(loop.shutdown_asyncgens())
    except BaseException as exc:  # noqa: BLE001 - tasks of users do as they like
        logger.debug("what tasks left on an event loop did not end well: %r", exc)
    finally:
        loop.close()
