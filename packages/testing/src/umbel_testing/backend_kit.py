"""What the parts of `BackendSuite` share."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

import pytest

from umbel.interfaces.backend import Backend
from umbel.outcomes import StoredResult
from umbel_testing.kit import Running, Suite, missing_fixture


class BackendKit(Suite):
    """Base of the parts of `BackendSuite`."""

    _make: Callable[[], Backend]
    _handles: list[Backend]

    @pytest.fixture
    def make_backend(self) -> Callable[[], Backend]:
        """Return a function that makes a new handle, each on the same store. To be overridden."""
        missing_fixture(self, "make_backend", "a function that makes a handle on one store")

    @pytest.fixture(autouse=True)
    def _with_backend(self, make_backend: Callable[[], Backend]) -> Iterator[None]:
        self.begin(make_backend)
        yield
        self.end()

    def begin(self, make_backend: Callable[[], Backend]) -> None:
        """Set up a test; the fixture does it."""
        self._make, self._handles = make_backend, []

    def end(self) -> None:
        """Close all handles of a test."""
        for handle in reversed(self._handles):
            handle.close()

    def open(self) -> Backend:
        """Return a new handle."""
        handle = self._make()
        self._handles.append(handle)
        return handle

    def stored(self, backend: Backend, *task_ids: str) -> dict[str, StoredResult]:
        """Load `task_ids`, without how long they are kept: some stores only know until when."""
        return comparable(backend.load(task_ids))

    def waiting(
        self, backend: Backend, *task_ids: str, timeout_s: float = 60.0
    ) -> Running[Mapping[str, StoredResult]]:
        """Wait in another thread; returns once that is under way."""
        running = Running(lambda: backend.wait(list(task_ids), timeout_s=timeout_s))
        running.goes_on()  # so that it waits already, as far as one can tell
        return running


def comparable(results: Mapping[str, StoredResult]) -> dict[str, StoredResult]:
    """Return `results` without their `ttl_s`."""
    return {key: without_ttl(result) for key, result in results.items()}


def without_ttl(result: StoredResult) -> StoredResult:
    """Return `result` without its `ttl_s`."""
    return StoredResult(
        task_id=result.task_id,
        state=result.state,
        body=result.body,
        token=result.token,
        retries=result.retries,
    )


def by_id(results: Sequence[StoredResult]) -> dict[str, StoredResult]:
    """Return `results` by task id, without their `ttl_s`."""
    return {result.task_id: without_ttl(result) for result in results}
