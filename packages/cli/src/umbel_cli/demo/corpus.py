"""What the demo works on: the source files of the standard library on this machine.

Some systems install a library without its tests, which is small. Then the packages that are
installed beside it come along, so that there is always enough to do.
"""

from __future__ import annotations

import os
import sysconfig
from collections.abc import Iterator
from pathlib import Path

#: Folders inside the library's that aren't part of it, or hold no sources.
_LEFT_OUT = frozenset({"site-packages", "dist-packages", "__pycache__"})
#: A library of fewer files than this is a small one; packages then fill up to that many.
_FEW, _ENOUGH = 1000, 1500
#: Begins the names of files of installed packages.
PACKAGES = "site-packages/"


def library_folder() -> Path:
    """Return the folder of the standard library of this Python."""
    return Path(sysconfig.get_path("stdlib"))


def source_files(*, limit: int | None = None, few: int = _FEW) -> list[str]:
    """Return the names of the files to index, sorted; at most `limit`.

    They are relative to the library's folder, or begin with `PACKAGES`. With a limit they are
    spread over the whole library, not its first ones. Where the library has fewer than `few`
    files, installed packages fill up.
    """
    files = sorted(_walk(library_folder()))
    if len(files) < few:
        packages = Path(sysconfig.get_path("purelib"))
        files += [PACKAGES + file for file in sorted(_walk(packages))][: _ENOUGH - len(files)]
    if limit is None or limit >= len(files):
        return files
    return [files[at * len(files) // limit] for at in range(limit)]


def source_path(file: str) -> Path:
    """Return where the file named `file` is."""
    if file.startswith(PACKAGES):
        return Path(sysconfig.get_path("purelib")) / file.removeprefix(PACKAGES)
    return library_folder() / file


def module_name(file: str) -> str:
    """Return the dotted name of the module in `file`."""
    path = file.removeprefix(PACKAGES).removesuffix(".py").removesuffix("/__init__")
    return path.replace("/", ".")


def _walk(root: Path) -> Iterator[str]:
    for folder, names, files in os.walk(root):
        names[:] = [name for name in names if name not in _LEFT_OUT]
        for file in files:
            if file.endswith(".py"):
                yield (Path(folder) / file).relative_to(root).as_posix()
