"""Finding the modules that define tasks, and importing them."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from importlib import import_module
from importlib.util import find_spec

from umbel.errors import AppLoadError, ConfigError

#: Distributions with tasks of their own name their modules under this entry-point group.
ENTRY_POINT_GROUP = "umbel.tasks"

Packages = Iterable[str] | Callable[[], Iterable[str]]


def related_modules(packages: Packages, related_name: str | None) -> list[str]:
    """Return the modules called `related_name` that `packages` have, in order.

    Args:
        packages: Dotted names, or what returns them.
        related_name: Such as ``"tasks"``; None: the packages themselves.
    Raises: ConfigError: a package isn't there, or `packages` isn't a list of names.
    """
    names = packages() if callable(packages) else packages
    if isinstance(names, str):
        raise ConfigError(f"autodiscover_tasks() takes a list of packages; pass [{names!r}]")
    found = []
    for package in names:
        if not _exists(package):
            raise ConfigError(f"autodiscover_tasks(): there is no package {package!r}")
        module = package if related_name is None else f"{package}.{related_name}"
        if related_name is None or _exists(module):
            found.append(module)
    return found


def import_modules(names: Iterable[str]) -> None:
    """Import modules that must be there.

    Raises: AppLoadError: one isn't. What goes wrong inside of one passes through as it is.
    """
    for name in names:
        try:
            import_module(name)
        except ModuleNotFoundError as exc:
            # Of a parent, or of the module itself: not of something that it imports.
            if exc.name is not None and f"{name}.".startswith(f"{exc.name}."):
                raise AppLoadError(
                    f"no module named {exc.name!r}, which include= or imports= asks for ({name!r})"
                ) from exc
            raise


def import_entry_points() -> None:
    """Import the task modules that installed distributions name.

    Raises: AppLoadError: one can't be imported; the text names its distribution.
    """
    from importlib.metadata import entry_points  # noqa: PLC0415 - costs milliseconds

    for entry in entry_points(group=ENTRY_POINT_GROUP):
        try:
            entry.load()
        except Exception as exc:
            owner = entry.dist.name if entry.dist is not None else "?"
            raise AppLoadError(
                f"tasks {entry.value!r} of distribution {owner!r} can't be imported: "
                f"{type(exc).__name__}: {exc}"
            ) from exc


def _exists(module: str) -> bool:
    """Tell whether a module can be found. Imports its parents, and lets their errors pass."""
    try:
        return find_spec(module) is not None
    except ModuleNotFoundError as exc:
        # A parent that isn't there, or is no package.
        if exc.name is not None and f"{module}.".startswith(f"{exc.name}."):
            return False
        raise
    except ValueError:  # a module without a spec, such as __main__
        return True
