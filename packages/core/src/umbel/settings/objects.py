"""Settings out of Python: modules, classes, instances and mappings, also by dotted name.

With a namespace only the names in it count: ``CELERY_TASK_ALWAYS_EAGER`` under ``CELERY``.
Without one every lower-case public name with plain data is a setting, or a mistake.
"""

from __future__ import annotations

import sys
import types
from collections.abc import Container, Iterable, Iterator, Mapping
from datetime import timedelta
from importlib import import_module
from typing import Any

from umbel.errors import ConfigError
from umbel.settings.celery_names import instead, new_name
from umbel.settings.layers import Given, Layer, Problem

#: What a name may hold to be taken for a setting. A class, function or module that a module
#: imports is none, nor is a logger or another object that it makes for itself.
_PLAIN = (bool, int, float, str, bytes, list, tuple, dict, set, frozenset, timedelta, type(None))


def load_object(name: str, *, silent: bool = False) -> Any:
    """Import what ``"module"``, ``"module:attribute"`` or ``"module.attribute"`` names.

    Args:
        name: The dotted name.
        silent: Return None where the module doesn't exist. What goes wrong inside of it is
            raised all the same.
    Raises:
        ConfigError: There is no such module or attribute.
    """
    module_name, colon, attributes = name.partition(":")
    try:
        found = import_module(module_name)
    except ModuleNotFoundError as exc:
        if exc.name is None or not f"{module_name}.".startswith(f"{exc.name}."):
            raise
        if not colon and (parent := sys.modules.get(module_name.rpartition(".")[0])) is not None:
            attribute = module_name.rpartition(".")[2]
            if hasattr(parent, attribute):
                return getattr(parent, attribute)
        if silent:
            return None
        raise ConfigError(
            f"settings can't be read from {name!r}: there is no module {exc.name!r}; it must be "
            f"importable from sys.path"
        ) from None
    for attribute in attributes.split(".") if attributes else ():
        try:
            found = getattr(found, attribute)
        except AttributeError:
            raise ConfigError(
                f"settings can't be read from {name!r}: {module_name!r} has no {attributes!r}"
            ) from None
    return found


def from_object(source: Any, names: Container[str], *, namespace: str | None = None) -> Layer:
    """Return what the module, class, instance or mapping `source` gives.

    Args:
        source: Where the settings stand.
        names: The settings that there are.
        namespace: Read only names that begin with it and an underscore, in its case.
    """
    where = _where(source)
    if namespace:
        return _in_namespace(source, names, f"{namespace}_", where)
    given: dict[str, Given] = {}
    problems: list[Problem] = []
    written = set(_names(source))
    for name in sorted(written):
        present = new_name(name, names)
        if present is not None and present not in written:
            problems.append(Problem(name, _old_name(name, present, names), where))
        elif present is None and _may_be_setting(source, name, name, names):
            given[name] = Given(value=_value(source, name), source=where, written=name)
    return Layer(given, tuple(problems))


def _in_namespace(source: Any, names: Container[str], prefix: str, where: str) -> Layer:
    given: dict[str, Given] = {}
    for written in _names(source):
        name = written.removeprefix(prefix).lower()
        if not written.startswith(prefix) or not _may_be_setting(source, written, name, names):
            continue
        value = _value(source, written)
        given[name] = Given(value=value, source=f"{written} in {where}", written=written)
    return Layer(given)


def _old_name(name: str, present: str, names: Container[str]) -> str:
    """Say what to write instead of the upper-case `name`, which would not be read."""
    if present not in names:
        return f"is a setting of Celery that umbel doesn't have: {instead(present) or 'remove it'}"
    hint = ' (or pass namespace="CELERY")' if name.startswith("CELERY_") else ""
    return f"isn't read: settings are written in lower case; write {present}{hint}"


def _may_be_setting(source: Any, written: str, name: str, names: Container[str]) -> bool:
    if name in names or isinstance(source, Mapping):
        return True
    if written.islower():
        return isinstance(_value(source, written), _PLAIN)
    return written != name


def _names(source: Any) -> Iterator[str]:
    """Yield the public names in `source`."""
    found: Iterable[Any]
    if isinstance(source, Mapping):
        found = source.keys()
    elif isinstance(source, types.ModuleType):
        found = vars(source).keys()
    else:
        found = _fields(source) or dir(source)
    for name in found:
        if not isinstance(name, str):
            raise ConfigError(f"settings have names; {name!r} in {_where(source)} isn't one")
        if not name.startswith("_"):
            yield name


def _fields(source: Any) -> Any:
    """Return the declared fields of a dataclass, msgspec struct or pydantic model, if it is one.

    These have methods and class attributes of their own, which aren't settings.
    """
    kind = source if isinstance(source, type) else type(source)
    for attribute in ("__dataclass_fields__", "__struct_fields__", "model_fields"):
        if fields := getattr(kind, attribute, None):
            return fields
    return None


def _value(source: Any, name: str) -> Any:
    return source[name] if isinstance(source, Mapping) else getattr(source, name)


def _where(source: Any) -> str:
    if isinstance(source, types.ModuleType):
        return f"module {source.__name__}"
    if isinstance(source, Mapping):
        return "a mapping given to config_from_object"
    kind = source if isinstance(source, type) else type(source)
    name = f"{kind.__module__}.{kind.__qualname__}"
    return f"class {name}" if isinstance(source, type) else f"an object of class {name}"
