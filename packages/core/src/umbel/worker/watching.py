"""Which files an app is made of, and whether they change: for ``umbel worker --reload``.

By looking at them twice a second: that needs no library, and sees changes on every file system.
"""

from __future__ import annotations

import os
import site
import sys
import sysconfig
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import ModuleType

#: Path → time of its last change and size.
Snapshot = Mapping[str, tuple[int, int]]

_POLL_S = 0.5
#: A change waits until nothing has changed for this long: editors and checkouts write many files.
_QUIET_S = 0.2
#: The worker's own code, and what isn't imported under its name.
_NOT_THE_APPS = frozenset({"umbel", "umbel_cli", "__main__", "__mp_main__"})
_SKIPPED_FOLDERS = frozenset({"__pycache__", "node_modules"})


class Watcher(threading.Thread):
    """Calls back when a file of the app changes, appears or goes."""

    def __init__(
        self,
        on_change: Callable[[str], object],
        *,
        since: float,
        modules: Mapping[str, ModuleType] = sys.modules,
    ):
        """Prepare; `start` begins.

        Args:
            on_change: Told what changed, from the thread.
            since: Unix seconds at which the code that runs was not loaded yet.
            modules: What is loaded, by name; looked at each time.
        """
        super().__init__(name="umbel-watch", daemon=True)
        self._on_change, self._since, self._modules = on_change, since, modules
        self._stopped = threading.Event()

    def stop(self) -> None:
        """End the thread."""
        self._stopped.set()

    def run(self) -> None:
        """Watch until stopped."""
        seen = take_snapshot(self._modules)
        missed = changed_between(seen, since=self._since, now=time.time())
        if missed:  # while the worker was being started
            self._on_change(", ".join(missed))
        while not self._stopped.wait(_POLL_S):
            found = take_snapshot(self._modules)
            if found == seen:
                continue
            while (again := self._look_again()) != found:
                found = again
            changed = sorted(path for path in {*seen, *found} if seen.get(path) != found.get(path))
            seen = found
            self._on_change(", ".join(map(os.path.relpath, changed)))

    def _look_again(self) -> Snapshot:
        self._stopped.wait(_QUIET_S)
        return take_snapshot(self._modules)


def take_snapshot(modules: Mapping[str, ModuleType]) -> Snapshot:
    """Return the state of all files of the app that are there now."""
    found: dict[str, tuple[int, int]] = {}
    for path in app_files(dict(modules)):
        try:
            state = os.stat(path)  # noqa: PTH116 - twice a second, for all of them
        except OSError:  # removed meanwhile
            continue
        found[path] = (state.st_mtime_ns, state.st_size)
    return found


def changed_between(snapshot: Snapshot, *, since: float, now: float) -> list[str]:
    """Return the files that were changed between two instants (unix seconds).

    What is of the future by this machine's clock, is of another clock: it tells nothing.
    """
    return sorted(path for path, (at, _) in snapshot.items() if since < at / 1e9 <= now)


def app_files(modules: Mapping[str, ModuleType]) -> set[str]:
    """Return the Python files of all packages and folders that modules of the app are in."""
    trees: set[str] = set()
    folders: set[str] = set()
    for name, module in modules.items():
        root = name.partition(".")[0]
        file = getattr(module, "__file__", None)
        if root in _NOT_THE_APPS or not file or _is_installed(file):
            continue
        package = modules.get(root)
        paths = getattr(package, "__path__", None)
        if paths is None:
            folders.add(os.path.dirname(os.path.abspath(file)))  # noqa: PTH100, PTH120
        elif getattr(package, "__file__", None):
            trees.update(map(os.path.abspath, paths))
        else:  # a namespace, whose folders may be anybody's
            folders.add(os.path.dirname(os.path.abspath(file)))  # noqa: PTH100, PTH120
    found = {path for tree in trees for path in _below(tree)}
    return found | {path for folder in folders for path in _python_files(folder)}


def _is_installed(file: str) -> bool:
    return os.path.abspath(file).startswith(_INSTALLED)  # noqa: PTH100


def _python_files(folder: str) -> Iterator[str]:
    try:
        with os.scandir(folder) as entries:
            yield from (entry.path for entry in entries if entry.name.endswith(".py"))
    except OSError:
        return


def _below(tree: str) -> Iterator[str]:
    for folder, folders, files in os.walk(tree):
        folders[:] = [
            name for name in folders if name not in _SKIPPED_FOLDERS and not name.startswith(".")
        ]
        yield from (os.path.join(folder, name) for name in files if name.endswith(".py"))  # noqa: PTH118


def _installed_folders() -> tuple[str, ...]:
    """Return the folders of Python itself and of what was installed."""
    named = ("stdlib", "platstdlib", "purelib", "platlib")
    found = {sysconfig.get_path(name) for name in named}
    found |= {*site.getsitepackages(), site.getusersitepackages()}
    # A virtual environment links to the standard library of the Python that it was made from.
    found |= {str(Path(path).resolve()) for path in found} | {os.path.dirname(os.__file__)}  # noqa: PTH120
    return tuple(path + os.sep for path in found)


_INSTALLED = _installed_folders()
