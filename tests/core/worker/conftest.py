"""The parts of a worker on ``memory://``, to be driven step by step."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import Any

import msgspec
import pytest

from umbel import Umbel
from umbel.errors import BackendUnavailableError, BrokerUnavailableError
from umbel.interfaces.broker import Broker
from umbel.messages import Delivery, Message
from umbel.outcomes import Outcome
from umbel.signatures import Signature
from umbel.worker.consumer import Consumer
from umbel.worker.decode import Decoder
from umbel.worker.execute import run_sync
from umbel.worker.identity import Identity
from umbel.worker.jobs import Job
from umbel.worker.limits import DeadlineWatch, ThreadGuard

Deliver = Callable[..., Delivery]


@pytest.fixture
def app() -> Iterator[Umbel]:
    with Umbel("tests", broker="memory://", backend="memory://") as made:
        yield made


@pytest.fixture
def message(app: Umbel) -> Callable[..., Message]:
    """Build the message of a call, changed as the test wants it."""

    def build(
        name: str, *args: Any, headers: dict[str, Any] | None = None, **changes: Any
    ) -> Message:
        options = changes.pop("options", {})
        built = app.message_for(Signature(task=name, args=args, options=options))
        if headers:
            changes["headers"] = {**built.headers, **headers}
        return msgspec.structs.replace(built, **changes)

    return build


@pytest.fixture
def deliver(message: Callable[..., Message]) -> Deliver:
    """Make a delivery of a call, as if a broker had handed it over."""

    def make(name: str, *args: Any, token: int = 1, strikes: int = 0, **changes: Any) -> Delivery:
        return Delivery(
            message=message(name, *args, **changes),
            queue="celery",
            receipt="r",
            token=token,
            strikes=strikes,
        )

    return make


@pytest.fixture
def job(app: Umbel, deliver: Deliver) -> Callable[..., Job]:
    """Decode a delivery of a call."""

    def make(name: str, *args: Any, **changes: Any) -> Job:
        decoded = Decoder(app, "w@host").decode(deliver(name, *args, **changes))
        assert isinstance(decoded, Job), decoded
        return decoded

    return make


@pytest.fixture
def run(app: Umbel) -> Callable[[Job], Outcome]:
    """Run a job on this thread."""

    def execute(one: Job) -> Outcome:
        return run_sync(one, ThreadGuard(DeadlineWatch()), app.clock.time)

    return execute


@pytest.fixture
def consumer(app: Umbel) -> Iterator[Consumer]:
    identity = Identity(node="node", consumer="node/0", hostname="w@host", lease_s=60.0)
    made = Consumer(app, identity, ["celery"])
    made.source.receive(max_messages=1, wait_s=0)  # so that the broker knows who it is
    yield made
    made.close()


class Fault:
    """Makes methods of a handle fail while `is_on`, and counts how often they were called."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, target: Any, *names: str, error: Any):
        self.is_on = True
        self.calls = 0
        self._error = error
        for name in names:
            monkeypatch.setattr(target, name, self._wrap(getattr(target, name)))

    def _wrap(self, original: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            self.calls += 1
            if self.is_on:
                raise self._error
            return original(*args, **kwargs)

        return call


@pytest.fixture
def fault(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Fault]:
    """Make a `Fault`: of a broker or backend that is out of reach, unless told otherwise."""

    def make(target: Any, *names: str, error: BaseException | None = None) -> Fault:
        if error is None:
            is_broker = isinstance(target, Broker)
            error = (BrokerUnavailableError if is_broker else BackendUnavailableError)("gone")
        return Fault(monkeypatch, target, *names, error=error)

    return make


@pytest.fixture
def start() -> Iterator[Callable[[Any], threading.Thread]]:
    """Run a lane in a thread; it is stopped after the test, and must end then."""
    started: list[tuple[Any, threading.Thread]] = []

    def run(lane: Any) -> threading.Thread:
        thread = threading.Thread(target=lane.run, name="test-lane", daemon=True)
        started.append((lane, thread))
        thread.start()
        return thread

    yield run
    for lane, thread in started:
        lane.stop()
        thread.join(20)
        if thread.is_alive():
            lane.give_up()
            raise AssertionError("the lane did not end")
