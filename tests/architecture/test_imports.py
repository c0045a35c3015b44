"""What importing umbel costs, and who may import whom across packages.

The floors within core are import-linter's: ``nox -s floors``.
"""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = sorted(path.parent for path in ROOT.glob("packages/*/pyproject.toml"))

#: A process that only sends tasks pays for none of these.
NOT_FOR_CLIENTS = [
    "asyncio",
    "click",
    "concurrent.futures",
    "multiprocessing",
    "pydantic",
    "rich",
    "socketserver",
    "sqlite3",
    "umbel.builtin.sqlite",
    "umbel.worker",
]

#: The design's bound for the import of umbel on the machines of its users.
IMPORT_BUDGET_S = 0.060

#: Packages that are hosts, as the worker's own process is: they may use the app.
HOSTS = {"core", "cli", "testing", "beat"}

#: Packages that bring no plugin, and are there for those that do.
LIBRARIES = [
    folder for folder in PACKAGES if "entry-points" not in (folder / "pyproject.toml").read_text()
]
PLUGINS = [folder for folder in PACKAGES if folder not in LIBRARIES]


def python(*arguments: str) -> subprocess.CompletedProcess[str]:
    environ = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    return subprocess.run(
        [sys.executable, *arguments], capture_output=True, text=True, check=True, env=environ
    )


@pytest.mark.parametrize("module", NOT_FOR_CLIENTS)
def test_import_of_umbel_leaves_module_alone(module, modules_of_a_client):
    assert module not in modules_of_a_client


@pytest.fixture(scope="module")
def modules_of_a_client() -> set[str]:
    done = python("-c", "import sys; from umbel import Umbel; print(*sys.modules)")
    return set(done.stdout.split())


def test_import_of_umbel_is_within_its_time():
    # Only the best of several says something about umbel; the others, about a busy machine.
    measured = []
    while len(measured) < 30 and min(measured, default=1.0) >= IMPORT_BUDGET_S:
        measured.append(import_time_s())

    assert min(measured) < IMPORT_BUDGET_S


def import_time_s() -> float:
    """Time on the processor: waiting for a busy one says nothing about umbel."""
    code = (
        "import time; began = time.process_time(); from umbel import Umbel;"
        " print(time.process_time() - began)"
    )
    return float(python("-c", code).stdout)


@pytest.mark.parametrize("folder", PACKAGES, ids=lambda folder: folder.name)
def test_package_imports_no_package_of_ours_but_core_and_libraries(folder):
    own = {path.name for each in (folder, *LIBRARIES) for path in (each / "src").iterdir()}
    foreign = [
        (where, name)
        for where, name in imports(folder)
        if re.match(r"umbel(_|\b)", name) and name.partition(".")[0] not in own | {"umbel"}
        # `python -m umbel` is the command line, where there is one.
        if where != "__main__.py"
    ]

    assert foreign == []


def test_plugins_import_only_what_core_offers_plugins():
    forbidden = re.compile(r"umbel(\.(app|worker|builtin|plugins)\b.*)?")
    plugins = [folder for folder in PACKAGES if folder.name not in HOSTS]
    found = [(folder.name, *where) for folder in plugins for where in imports(folder)]

    assert [where for where in found if forbidden.fullmatch(where[-1])] == []


@pytest.mark.parametrize("folder", PLUGINS, ids=lambda folder: folder.name)
def test_hooks_module_imports_no_client_library(folder):
    (hooks,) = (folder / "src").glob(
        "*/builtin/hooks.py" if folder.name == "core" else "*/hooks.py"
    )
    done = python("-c", f"import sys, {module_name(hooks, folder)}; print(*sys.modules)")

    heavy = {"boto3", "click", "hiredis", "kombu", "pymongo", "redis", "rich", "sqlite3", "asyncio"}
    assert heavy & set(done.stdout.split()) == set()


def imports(folder: Path) -> Iterator[tuple[str, str]]:
    """Yield each import in a package: the file, and the module that is imported."""
    for path in sorted((folder / "src").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                yield from ((path.name, alias.name) for alias in node.names)
            elif isinstance(node, ast.ImportFrom) and not node.level:
                yield path.name, node.module or ""
                # `from umbel import worker` names a module too.
                yield from ((path.name, f"{node.module}.{alias.name}") for alias in node.names)


def module_name(path: Path, folder: Path) -> str:
    return ".".join(path.relative_to(folder / "src").with_suffix("").parts)
