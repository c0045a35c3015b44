"""A project in a folder of its own, with real worker processes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
from project import Project


@pytest.fixture
def project(tmp_path: Path, store: Mapping[str, str]) -> Iterator[Project]:
    """Return a project without workers; whatever it started is ended afterwards."""
    made = Project(tmp_path / "project", **store)
    yield made
    made.close()
