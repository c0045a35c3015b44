"""Queues on ``memory://``, under a clock of the test's own."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from umbel import Umbel
from umbel_testing import FakeClock


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def app(clock: FakeClock) -> Iterator[Umbel]:
    with Umbel("tests", broker="memory://", backend="memory://", clock=clock) as made:
        made.task(name="shop.charge")(lambda order=0: order)
        made.task(name="mail.send")(lambda to="": to)
        yield made
