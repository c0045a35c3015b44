"""``task_annotations``: settings that rewrite the options of tasks.

A dict maps names, globs or ``"*"`` to options (or to a callable that makes them of the task); a
list holds several such dicts, objects with an `annotate(task)` method, callables, or dotted
paths to any of these. The exact name wins over a glob, a glob over ``"*"``, a later list entry
over an earlier one.
"""

from __future__ import annotations

from collections.abc import Mapping
from fnmatch import fnmatchcase
from importlib import import_module
from typing import TYPE_CHECKING, Any

from umbel.errors import ConfigError, InvalidTaskError
from umbel.options import check_task_options

if TYPE_CHECKING:
    from umbel.tasks.definition import TaskDefinition


def annotations_for(task: TaskDefinition, source: Any) -> dict[str, Any]:
    """Return the options that `source`, a ``task_annotations`` setting, gives to `task`.

    Raises: ConfigError: an entry is of no known form, or gives an option that isn't one.
    """
    found: dict[str, Any] = {}
    if not source:
        return found
    for entry in source if isinstance(source, (list, tuple)) else (source,):
        found.update(_of_entry(task, entry))
    try:
        check_task_options(repr(task.name), found, frozenset(dir(type(task))))
    except InvalidTaskError as exc:
        raise ConfigError(f"task_annotations: {exc}") from exc
    return found


def _of_entry(task: TaskDefinition, entry: Any) -> Mapping[str, Any]:
    if isinstance(entry, str):
        entry = _load(entry)
    if isinstance(entry, Mapping):
        merged: dict[str, Any] = {}
        for options in _matching(task.name, entry):
            merged.update(_options(task, options))
        return merged
    annotate = getattr(entry, "annotate", None)
    return _options(task, annotate if annotate is not None else entry)


def _matching(name: str, table: Mapping[str, Any]) -> list[Any]:
    """Return the values whose key fits `name`, the most special last."""
    globs = [
        value
        for key, value in table.items()
        if key not in ("*", name) and any(char in key for char in "*?[") and fnmatchcase(name, key)
    ]
    ordered = [table.get("*"), *globs, table.get(name)]
    return [value for value in ordered if value is not None]


def _options(task: TaskDefinition, options: Any) -> Mapping[str, Any]:
    if callable(options):
        options = options(task)
    if options is None:
        return {}
    if not isinstance(options, Mapping):
        raise ConfigError(
            f"task_annotations: options for task {task.name!r} must be a dict, not {options!r:.80}"
        )
    return options


def _load(path: str) -> Any:
    module, _, name = path.rpartition(".")
    try:
        return getattr(import_module(module), name)
    except (ImportError, AttributeError, ValueError) as exc:
        raise ConfigError(f"task_annotations: can't import {path!r}: {exc}") from exc
