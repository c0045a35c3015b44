"""Options and fixtures of the tests that try workflows."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import dataclass

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the options: which random workflows are tried, and how many."""
    group = parser.getgroup("workflows")
    group.addoption("--workflow-seed", type=int, help="the first seed of random workflows")
    group.addoption("--workflow-cases", type=int, help="how many random workflows a test tries")
    group.addoption("--workflow-chords", help="how many chords are run under kills: 1000x50")


@dataclass(frozen=True)
class WorkflowOptions:
    """What was asked for; None: whatever a test tries by itself."""

    seed: int | None
    cases: int | None
    chords: str | None

    def seeds(self, count: int, first: int = 0) -> range:
        """Return the seeds that a test shall try; by itself it tries `count` from `first` on."""
        begin = first if self.seed is None else self.seed
        return range(begin, begin + (self.cases or count))


@pytest.fixture
def workflow_options(request: pytest.FixtureRequest) -> WorkflowOptions:
    """Return the options of the command line."""
    option = request.config.getoption
    return WorkflowOptions(
        option("workflow_seed"), option("workflow_cases"), option("workflow_chords")
    )


@pytest.fixture
def umbel_is_quiet() -> Iterator[None]:
    """Let umbel log nothing: tasks fail by the thousand."""
    logger = logging.getLogger("umbel")
    level = logger.level
    logger.setLevel(logging.CRITICAL + 1)
    yield
    logger.setLevel(level)
