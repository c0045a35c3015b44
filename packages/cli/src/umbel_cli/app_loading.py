"""Find the app that ``-A`` names, as Celery does, or say in one line why it can't be loaded.

``module:attr`` names it outright. A module alone is searched for `app`, `celery`, its only Umbel
instance, and, being a package, its sub-modules ``.app`` and ``.celery``.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import NamedTuple

from umbel import Umbel
from umbel.errors import AppLoadError, ConfigError, PluginError, near_matches
from umbel_cli.import_errors import explain, explain_missing

#: Attributes and sub-modules that are looked at first, in order.
_USUAL_NAMES = ("app", "celery")


class LoadedApp(NamedTuple):
    """An app, and the path by which another process finds the same one."""

    app: Umbel
    #: ``"module:attr"``.
    path: str


def load_app(path: str) -> LoadedApp:
    """Import the app that `path`, ``module[:attr]``, names.

    Raises:
        AppLoadError: there is no such module or app, or the module can't be imported.
        ConfigError: the module made an app with a wrong setting.
    """
    working_directory_first()
    name, colon, attribute = path.strip().partition(":")
    _check_name(path, name)
    if colon and attribute:
        return _named(path, _import(path, name), attribute)
    try:
        module = _import(path, name)
    except AppLoadError as error:
        if (found := _dotted(path, name, error)) is not None:
            return found
        raise
    found = _search(path, module)
    if found is None:
        raise AppLoadError(
            f"can't load app {path!r}: there is no Umbel app in {_shown(module)}"
            f"{_hint_of_others(module)}"
        )
    return found


def import_tasks(loaded: LoadedApp) -> None:
    """Import the modules with the app's tasks. Repeatable.

    Raises: as `load_app`.
    """
    with _explained(loaded.path):
        loaded.app.import_tasks()


def working_directory_first() -> None:
    """Put the working directory at the head of the module search path."""
    here = os.getcwd()  # noqa: PTH109 - as sys.path has it: text
    if sys.path[:1] != [here]:
        sys.path.insert(0, here)


def _check_name(path: str, name: str) -> None:
    """Refuse file names with the module name that was meant."""
    if name.endswith(".py") or "/" in name or "\\" in name:
        stem = name.removesuffix(".py").replace("\\", "/").removeprefix("./").strip("/")
        rest = path.partition(":")[2]
        meant = stem.replace("/", ".") + (f":{rest}" if rest else "")
        raise AppLoadError(
            f"can't load app {path!r}: that is a file, name its module; did you mean -A {meant}?"
        )
    if not name or not all(part.isidentifier() for part in name.split(".")):
        raise AppLoadError(f"can't load app {path!r}: it must look like 'module' or 'module:attr'")


def _import(path: str, name: str) -> ModuleType:
    with _explained(path):
        try:
            return importlib.import_module(name)
        except ModuleNotFoundError as error:
            if why := explain_missing(name, error):
                raise AppLoadError(f"can't load app {path!r}: {why}") from error
            raise


@contextmanager
def _explained(path: str) -> Iterator[None]:
    """Say in one line what goes wrong in a user's code, and where."""
    try:
        yield
    except AppLoadError:
        raise
    except (ConfigError, PluginError) as error:
        raise ConfigError(f"can't load app {path!r}: {explain(error)}") from error
    except (Exception, SystemExit) as error:
        raise AppLoadError(f"can't load app {path!r}: {explain(error)}") from error


def _dotted(path: str, name: str, error: AppLoadError) -> LoadedApp | None:
    """Read ``package.attr``, Celery's other way to write ``package:attr``."""
    package, _, attribute = name.rpartition(".")
    cause = error.__cause__
    if not package or not isinstance(cause, ModuleNotFoundError) or cause.name != name:
        return None
    module = _import(path, package)
    value = getattr(module, attribute, None)
    return LoadedApp(value, f"{package}:{attribute}") if isinstance(value, Umbel) else None


def _named(path: str, module: ModuleType, attribute: str) -> LoadedApp:
    value: object = module
    for part in attribute.split("."):
        try:
            value = getattr(value, part)
        except AttributeError:
            raise AppLoadError(
                f"can't load app {path!r}: {_shown(module)} has no attribute {attribute!r}"
                f"{_hint_of_near(module, attribute)}"
            ) from None
    if isinstance(value, Umbel):
        return LoadedApp(value, f"{module.__name__}:{attribute}")
    if isinstance(value, ModuleType) and (found := _search(path, value)) is not None:
        return found
    raise AppLoadError(
        f"can't load app {path!r}: {attribute!r} is a {type(value).__name__}, not an Umbel app"
        f"{_hint_of_others(module)}"
    )


def _search(path: str, module: ModuleType) -> LoadedApp | None:
    apps = _apps_in(module)
    for name in _USUAL_NAMES:
        if name in apps:
            return LoadedApp(apps[name], f"{module.__name__}:{name}")
    distinct = {id(app): name for name, app in reversed(apps.items())}
    if len(distinct) > 1:
        raise AppLoadError(
            f"can't load app {path!r}: {_shown(module)} has {len(distinct)} apps, "
            f"{' and '.join(sorted(distinct.values()))}; say which: "
            f"-A {module.__name__}:{min(distinct.values())}"
        )
    for name in distinct.values():
        return LoadedApp(apps[name], f"{module.__name__}:{name}")
    for name in _USUAL_NAMES if hasattr(module, "__path__") else ():
        below = f"{module.__name__}.{name}"
        if importlib.util.find_spec(below) is None:
            continue
        found = _search(path, _import(path, below))
        if found is not None:
            return found
    return None


def _apps_in(module: ModuleType) -> dict[str, Umbel]:
    return {name: value for name, value in vars(module).items() if isinstance(value, Umbel)}


def _hint_of_near(module: ModuleType, attribute: str) -> str:
    apps = _apps_in(module)
    close = near_matches(attribute, apps, limit=1) or near_matches(attribute, vars(module), limit=1)
    if close:
        return f"; did you mean {close[0]!r}?"
    return _hint_of_others(module)


def _hint_of_others(module: ModuleType) -> str:
    apps = sorted(_apps_in(module))
    return f" (apps there: {', '.join(apps)})" if apps else ""


def _shown(module: ModuleType) -> str:
    file = getattr(module, "__file__", None)
    return f"module {module.__name__!r} ({file})" if file else f"module {module.__name__!r}"
