"""A real Celery beside umbel: ``nox -s interop`` makes its environment and names its Python.

Without it nothing here is collected: to a run of the other tests these don't exist.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from interop_fleet import Fleet
from redis_fixtures import MISSING

#: The Python of an environment with Celery and without umbel.
CELERY_PYTHON = os.environ.get("CELERY_PYTHON", "")

collect_ignore_glob = [] if CELERY_PYTHON else ["test_*.py"]


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say what to do for these tests to run."""
    if not CELERY_PYTHON:
        terminalreporter.line("tests/interop: run by `nox -s interop`, or with CELERY_PYTHON set")


@pytest.fixture(scope="session")
def celery_python() -> Path:
    """Return the Python that imports Celery; it doesn't know umbel."""
    python = Path(CELERY_PYTHON).absolute()
    code = (
        "import celery, redis; assert tuple(map(int, celery.__version__.split('.')[:2])) >= (5, 5)"
    )
    done = subprocess.run(
        [str(python), "-I", "-c", code], capture_output=True, text=True, check=False
    )
    if done.returncode:
        pytest.fail(f"CELERY_PYTHON={python} has no Celery >= 5.5:\n{done.stderr}")
    return python


@pytest.fixture(scope="module")
def fleet(celery_python: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    """Return a Redis with a worker and a client of each kind, for all tests of a module."""
    if shutil.which("redis-server") is None:
        pytest.skip(MISSING)
    made = Fleet(celery_python, tmp_path_factory.mktemp("fleet"))
    try:
        made.start()
        yield made
    finally:
        made.close()


@pytest.fixture
def celery(fleet: Fleet) -> Callable[[str], object]:
    """Run code in a Celery client, and return the value of its last expression."""
    return fleet.celery.run
