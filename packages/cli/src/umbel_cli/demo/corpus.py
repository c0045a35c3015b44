"""What the demo works on: the source files of the standard library on this machine."""

from __future__ import annotations

import os
import sysconfig
from collections.abc import Iterator
from pathlib import Path

#: Folders inside the library's that aren't part of it, or hold no sources.
_LEFT_OUT = frozenset({"site-packages", "dist-packages", "__pycache__"})


def library_folder() -> Path:
    """Return the folder of the standard library of this Python."""
    return Path(sysconfig.get_path("stdlib"))


def source_files(*, limit: int | None = None) -> list[str]:
    """Return the library's source files, relative to its folder, sorted; at most `limit`.

    With a limit they are spread over the whole library, not its first ones.
    """
    root = library_folder()
    files = sorted(_walk(root))
    if limit is None or limit >= len(files):
        return files
    return [files[at * len(files) // limit] for at in range(limit)]


def module_name(file: str) -> str:
    """Return the dotted name of the module in `file`, a path relative to the library."""
    return file.removesuffix(".py").removesuffix("/__init__").replace("/", ".")


def _walk(root: Path) -> Iterator[str]:
    for folder, names, files in os.walk(root):
        names[:] = [name for name in names if name not in _LEFT_OUT]
        for file in files:
            if file.endswith(".py"):
                yield (Path(folder) / file).relative_to(root).as_posix()
