"""The tasks of one app by name.

`tasks["name"]` raises UnknownTaskError; `resolve` is the quiet look-up that workers use, and it
knows old names (``aliases``) too.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from umbel.errors import AlreadyRegisteredError, UnknownTaskError, near_matches

if TYPE_CHECKING:
    from umbel.tasks.task import Task


class TaskRegistry(Mapping[str, "Task[..., Any]"]):
    """Name → task. Iterates over real names; looking up takes aliases too."""

    def __init__(self) -> None:
        self._tasks: dict[str, Task[..., Any]] = {}
        self._by_any_name: dict[str, Task[..., Any]] = {}
        self._lock = threading.Lock()

    def resolve(self, name: str) -> Task[..., Any] | None:
        """Return the task of that name or alias, or None."""
        return self._by_any_name.get(name)

    def register(self, task: Task[..., Any], *, replace: bool = False) -> None:
        """Add `task` under its name and aliases.

        The same code once more (a module imported again) takes the old one's place.

        Args:
            task: A task with a name.
            replace: Take the name from whatever has it.
        Raises: AlreadyRegisteredError: a name is another task's.
        """
        with self._lock:
            old = self._tasks.get(task.name)
            for name in (task.name, *task.aliases):
                holder = self._by_any_name.get(name)
                if holder is not None and not replace and not same_code(holder, task):
                    raise AlreadyRegisteredError(
                        f"task name {name!r} of {task.defined_at} is taken by "
                        f"{holder.defined_at}; give one of them another name=, "
                        f"or pass replace=True"
                    )
            if old is not None:
                self._drop(old)
            self._tasks[task.name] = task
            for name in (task.name, *task.aliases):
                self._by_any_name[name] = task

    def unregister(self, name: str | Task[..., Any]) -> Task[..., Any]:
        """Remove the task of that name with its aliases, and return it.

        Raises: UnknownTaskError: there is none.
        """
        task = self[name if isinstance(name, str) else name.name]
        with self._lock:
            self._drop(task)
        return task

    def _drop(self, task: Task[..., Any]) -> None:
        self._tasks.pop(task.name, None)
        for name in [key for key, held in self._by_any_name.items() if held is task]:
            del self._by_any_name[name]

    def __getitem__(self, name: str) -> Task[..., Any]:
        task = self._by_any_name.get(name)
        if task is None:
            raise UnknownTaskError(unknown_task_text(name, self._by_any_name))
        return task

    def get(self, name: str, default: Any = None) -> Any:
        """Return the task of that name or alias, or `default`."""
        return self._by_any_name.get(name, default)

    def __contains__(self, name: object) -> bool:
        return name in self._by_any_name

    def __iter__(self) -> Iterator[str]:
        return iter(tuple(self._tasks))

    def __len__(self) -> int:
        return len(self._tasks)

    def __repr__(self) -> str:
        return f"<TaskRegistry: {', '.join(sorted(self._tasks)) or 'empty'}>"


def unknown_task_text(name: str, known: Mapping[str, Any]) -> str:
    """Say that no task is called `name`, with the nearest of `known`."""
    close = near_matches(name, known, limit=1)
    if close:
        return f"no task named {name!r} is registered; did you mean {close[0]!r}?"
    return (
        f"no task named {name!r} is registered ({len(known)} are); "
        f"is its module in include=, or found by autodiscover_tasks()?"
    )


def same_code(one: Task[..., Any], other: Task[..., Any]) -> bool:
    """Tell whether two tasks were made from one definition, seen twice."""
    if one is other:
        return True
    if one.name != other.name or type(one).__qualname__ != type(other).__qualname__:
        return False
    codes = [getattr(task.function, "__code__", task.function) for task in (one, other)]
    return bool(codes[0] == codes[1])
