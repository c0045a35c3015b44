"""``task_routes`` made into a table that says what it has for a task, and why.

Forms, as in Celery: a mapping of task names, globs or compiled patterns to a queue or to options;
a list of such pairs; a function, or the dotted name of one; a list of all these, of which the
first that has something for the task wins.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from fnmatch import translate
from importlib import import_module
from typing import Any, TypeAlias

import msgspec

from umbel.errors import ConfigError
from umbel.messages import MAX_PRIORITY

#: (name, args, kwargs, options, task=…) → options, a queue, or None to leave it to others.
RouterFunction: TypeAlias = Callable[..., Mapping[str, Any] | str | None]


class Route(msgspec.Struct, frozen=True):
    """What the table has for a task."""

    #: queue, priority, exchange, routing_key, and any other option of a send.
    options: dict[str, Any]
    #: For people: which entry says so.
    source: str


class _ByName:
    """Names, globs and patterns. An exact name wins; then the first pattern that matches."""

    #: Whether the answer goes by the task's name alone.
    is_static = True

    def __init__(self, pairs: Iterable[tuple[Any, Any]], where: str) -> None:
        self._exact: dict[str, Route] = {}
        self._patterns: list[tuple[re.Pattern[str], Route]] = []
        for key, value in pairs:
            is_pattern = isinstance(key, re.Pattern) and isinstance(key.pattern, str)
            if not (is_pattern or isinstance(key, str)):
                raise ConfigError(f"{where} has a key that is no task name: {key!r:.80}")
            source = f"{where}[{key.pattern if is_pattern else repr(key)}]"
            route = Route(read_options(value, source), source)
            if is_pattern:
                self._patterns.append((key, route))
            elif _is_glob(key):
                self._patterns.append((re.compile(translate(key)), route))
            else:
                self._exact[key] = route

    def find(
        self, name: str, args: Any, kwargs: Any, options: Mapping[str, Any], task: Any
    ) -> Route | None:
        found = self._exact.get(name)
        if found is not None:
            return found
        for pattern, route in self._patterns:
            if pattern.match(name):
                return route
        return None

    def routes(self) -> Iterable[Route]:
        """Return all that it may answer."""
        yield from self._exact.values()
        for _, route in self._patterns:
            yield route


class _ByFunction:
    """A function; where its dotted name was given, it is imported when it is first needed."""

    is_static = False

    def __init__(self, given: Any, where: str) -> None:
        self._given, self._where = given, where
        self._function: RouterFunction | None = None

    def load(self) -> RouterFunction:
        """Return the function. Raises: ConfigError: there is none of that name."""
        if self._function is None:
            given = self._given
            if isinstance(given, str):
                given = _import(given, self._where)
            if isinstance(given, type) and hasattr(given, "route_for_task"):
                given = given()
            self._function = _as_function(given, self._where)
        return self._function

    def find(
        self, name: str, args: Any, kwargs: Any, options: Mapping[str, Any], task: Any
    ) -> Route | None:
        answer = self.load()(name, args, kwargs, options, task=task)
        if answer is None:
            return None
        shown = self._given if isinstance(self._given, str) else _name_of(self._given)
        source = f"{self._where} ({shown})"
        return Route(read_options(answer, source), source)


class RouteTable:
    """All of ``task_routes``. Raises ConfigError where it is malformed."""

    def __init__(self, task_routes: Any) -> None:
        self._entries: tuple[_ByName | _ByFunction, ...] = tuple(_entries(task_routes))

    def find(
        self,
        name: str,
        args: Any = (),
        kwargs: Any = None,
        options: Mapping[str, Any] | None = None,
        task: Any = None,
    ) -> tuple[Route | None, bool]:
        """Return what the table has for a task, and whether it has it for all its calls.

        Raises: ConfigError: a function can't be imported, or answers something that is no route.
        """
        is_static = True
        for entry in self._entries:
            is_static = is_static and entry.is_static
            found = entry.find(name, args, kwargs or {}, options or {}, task)
            if found is not None:
                return found, is_static
        return None, is_static

    def static_routes(self) -> Iterable[Route]:
        """Return what entries other than functions may answer."""
        for entry in self._entries:
            if isinstance(entry, _ByName):
                yield from entry.routes()

    def load(self) -> None:
        """Import the functions that were given by name. Raises: ConfigError."""
        for entry in self._entries:
            if isinstance(entry, _ByFunction):
                entry.load()


def read_options(value: Any, source: str) -> dict[str, Any]:
    """Return a route, given as a queue or a mapping, as options. Raises: ConfigError."""
    if isinstance(value, Mapping):
        options = {key: item for key, item in value.items() if item is not None}
        if "queue" in options:
            options["queue"] = queue_name(options["queue"], source)
    else:
        options = {"queue": queue_name(value, source)}
    if "priority" in options:
        check_priority(options["priority"], source)
    return options


def queue_name(value: Any, source: str) -> str:
    """Return the name of a queue, given as that or as an object with a name, such as kombu's.

    Raises: ConfigError: it is neither.
    """
    name = value if isinstance(value, str) else getattr(value, "name", None)
    if not isinstance(name, str) or not name:
        raise ConfigError(
            f"{source} must give a queue's name or a mapping of options, not {value!r:.80}"
        )
    return name


def check_priority(value: Any, source: str) -> None:
    """Raise ConfigError unless `value` is a priority."""
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= MAX_PRIORITY:
        raise ConfigError(
            f"the priority of {source} must be a whole number from 0 to {MAX_PRIORITY} "
            f"(higher goes first), not {value!r:.80}"
        )


def _entries(task_routes: Any) -> Iterable[_ByName | _ByFunction]:
    if task_routes is None:
        return
    if isinstance(task_routes, (list, tuple)):
        for index, item in enumerate(task_routes):
            yield _entry(item, f"task_routes[{index}]")
    else:
        yield _entry(task_routes, "task_routes")


def _entry(item: Any, where: str) -> _ByName | _ByFunction:
    if isinstance(item, Mapping):
        return _ByName(item.items(), where)
    if isinstance(item, (list, tuple)):
        pairs = [item] if _is_pair(item) else item
        if not all(map(_is_pair, pairs)):
            raise ConfigError(f"{where} must be pairs of a task and a route, not {item!r:.200}")
        return _ByName([(pair[0], pair[1]) for pair in pairs], where)
    if isinstance(item, str) or callable(item) or hasattr(item, "route_for_task"):
        return _ByFunction(item, where)
    raise ConfigError(
        f"{where} must be a mapping, a list of pairs, a function or its dotted name, "
        f"not {item!r:.80}"
    )


def _is_pair(item: Any) -> bool:
    return (
        isinstance(item, (list, tuple))
        and len(item) == 2
        and isinstance(item[0], (str, re.Pattern))
        and not isinstance(item[1], (list, tuple))
    )


def _is_glob(key: str) -> bool:
    return any(sign in key for sign in "*?[")


def _as_function(given: Any, where: str) -> RouterFunction:
    method = getattr(given, "route_for_task", None)
    if method is not None:  # Celery's older form: a class, called without options and task
        return lambda name, args, kwargs, *_, **__: method(name, args, kwargs)
    if not callable(given):
        raise ConfigError(f"{where} must name a function, not {given!r:.80}")
    function: RouterFunction = given
    return function


def _import(path: str, where: str) -> Any:
    module, _, name = path.replace(":", ".").rpartition(".")
    if not module:
        raise ConfigError(
            f"{where} must be the dotted name of a function such as 'proj.routes.pick', not {path!r}"
        )
    try:
        return getattr(import_module(module), name)
    except (ImportError, AttributeError) as exc:
        raise ConfigError(f"{where} names {path!r}, which can't be imported: {exc}") from exc


def _name_of(given: Any) -> str:
    return getattr(given, "__qualname__", None) or type(given).__qualname__
