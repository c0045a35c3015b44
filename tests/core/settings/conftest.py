"""Settings that nothing outside of the test reaches."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from umbel.settings import Settings


@pytest.fixture
def make_conf(tmp_path: Path) -> Callable[..., Settings]:
    """Make settings out of what is given alone: no environment, no files."""

    def make(environ: dict[str, str] | None = None, **given: Any) -> Settings:
        directory = tmp_path / "empty"
        directory.mkdir(exist_ok=True)
        # Ends the search for files here, whatever is above the temporary directory.
        (directory / "umbel.toml").touch()
        return Settings("test", given=given, environ=environ or {}, directory=directory)

    return make


@pytest.fixture
def conf(make_conf: Callable[..., Settings]) -> Settings:
    """All defaults."""
    return make_conf()
