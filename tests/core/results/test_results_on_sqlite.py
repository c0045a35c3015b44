"""Results that another process stores, in a file."""

from __future__ import annotations

import asyncio
import subprocess
import sys

import pytest

from umbel.builtin.sqlite.backend import SqliteBackend
from umbel.clock import SYSTEM_CLOCK
from umbel.results import AsyncResult, GroupResult

LONG = 60.0

#: Waits for a line, then stores a result for each id, in the order given.
WORKER = """
import sys
from umbel.builtin.json_serializer import JsonSerializer
from umbel.builtin.sqlite.backend import SqliteBackend
from umbel.clock import SYSTEM_CLOCK
from umbel.outcomes import StoredResult
from umbel.results.codec import encode_result

serializer = JsonSerializer()
backend = SqliteBackend(sys.argv[1], options={}, clock=SYSTEM_CLOCK)
count = int(sys.stdin.readline())
for start in range(0, count, 50):
    ids = [f"t{number}" for number in range(start, min(start + 50, count))]
    bodies = [encode_result(task_id=key, state="SUCCESS", value=serializer.dumps(key),
                            serializer=serializer) for key in ids]
    backend.store([StoredResult(task_id=key, state="SUCCESS", body=body)
                   for key, body in zip(ids, bodies)])
backend.close()
"""


@pytest.fixture
def url(tmp_path) -> str:
    return f"sqlite:///{tmp_path.as_posix()}/results.db"


@pytest.fixture
def source(url, make_source):
    backend = SqliteBackend(url, options={}, clock=SYSTEM_CLOCK)
    source = make_source(backend)
    yield source
    source.close()
    backend.close()


@pytest.fixture
def worker(url):
    process = subprocess.Popen(
        [sys.executable, "-c", WORKER, url], stdin=subprocess.PIPE, text=True
    )

    def store(count: int) -> None:
        process.stdin.write(f"{count}\n")
        process.stdin.flush()

    yield store
    process.stdin.close()
    assert process.wait(LONG) == 0


def test_get_returns_what_another_process_stores(source, worker, soon):
    soon(worker, 1)

    assert AsyncResult("t0", source).get(timeout=LONG) == "t0"


def test_await_returns_what_another_process_stores(source, worker, soon):
    soon(worker, 1)

    assert asyncio.run(AsyncResult("t0", source).aget(timeout=LONG)) == "t0"


def test_thousands_of_another_process_are_awaited(source, worker):
    ids = [f"t{number}" for number in range(2_000)]

    async def main():
        waiting = [asyncio.ensure_future(AsyncResult(key, source).aget(LONG)) for key in ids]
        await asyncio.sleep(0)
        worker(len(ids))
        return await asyncio.gather(*waiting)

    assert asyncio.run(main()) == ids


def test_thousands_of_another_process_are_joined(source, worker):
    ids = [f"t{number}" for number in range(2_000)]
    group = GroupResult("g", [AsyncResult(key, source) for key in ids])
    worker(len(ids))

    assert group.get(timeout=LONG) == ids


def test_group_is_saved_in_the_file(source):
    group = GroupResult("g", [AsyncResult("a", source)], parent=AsyncResult("p", source))
    group.save()

    assert GroupResult.restore("g", app=source) == group
