"""The types of ``@app.task`` and ``@shared_task``: what a type checker sees of them."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any, Concatenate, Literal, ParamSpec, Protocol, TypeVar, Unpack, overload

from umbel.options import TaskOptions
from umbel.tasks.task import AsyncTask, Task

P = ParamSpec("P")
R = TypeVar("R")


class TaskDecorator(Protocol):
    """Makes a task of a function with the same parameters."""

    @overload
    def __call__(self, fun: Callable[P, Coroutine[Any, Any, R]], /) -> AsyncTask[P, R]: ...
    @overload
    def __call__(self, fun: Callable[P, R], /) -> Task[P, R]: ...


class BoundTaskDecorator(Protocol):
    """Makes a task of a function that takes the task as its first argument."""

    @overload
    def __call__(
        self, fun: Callable[Concatenate[Any, P], Coroutine[Any, Any, R]], /
    ) -> AsyncTask[P, R]: ...
    @overload
    def __call__(self, fun: Callable[Concatenate[Any, P], R], /) -> Task[P, R]: ...


class TaskMaker(Protocol):
    """The decorator itself: used bare, or called with options first."""

    @overload
    def __call__(self, fun: Callable[P, Coroutine[Any, Any, R]], /) -> AsyncTask[P, R]: ...
    @overload
    def __call__(self, fun: Callable[P, R], /) -> Task[P, R]: ...
    @overload
    def __call__(
        self, *, bind: Literal[True], base: None = None, **options: Unpack[TaskOptions]
    ) -> BoundTaskDecorator: ...
    @overload
    def __call__(
        self, *, bind: Literal[False] = False, base: None = None, **options: Unpack[TaskOptions]
    ) -> TaskDecorator: ...

    # A base class may have options of its own, which nothing is known of here.
    @overload
    def __call__(
        self, *, bind: Literal[True], base: type[Task[..., Any]], **options: Any
    ) -> BoundTaskDecorator: ...
    @overload
    def __call__(
        self, *, bind: Literal[False] = False, base: type[Task[..., Any]], **options: Any
    ) -> TaskDecorator: ...
