"""The current app, and tasks that belong to none: a thin layer for libraries of tasks.

Apps know nothing of each other, and nothing else of umbel looks here. `shared_task` is for code
that doesn't know its app: each app takes these tasks in when it is finalized. Using one resolves
to the current app: the one that was made current, else the only one there is.
"""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable
from typing import Any, Protocol, cast

from umbel.errors import NoCurrentAppError
from umbel.registry import TaskRegistry
from umbel.sendable import set_default_sender
from umbel.sender import Sender
from umbel.tasks.decorators import TaskMaker
from umbel.tasks.task import Task


class CurrentApp(Sender, Protocol):
    """What this layer needs of an app."""

    @property
    def finalized(self) -> bool:
        """Whether the app has taken the shared tasks in."""

    @property
    def registry(self) -> TaskRegistry:
        """The app's tasks, as far as they are known now."""

    @property
    def shared_tasks(self) -> dict[Any, Task[..., Any]]:
        """What the app has made of shared tasks. Kept by the app, and freed with it."""

    def define_task(
        self, function: Callable[..., Any], *, bind: bool, base: Any, options: dict[str, Any]
    ) -> Task[..., Any]:
        """Make `function` a task of the app."""


_lock = threading.Lock()
_apps: weakref.WeakSet[Any] = weakref.WeakSet()
_chosen: weakref.ref[Any] | None = None
_shared: list[SharedTask] = []


def add_app(app: CurrentApp) -> None:
    """Know of `app`, without keeping it alive."""
    _apps.add(app)


def live_apps() -> list[Any]:
    """Return the apps of this process that somebody still holds."""
    return list(_apps)


def set_current(app: CurrentApp | None) -> None:
    """Make `app` the one that shared tasks resolve to; None: choose none."""
    global _chosen  # noqa: PLW0603 - the one thing that is global by design
    _chosen = None if app is None else weakref.ref(app)


def current_app() -> Any:
    """Return the current app: the one made current, else the only one there is.

    Raises: NoCurrentAppError: there is none, or there are several.
    """
    chosen = _chosen() if _chosen is not None else None
    if chosen is not None:
        return chosen
    apps = list(_apps)
    if len(apps) == 1:
        return apps[0]
    if not apps:
        raise NoCurrentAppError("there is no app in this process; make one, or import its module")
    names = ", ".join(sorted(repr(app.main) for app in apps))
    raise NoCurrentAppError(
        f"there are {len(apps)} apps in this process ({names}) and none is the current one; "
        f"call app.set_current() on one of them"
    )


set_default_sender(current_app)


def take_shared_tasks(app: CurrentApp) -> None:
    """Define all shared tasks in `app`."""
    with _lock:
        shared = list(_shared)
    for each in shared:
        each.define_in(app)


class SharedTask:
    """A task of every app; stands for the one of the current app."""

    def __init__(
        self, function: Callable[..., Any], *, bind: bool, base: Any, options: dict[str, Any]
    ) -> None:
        self._function, self._bind, self._base = function, bind, base
        self._options = options
        for attribute in ("__name__", "__qualname__", "__module__", "__doc__"):
            setattr(self, attribute, getattr(function, attribute, None))
        self.__wrapped__ = function

    def define_in(self, app: CurrentApp) -> Task[..., Any]:
        """Return this task in `app`, made there if need be."""
        task = app.shared_tasks.get(self)
        if task is None:
            task = app.shared_tasks[self] = app.define_task(
                self._function, bind=self._bind, base=self._base, options=dict(self._options)
            )
        return task

    def current(self) -> Task[..., Any]:
        """Return this task in the current app. Raises: NoCurrentAppError."""
        try:
            app = current_app()
        except NoCurrentAppError as exc:
            what = f"{self._function.__module__}.{self._function.__qualname__}"
            raise NoCurrentAppError(f"shared task {what!r} has no app to run in: {exc}") from exc
        return self.define_in(app)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Run the task here and now, as a function; that needs no app, unless it is bound."""
        if self._bind or self._base is not None:
            return self.current()(*args, **kwargs)
        return self._function(*args, **kwargs)

    def __getattr__(self, name: str) -> Any:
        try:
            task = self.current()
        except NoCurrentAppError as exc:
            if hasattr(Task, name):
                raise
            # So that `hasattr`, and all that asks it (inspect, pytest), needs no app.
            raise AttributeError(f"a task has no attribute {name!r} without an app: {exc}") from exc
        return getattr(task, name)

    def __reduce__(self) -> str:
        return str(self.__qualname__)

    def __repr__(self) -> str:
        return f"<SharedTask {self._function.__module__}.{self._function.__qualname__}>"


def _shared_task(
    function: Callable[..., Any] | None = None,
    /,
    *,
    bind: bool = False,
    base: Any = None,
    **options: Any,
) -> Any:
    """Make a task of every app, for code that doesn't know its app; options as of ``@app.task``.

    Apps that are finalized already take it in at once, others when they are.
    """
    if function is None:
        return lambda given: _shared_task(given, bind=bind, base=base, **options)
    task = SharedTask(function, bind=bind, base=base, options=options)
    with _lock:
        _shared.append(task)
    for app in list(_apps):
        if app.finalized:
            task.define_in(app)
    return task


shared_task = cast("TaskMaker", _shared_task)
