"""Where a project of a test keeps its messages and results: a file of SQLite, or a Redis.

A project made with ``**store`` is on SQLite, but where a test asks for `every_store`: then it
runs once for each. That is for what holds whatever the broker is, and is worth its time twice.
"""

from __future__ import annotations

from collections.abc import Mapping

import pytest

#: All that `every_store` runs on.
STORES = ["sqlite", "redis"]

every_store = pytest.mark.parametrize("store", STORES, indirect=True)


@pytest.fixture
def store(request: pytest.FixtureRequest) -> Mapping[str, str]:
    """Return the settings of a project: where its messages and results go."""
    if getattr(request, "param", "sqlite") == "sqlite":
        return {}  # a file in the project's own folder
    url = request.getfixturevalue("redis_server").url
    return {"broker": url, "backend": url}
