"""The pytest plugin: fixtures for tests of code that sends tasks. It touches no other test.

    def test_welcome_is_sent(umbel_app, umbel_worker):
        @umbel_app.task
        def add(x, y): return x + y

        assert add.delay(2, 3).get(timeout=10) == 5

Every process that runs pytest with this package installed imports it, so it loads umbel only
when a fixture is used.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from umbel import Umbel
    from umbel.worker.embedded import EmbeddedWorker
    from umbel_testing.clock import FakeClock
    from umbel_testing.faults import Faults
    from umbel_testing.task_queue import TaskQueue

_MARKER = "umbel(**settings): settings of the app that the fixture umbel_app makes for this test"


def pytest_configure(config: pytest.Config) -> None:
    """Register the marker."""
    config.addinivalue_line("markers", _MARKER)


@pytest.fixture
def umbel_config() -> dict[str, Any]:
    """Settings of the test's app; override it in a conftest.py. The marker's win over these."""
    return {}


@pytest.fixture
def umbel_app(request: pytest.FixtureRequest, umbel_config: dict[str, Any]) -> Iterator[Umbel]:
    """Return an app of this test's own, on ``memory://`` unless its settings say otherwise.

    In a test that also asks for `umbel_clock`, the app reads its time from that.
    """
    from umbel import Umbel
    from umbel.clock import SYSTEM_CLOCK

    settings: dict[str, Any] = {"broker_url": "memory://", "result_backend": "memory://"}
    settings.update(umbel_config)
    for marker in reversed(list(request.node.iter_markers("umbel"))):
        settings.update(marker.kwargs)
    driven = "umbel_clock" in request.fixturenames
    clock = request.getfixturevalue("umbel_clock") if driven else SYSTEM_CLOCK
    with Umbel("tests", clock=clock, **settings) as app:
        if "umbel_faults" in request.fixturenames:
            from umbel_testing.faulty_handles import faults_in

            # Now: a worker's fixture may come first, and its handles shall have faults too.
            with faults_in(app):
                yield app
        else:
            yield app


@pytest.fixture
def umbel_worker_options() -> dict[str, Any]:
    """Options of the test's worker (pool, concurrency, queues); override it in a conftest.py."""
    return {}


@pytest.fixture
def umbel_worker(
    umbel_app: Umbel, umbel_worker_options: dict[str, Any]
) -> Iterator[EmbeddedWorker]:
    """Return a worker of `umbel_app` that runs in threads of this process until the test ends.

    It runs all tasks that the app knows, those defined within the test among them.
    """
    with umbel_app.worker(**umbel_worker_options) as worker:
        yield worker


@pytest.fixture
def umbel_clock() -> FakeClock:
    """Return a clock that stands still until the test moves it."""
    from umbel_testing.clock import FakeClock

    return FakeClock()


@pytest.fixture
def umbel_queue(umbel_app: Umbel) -> Iterator[TaskQueue]:
    """Return what `umbel_app` has sent: to run it here (`drain`), or to make assertions of it."""
    from umbel_testing.task_queue import TaskQueue

    queue = TaskQueue(umbel_app)
    yield queue
    queue.close()


@pytest.fixture
def umbel_faults(umbel_app: Umbel) -> Iterator[Faults]:
    """Return the faults of `umbel_app`: outages, lost replies, crashes; see `umbel_testing.Faults`.

    The broker, backend and coordinator of the app work as ever until the test asks for a fault.
    """
    from umbel_testing.faulty_handles import faults_in

    with faults_in(umbel_app) as faults:
        yield faults
