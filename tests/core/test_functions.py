from __future__ import annotations

from functools import partial, wraps

import pytest

from umbel.functions import is_coroutine_function, short_name


async def coroutine():
    return 1


def function():
    return 1


async def generator():
    yield 1


class Callable:
    async def __call__(self):
        return 1

    async def method(self):
        return 1

    @classmethod
    async def for_class(cls):
        return 1

    @staticmethod
    def plain():
        return 1


@wraps(coroutine)
def wrapper():
    return 1


@pytest.mark.parametrize(
    "given",
    [
        coroutine,
        partial(coroutine),
        partial(partial(coroutine)),
        Callable(),
        Callable().method,
        Callable.for_class,
    ],
)
def test_coroutine_function_is_known_as_one(given):
    assert is_coroutine_function(given)


@pytest.mark.parametrize(
    "given", [function, partial(function), generator, Callable, Callable.plain, wrapper, print, int]
)
def test_other_function_is_none(given):
    assert not is_coroutine_function(given)


def test_name_leaves_enclosing_functions_out():
    def inner():
        return 1

    class Local:
        def method(self):
            return 1

    assert short_name(inner) == "inner"
    assert short_name(Local.method) == "Local.method"
    assert short_name(Callable.method) == "Callable.method"
