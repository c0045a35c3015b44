"""Loading an app by its path, in the processes of a worker."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import TYPE_CHECKING, cast

from umbel.errors import AppLoadError

if TYPE_CHECKING:
    from umbel.worker.host import Host


def load_app(path: str, overrides: Mapping[str, object] | None = None) -> Host:
    """Return the app at ``module:attribute``.

    Args:
        path: Dotted module and attribute (itself dotted, perhaps); without one, ``app``.
        overrides: Settings over the app's own.
    Raises: AppLoadError: there is no such attribute. Errors of the import pass through.
    """
    module_name, _, attribute = path.partition(":")
    found: object = importlib.import_module(module_name)
    for part in (attribute or "app").split("."):
        try:
            found = getattr(found, part)
        except AttributeError:
            raise AppLoadError(f"module {module_name!r} has no app {attribute!r}") from None
    host = cast("Host", found)
    if overrides:
        host.conf.update(dict(overrides))
    return host
