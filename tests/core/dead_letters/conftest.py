"""Dead letters on ``memory://``, under a clock of the test's own."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from umbel import Umbel
from umbel.messages import Burial, DeadLetter, DeathKind
from umbel_testing import FakeClock
from umbel_testing.samples import message

Dead = Callable[..., DeadLetter]


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def app(clock: FakeClock) -> Iterator[Umbel]:
    with Umbel("tests", broker="memory://", backend="memory://", clock=clock) as made:
        yield made


@pytest.fixture
def dead(app: Umbel, clock: FakeClock) -> Dead:
    """Bury one message, a second after the one before; return its letter."""
    broker = app.open_broker()
    broker.join("node", "consumer", lease_s=1e9)

    def bury(
        reason: str = "of the test",
        *,
        queue: str = "celery",
        kind: DeathKind = DeathKind.FAILED,
        raw: bytes | None = None,
        **changes: Any,
    ) -> DeadLetter:
        clock.advance(1)
        if raw is None:
            broker.send([message(queue, **changes)])
        else:
            broker.send_raw(queue, raw)  # type: ignore[attr-defined]
        (delivery,) = broker.receive([queue], max_messages=1, wait_s=0)
        broker.bury([Burial(delivery, reason, kind)])
        (letter,) = broker.dead_letters(limit=1)
        return letter

    return bury
