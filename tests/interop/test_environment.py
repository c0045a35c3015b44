"""Celery and umbel don't share an environment: neither can borrow the other's code."""

from __future__ import annotations

import importlib.util
import subprocess
from pathlib import Path


def finds(python: Path, module: str) -> bool:
    code = f"import importlib.util, sys; sys.exit(importlib.util.find_spec({module!r}) is None)"
    return subprocess.run([str(python), "-I", "-c", code], check=False).returncode == 0


def test_celery_is_there_and_umbel_is_not(celery_python: Path) -> None:
    assert finds(celery_python, "celery")
    assert not finds(celery_python, "umbel")


def test_celery_is_not_where_umbel_is() -> None:
    assert importlib.util.find_spec("celery") is None
