"""The sources of an app's settings, in their order.

Of two sources that give a setting the first in this order wins: ``conf.update()`` and assignment
(the latest one), the app's constructor, ``config_from_object`` (the latest one), environment
variables, ``umbel.toml``, ``pyproject.toml``. What none of them gives has its default.
"""

from __future__ import annotations

import os
from collections.abc import Container, Mapping, Sequence
from pathlib import Path
from typing import Any

from umbel.settings.environment import from_environment
from umbel.settings.layers import Given, Layer, ObjectSource
from umbel.settings.objects import from_object, load_object
from umbel.settings.toml_files import from_toml


def given_by_code(values: Mapping[str, Any], source: str) -> dict[str, Given]:
    """Return `values`, which the app's own code gave, as they are kept in a layer."""
    return {name: Given(value=value, source=source, written=name) for name, value in values.items()}


def outer_layers(
    objects: Sequence[ObjectSource],
    names: Container[str],
    *,
    environ: Mapping[str, str] | None,
    directory: Path | None,
) -> list[Layer]:
    """Read all sources but the app's own code; the first wins.

    Args:
        objects: In the order of the calls of `config_from_object`.
        names: The settings that there are.
        environ: None: the process's own environment.
        directory: Where the search for files begins; None: the working directory.
    Raises: ConfigError: an object can't be imported.
    """
    layers = [_object_layer(source, names) for source in reversed(objects)]
    layers.append(from_environment(os.environ if environ is None else environ, names))
    if directory is None:
        try:
            directory = Path.cwd()
        except FileNotFoundError:  # it was deleted under us: there is no file to find
            return layers
    return layers + from_toml(directory.absolute())


def _object_layer(called: ObjectSource, names: Container[str]) -> Layer:
    source = called.source
    if isinstance(source, str):
        source = load_object(source, silent=called.silent)
    return Layer() if source is None else from_object(source, names, namespace=called.namespace)
