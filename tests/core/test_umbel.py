from __future__ import annotations

import importlib.metadata
import subprocess
import sys

import pytest

import umbel
from umbel.hookspecs import hookimpl


def test_every_public_name_is_there():
    assert [name for name in umbel.__all__ if not hasattr(umbel, name)] == []


def test_version_is_that_of_the_distribution():
    assert umbel.__version__ == importlib.metadata.version("umbel")


def test_hookimpl_is_that_of_the_hook_specs():
    assert umbel.hookimpl is hookimpl


def test_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="module 'umbel' has no attribute 'Celery'"):
        _ = umbel.Celery


@pytest.mark.parametrize("module", ["pluggy", "importlib.metadata", "umbel.hookspecs"])
def test_import_leaves_plugins_alone(module):
    code = f"import sys; from umbel import Umbel; print({module!r} in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert done.stdout.strip() == "False"
