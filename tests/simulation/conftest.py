"""The option that replays one seed."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add ``--umbel-seed``: ``pytest tests/simulation --umbel-seed 4711``."""
    parser.addoption("--umbel-seed", type=int, help="replay this seed of the simulation alone")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """With a seed, run nothing but its replay."""
    if config.getoption("umbel_seed", default=None) is not None:
        here = [item for item in items if item.path.parent.name == "simulation"]
        for item in here:
            if item.name != "test_seed_of_the_command_line":
                items.remove(item)


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    """Let umbel log nothing: what goes wrong here is meant to, thousands of times."""
    logger = logging.getLogger("umbel")
    level = logger.level
    logger.setLevel(logging.CRITICAL + 1)
    yield
    logger.setLevel(level)
