"""The command line in tests: in this process, where that shows the same, or as people start it."""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from umbel_cli.main import make_cli

Invoke = Callable[..., Result]


@dataclass(frozen=True)
class Ended:
    """A process that has ended."""

    code: int
    stdout: str
    stderr: str

    @property
    def json(self) -> Any:
        """What it printed, parsed."""
        return json.loads(self.stdout)


@pytest.fixture(autouse=True)
def clean_imports(own_folder: Path) -> Iterator[None]:
    """Forget what a test imported from its own folder."""
    path = list(sys.path)
    importlib.invalidate_caches()
    yield
    sys.path[:] = path
    for name, module in list(sys.modules.items()):
        file = getattr(module, "__file__", None) or ""
        if file.startswith(str(own_folder)):
            del sys.modules[name]
    importlib.invalidate_caches()


@pytest.fixture
def invoke() -> Invoke:
    """Run `umbel` in this process."""

    def run(*args: str, **options: Any) -> Result:
        return CliRunner().invoke(make_cli(), [*args], prog_name="umbel", **options)

    return run


@pytest.fixture
def umbel(own_folder: Path) -> Callable[..., Ended]:
    """Run `umbel` as a process, in the test's folder, to its end."""

    def run(*args: str, env: Mapping[str, str] | None = None, stdin: str = "") -> Ended:
        ended = subprocess.run(
            [sys.executable, "-m", "umbel", *args],
            input=stdin,
            capture_output=True,
            text=True,
            cwd=own_folder,
            env={**os.environ, **(env or {})},
            timeout=120,
            check=False,
        )
        return Ended(ended.returncode, ended.stdout, ended.stderr)

    return run


@pytest.fixture
def write(own_folder: Path) -> Callable[[str, str], Path]:
    """Write a file below the test's folder."""

    def to(name: str, text: str) -> Path:
        path = own_folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        return path

    return to


@pytest.fixture
def tasks(write: Callable[[str, str], Path]) -> str:
    """An app with a few tasks in ``tasks.py``; returns what to give to -A."""
    write(
        "tasks.py",
        """\
from umbel import Reject, Umbel

app = Umbel("tasks")


@app.task
def add(x: int, y: int) -> int:
    return x + y


@app.task
def fail(why: str) -> None:
    raise ValueError(why)


@app.task
def refuse(why: str) -> None:
    raise Reject(why)
""",
    )
    return "tasks"


@pytest.fixture
def running(own_folder: Path) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Start `umbel` as a process that goes on; it is stopped at the end."""
    started: list[subprocess.Popen[str]] = []

    def run(*args: str) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, "-m", "umbel", *args],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=own_folder,
        )
        started.append(process)
        return process

    yield run
    for process in started:
        process.terminate()
        process.communicate(timeout=60)
