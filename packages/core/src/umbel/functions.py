"""What a task needs to know of a function. Not by `inspect`, which takes long to import."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

_CO_COROUTINE = 0x80  # inspect.CO_COROUTINE


def is_coroutine_function(function: Callable[..., Any]) -> bool:
    """Tell whether calling `function` gives a coroutine: an ``async def``, also behind a partial,
    a method or an object's ``__call__``.
    """
    while isinstance(function, partial):
        function = function.func
    function = getattr(function, "__func__", function)
    if hasattr(function, "_is_coroutine_mark"):  # inspect.markcoroutinefunction, Python 3.12
        return True
    code = getattr(function, "__code__", None)
    if code is None and not isinstance(function, type):
        code = getattr(type(function).__call__, "__code__", None) if callable(function) else None
    return code is not None and bool(code.co_flags & _CO_COROUTINE)


def short_name(thing: Callable[..., Any] | type) -> str:
    """Return a function's or class's name for a task: qualified, without enclosing functions."""
    return thing.__qualname__.rpartition("<locals>.")[2]
