"""What tests of results share: a real backend, and a worker's side that stores into it."""

from __future__ import annotations

import threading
import uuid
from collections.abc import Callable, Iterator

import pytest

from umbel.builtin.json_serializer import JsonSerializer
from umbel.builtin.memory.backend import MemoryBackend
from umbel.clock import SYSTEM_CLOCK
from umbel.error_info import error_info
from umbel.interfaces.backend import Backend
from umbel.outcomes import StoredResult
from umbel.results import AsyncResult
from umbel.results.codec import encode_result
from umbel.results.source import ResultSource

SERIALIZER = JsonSerializer()


def stored_result(task_id, value=None, *, state="SUCCESS", error=None, meta=None, **fields):
    """Return what a worker would store."""
    body = encode_result(
        task_id=task_id,
        state=state,
        value=None if error is not None or meta is not None else SERIALIZER.dumps(value),
        error=None if error is None else error_info(error),
        meta=meta,
        serializer=SERIALIZER,
        **fields,
    )
    return StoredResult(task_id=task_id, state=state, body=body)


class Store:
    """The worker's side: stores results, now or once somebody waits."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend

    def __call__(self, task_id, value=None, **fields) -> None:
        self._backend.store([stored_result(task_id, value, **fields)])

    def many(self, ids) -> None:
        self._backend.store([stored_result(task_id, task_id) for task_id in ids])


class CountingBackend(MemoryBackend):
    """Notes each read, and for how many ids it was."""

    calls: list[tuple[str, int]]

    def load(self, task_ids):
        self.calls.append(("load", len(task_ids)))
        return super().load(task_ids)

    def wait(self, task_ids, *, timeout_s):
        self.calls.append(("wait", len(task_ids)))
        return super().wait(task_ids, timeout_s=timeout_s)

    def chord_progress(self, group_ids):
        self.calls.append(("chord_progress", len(group_ids)))
        return super().chord_progress(group_ids)


@pytest.fixture
def space() -> str:
    return f"memory://{uuid.uuid4().hex}"


@pytest.fixture
def counting(space: str) -> Iterator[CountingBackend]:
    """What `backend` is, and counts."""
    backend = CountingBackend.from_url(space, options={}, clock=SYSTEM_CLOCK)
    backend.calls = []
    yield backend
    backend.close()


@pytest.fixture
def backend(space: str) -> Iterator[Backend]:
    backend = MemoryBackend.from_url(space, options={}, clock=SYSTEM_CLOCK)
    yield backend
    backend.close()


@pytest.fixture
def store(backend: Backend) -> Store:
    return Store(backend)


@pytest.fixture
def revoked() -> list[tuple]:
    return []


@pytest.fixture
def make_source(revoked) -> Iterator[Callable[[Backend | None], ResultSource]]:
    sources = []

    def revoke(task_ids, *, terminate, signal):
        revoked.append((tuple(task_ids), terminate, signal))

    def make(backend: Backend | None, **options) -> ResultSource:
        sources.append(
            ResultSource(
                backend=lambda: backend, serializer=lambda: SERIALIZER, revoke=revoke, **options
            )
        )
        return sources[-1]

    yield make
    for source in sources:
        source.close()


@pytest.fixture
def source(make_source, backend) -> ResultSource:
    return make_source(backend)


@pytest.fixture
def result(source) -> AsyncResult[object]:
    return AsyncResult("t1", source)


@pytest.fixture
def soon() -> Iterator[Callable[..., None]]:
    """Run a call on another thread a moment from now."""
    threads = []

    def start(call, *args, delay_s=0.05, **kwargs):
        timer = threading.Timer(delay_s, call, args, kwargs)
        threads.append(timer)
        timer.start()

    yield start
    for thread in threads:
        thread.join()
