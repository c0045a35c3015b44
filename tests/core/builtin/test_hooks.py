from __future__ import annotations

import subprocess
import sys

import pytest

from umbel.builtin.asyncio_pool import AsyncioPool
from umbel.builtin.json_serializer import JsonSerializer
from umbel.builtin.memory.backend import MemoryBackend
from umbel.builtin.memory.broker import MemoryBroker
from umbel.builtin.memory.coordinator import MemoryCoordinator
from umbel.builtin.sqlite.backend import SqliteBackend
from umbel.builtin.sqlite.broker import SqliteBroker
from umbel.builtin.sqlite.coordinator import SqliteCoordinator
from umbel.builtin.thread_pool import ThreadPool


@pytest.mark.parametrize(
    "url, kinds",
    [
        ("memory://", (MemoryBroker, MemoryBackend, MemoryCoordinator)),
        ("sqlite:///jobs.db", (SqliteBroker, SqliteBackend, SqliteCoordinator)),
    ],
)
def test_embedded_stores_are_offered_by_scheme(make_app, url, kinds):
    app = make_app(broker=url)

    assert (type(app.broker), type(app.backend), type(app.coordinator)) == kinds


def test_json_is_offered_by_name_and_content_type(app):
    assert isinstance(app.serializer("json"), JsonSerializer)
    assert app.serializer("application/json") is app.serializer("json")


def test_solo_pool_is_the_foreground_process(app):
    spec = app.pool("solo")

    assert (spec.factory, spec.in_children) == (None, False)


def test_process_pool_counts_processes(app):
    spec = app.pool("process")

    assert (spec.factory, spec.in_children, spec.concurrency_is_processes) == (None, True, True)


@pytest.mark.parametrize("name, kind", [("threads", ThreadPool), ("asyncio", AsyncioPool)])
def test_pool_with_slots_is_made_of_their_number(app, name, kind):
    pool = app.pool(name).factory(3)

    assert isinstance(pool, kind)
    assert pool.slots == 3


def test_hooks_import_nothing_that_is_offered():
    code = (
        "import sys, umbel.builtin.hooks\n"
        "print([m for m in sys.modules if m.startswith('umbel.builtin.') and m != "
        "'umbel.builtin.hooks' or m in ('sqlite3', 'asyncio')])\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert done.stdout.strip() == "[]"
