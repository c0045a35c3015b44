"""What tests of the app and its parts share."""

from __future__ import annotations

import importlib
import logging
import weakref
from collections.abc import Callable, Iterator, Sequence

import pytest

from umbel import Umbel
from umbel.interfaces.broker import Broker
from umbel.messages import Delivery, Message
from umbel_testing.clock import FakeClock


@pytest.fixture(autouse=True)
def logging_as_it_was() -> Iterator[None]:
    """Take back what a worker that ran in this process did to the logger of umbel."""
    logger = logging.getLogger("umbel")
    handlers, level, propagate = list(logger.handlers), logger.level, logger.propagate
    yield
    logger.handlers[:] = handlers
    logger.propagate = propagate
    logger.setLevel(level)


@pytest.fixture(autouse=True)
def no_shared_tasks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Begin without shared tasks and a current app of other tests, and leave none."""
    where = importlib.import_module("umbel.current_app")
    monkeypatch.setattr(where, "_shared", [])
    monkeypatch.setattr(where, "_chosen", None)
    monkeypatch.setattr(where, "_apps", weakref.WeakSet())


@pytest.fixture
def clock() -> FakeClock:
    """A clock that stands still until the test moves it."""
    return FakeClock()


@pytest.fixture
def make_app() -> Iterator[Callable[..., Umbel]]:
    """Makes apps on ``memory://``, each with its own queues, closed after the test."""
    made: list[Umbel] = []

    def make(main: str = "proj", **options: object) -> Umbel:
        options.setdefault("broker", "memory://")
        made.append(Umbel(main, **options))
        return made[-1]

    yield make
    for app in made:
        app.close()


@pytest.fixture
def app(make_app: Callable[..., Umbel], clock: FakeClock) -> Umbel:
    """An app on ``memory://`` whose time stands still."""
    return make_app(clock=clock)


@pytest.fixture
def waiting() -> Callable[..., Sequence[Message]]:
    """Returns the messages that wait in a queue of an app, next to be received first."""

    def look(app: Umbel, queue: str = "celery") -> Sequence[Message]:
        return app.broker.peek(queue, limit=10_000)

    return look


class FlakyBroker(Broker):
    """Takes messages, but fails first as often and with what it is told."""

    def __init__(self, *errors: Exception) -> None:
        self.errors = list(errors)
        self.batches: list[list[Message]] = []
        self.attempts = 0

    def send(self, messages: Sequence[Message]) -> None:
        self.attempts += 1
        if self.errors:
            raise self.errors.pop(0)
        self.batches.append(list(messages))

    def receive(
        self, queues: Sequence[str], *, max_messages: int, wait_s: float
    ) -> Sequence[Delivery]:
        return ()

    def ack(self, deliveries: Sequence[Delivery]) -> Sequence[Delivery]:
        return ()

    def nack(self, deliveries: Sequence[Delivery], *, delay_s: float = 0.0) -> None:
        return


@pytest.fixture
def flaky_broker() -> type[FlakyBroker]:
    return FlakyBroker
