"""Blocking calls from coroutines."""

from __future__ import annotations

from collections.abc import Callable
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
R = TypeVar("R")


async def in_thread(function: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
    """Call a function that blocks on another thread, in this context; return what it returns."""
    import asyncio  # noqa: PLC0415 - costs start-up time; where this is called a loop runs already

    return await asyncio.to_thread(function, *args, **kwargs)
