from __future__ import annotations

import json
import os
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

from umbel.worker.watching import Watcher, app_files, changed_between, take_snapshot


@pytest.fixture
def module() -> Callable[..., ModuleType]:
    """A module as it stands in `sys.modules`."""

    def make(file: Path | None, *, path: Path | None = None) -> ModuleType:
        made = ModuleType("made")
        made.__file__ = str(file) if file is not None else None
        if path is not None:
            made.__path__ = [str(path)]
        return made

    return make


def write(*paths: Path) -> None:
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("")


# -- what belongs to an app -------------------------------------------------------------------


def test_all_python_files_of_a_package_are_watched_also_those_not_loaded(
    tmp_path: Path, module: Callable[..., ModuleType]
) -> None:
    package = tmp_path / "proj"
    ours = {package / "__init__.py", package / "tasks.py", package / "deep" / "more.py"}
    write(*ours, package / "__pycache__" / "x.py", package / ".git" / "x.py", package / "data.txt")

    found = app_files(
        {
            "proj": module(package / "__init__.py", path=package),
            "proj.tasks": module(package / "tasks.py"),
        }
    )

    assert found == {str(path) for path in ours}


def test_of_a_module_without_a_package_its_folder_is_watched(
    tmp_path: Path, module: Callable[..., ModuleType]
) -> None:
    write(tmp_path / "tasks.py", tmp_path / "helpers.py", tmp_path / "elsewhere" / "x.py")

    found = app_files({"tasks": module(tmp_path / "tasks.py")})

    assert found == {str(tmp_path / "tasks.py"), str(tmp_path / "helpers.py")}


def test_of_a_namespace_only_folders_with_loaded_modules_are_watched(
    tmp_path: Path, module: Callable[..., ModuleType]
) -> None:
    ours, others = tmp_path / "company" / "ours" / "tasks.py", tmp_path / "company" / "x" / "y.py"
    write(ours, others)

    found = app_files(
        {
            "company": module(None, path=tmp_path / "company"),
            "company.ours.tasks": module(ours),
        }
    )

    assert found == {str(ours)}


def test_what_is_installed_is_not_watched() -> None:
    installed = ("json", "pytest", "umbel", "umbel.app")
    assert json.__file__
    assert (
        app_files({name: sys.modules[name] for name in installed if name in sys.modules}) == set()
    )


# -- changes ----------------------------------------------------------------------------------


def test_changes_between_two_instants_are_those_that_were_missed() -> None:
    snapshot = {"before": (99 * 10**9, 1), "after": (101 * 10**9, 1), "future": (999 * 10**9, 1)}

    assert changed_between(snapshot, since=100.0, now=200.0) == ["after"]


def test_a_file_that_is_gone_is_not_in_a_snapshot(
    tmp_path: Path, module: Callable[..., ModuleType]
) -> None:
    dangling = tmp_path / "gone.py"
    write(tmp_path / "tasks.py")
    dangling.symlink_to(tmp_path / "nowhere.py")

    found = take_snapshot({"tasks": module(tmp_path / "tasks.py")})

    assert set(found) == {str(tmp_path / "tasks.py")}


@pytest.mark.parametrize("change", ["edited", "new", "removed"])
def test_a_change_is_told_once(
    tmp_path: Path,
    module: Callable[..., ModuleType],
    monkeypatch: pytest.MonkeyPatch,
    change: str,
) -> None:
    write(tmp_path / "tasks.py", tmp_path / "old.py")
    for path in tmp_path.glob("*.py"):
        os.utime(path, (1.0, 1.0))
    modules = {"tasks": module(tmp_path / "tasks.py")}
    told: list[str] = []
    heard = threading.Event()
    ready = threading.Event()
    watcher = Watcher(lambda what: (told.append(what), heard.set()), since=2.0, modules=modules)
    looked = watcher._stopped.wait
    monkeypatch.setattr(
        watcher._stopped, "wait", lambda timeout: (ready.set(), looked(timeout / 10))[1]
    )
    watcher.start()
    assert ready.wait(30)

    if change == "edited":
        (tmp_path / "tasks.py").write_text("changed")
    elif change == "new":
        (tmp_path / "fresh.py").write_text("")
    else:
        (tmp_path / "old.py").unlink()
    assert heard.wait(30)
    watcher.stop()
    watcher.join(30)

    assert told == [{"edited": "tasks.py", "new": "fresh.py", "removed": "old.py"}[change]]


def test_a_change_while_the_worker_started_is_told_at_once(
    tmp_path: Path, module: Callable[..., ModuleType]
) -> None:
    write(tmp_path / "tasks.py")
    modules = {"tasks": module(tmp_path / "tasks.py")}
    heard = threading.Event()
    watcher = Watcher(lambda what: heard.set(), since=0.0, modules=modules)
    watcher.start()

    assert heard.wait(30)
    watcher.stop()
    watcher.join(30)
