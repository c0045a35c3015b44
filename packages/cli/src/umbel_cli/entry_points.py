"""Find the entry points of umbel's plugins, without the time that importlib.metadata takes.

Importing that module takes as long as all the rest of ``umbel --help`` does. What is needed here
is one section of one small text file beside each installed package. Where packages are installed
in a way that leaves no such files in folders (zip files, frozen programs), importlib.metadata is
asked after all.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Iterator
from typing import NamedTuple

_SECTION = "[umbel]"
_FILE = "entry_points.txt"


class EntryPoint(NamedTuple):
    """One plugin's entry point."""

    name: str
    #: Its hooks module.
    module: str
    distribution: str

    @property
    def label(self) -> str:
        """Name for people."""
        return self.distribution or self.name


def find_entry_points(search_path: Iterable[str] | None = None) -> list[EntryPoint]:
    """Return the plugins' entry points, by name, each once.

    Args:
        search_path: Folders to look into; None: `sys.path`.
    """
    places = list(dict.fromkeys(sys.path if search_path is None else search_path))
    if any(os.path.isfile(place) for place in places):  # noqa: PTH113 - hundreds of strings
        return _asked_of_importlib(places)
    found: dict[tuple[str, str], EntryPoint] = {}
    for place in places:
        for entry in _in_folder(place or "."):
            found.setdefault((entry.name, entry.module), entry)
    return sorted(found.values())


def _in_folder(folder: str) -> Iterator[EntryPoint]:
    try:
        with os.scandir(folder) as entries:
            names = [entry.name for entry in entries]
    except OSError:
        return
    for name in names:
        if not name.endswith((".dist-info", ".egg-info")):
            continue
        try:
            with open(f"{folder}/{name}/{_FILE}", encoding="utf-8") as file:  # noqa: PTH123
                text = file.read()
        except (OSError, UnicodeDecodeError):
            continue
        if _SECTION in text:
            distribution = name.rpartition(".")[0].split("-")[0].replace("_", "-")
            yield from _parsed(text, distribution)


def _parsed(text: str, distribution: str) -> Iterator[EntryPoint]:
    inside = False
    for raw in text.splitlines():
        line = raw.strip()
        if line.startswith("["):
            inside = line == _SECTION
        elif inside and "=" in line and not line.startswith(("#", ";")):
            name, _, module = line.partition("=")
            yield EntryPoint(name.strip(), module.partition("[")[0].strip(), distribution)


def _asked_of_importlib(places: list[str]) -> list[EntryPoint]:
    from importlib.metadata import distributions  # noqa: PLC0415 - see above

    found: dict[tuple[str, str], EntryPoint] = {}
    for distribution in distributions(path=places):
        for entry in distribution.entry_points.select(group=_SECTION.strip("[]")):
            key = (entry.name, entry.module)
            found.setdefault(key, EntryPoint(*key, distribution.name))
    return sorted(found.values())
