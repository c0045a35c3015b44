"""A file of its own for each test, handles on it, and a look at its rows from outside."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from umbel.builtin.sqlite.backend import SqliteBackend
from umbel.builtin.sqlite.broker import SqliteBroker
from umbel.builtin.sqlite.coordinator import SqliteCoordinator
from umbel.clock import SYSTEM_CLOCK
from umbel_testing import FakeClock


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "jobs.db"


@pytest.fixture
def url(path: Path) -> str:
    return f"sqlite:///{path}"


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def open_handle(url: str) -> Iterator[Callable[..., Any]]:
    """Open handles that are closed after the test."""
    opened = []

    def open_it(kind, clock=SYSTEM_CLOCK, parameters=""):
        opened.append(kind(url + parameters, options={}, clock=clock))
        return opened[-1]

    yield open_it
    for handle in reversed(opened):
        handle.close()


@pytest.fixture
def broker(open_handle, clock) -> SqliteBroker:
    return open_handle(SqliteBroker, clock)


@pytest.fixture
def backend(open_handle, clock) -> SqliteBackend:
    return open_handle(SqliteBackend, clock)


@pytest.fixture
def coordinator(open_handle, clock) -> SqliteCoordinator:
    return open_handle(SqliteCoordinator, clock)


@pytest.fixture
def query(path: Path) -> Iterator[Callable[..., list[Any]]]:
    """Read and write rows as any other program would."""
    connections = []

    def run(statement, *values):
        if not connections:
            connections.append(sqlite3.connect(path, isolation_level=None))
        return connections[0].execute(statement, values).fetchall()

    yield run
    for connection in connections:
        connection.close()
