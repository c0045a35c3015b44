"""A solo lane with a broker that settles a batch and hands out the next one in one exchange."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest
from project import wait_for

from umbel import Umbel
from umbel.errors import BrokerUnavailableError
from umbel.messages import Delivery, Message
from umbel.worker.consumer import Consumer
from umbel.worker.limits import DeadlineWatch, ThreadGuard
from umbel.worker.solo import SoloLane

Start = Callable[[Any], Any]


@pytest.fixture
def lane(consumer: Consumer) -> Iterator[SoloLane]:
    watch = DeadlineWatch()
    yield SoloLane(consumer, guard=ThreadGuard(watch))
    watch.stop()


@pytest.fixture
def ran(app: Umbel) -> Counter[Any]:
    """How often each task ran, by its argument."""
    found: Counter[Any] = Counter()

    @app.task(name="work")
    def work(key: Any) -> Any:
        found[key] += 1
        return key

    return found


class Both:
    """Gives a broker a `settle_and_receive` that takes something."""

    def __init__(self, consumer: Consumer, monkeypatch: pytest.MonkeyPatch) -> None:
        self._broker = consumer.broker
        self.taken: list[Delivery] = []
        self.then: Callable[[], object] = lambda: None
        monkeypatch.setattr(self._broker, "settle_and_receive", self._call)

    def _call(
        self,
        deliveries: Sequence[Delivery],
        follow_ups: Sequence[Message],
        queues: Sequence[str],
        *,
        max_messages: int,
    ) -> tuple[Sequence[Delivery], Sequence[Delivery]]:
        lost = self._broker.settle(deliveries, follow_ups)
        taken = self._broker.receive(queues, max_messages=max_messages, wait_s=0)
        self.taken += taken
        if taken:
            self.then()
        return lost, taken


@pytest.fixture
def both(consumer: Consumer, monkeypatch: pytest.MonkeyPatch) -> Both:
    return Both(consumer, monkeypatch)


def left(consumer: Consumer) -> tuple[int, int]:
    stats = consumer.broker.stats("celery")
    return stats.ready, stats.held


def test_what_comes_with_the_settling_is_run_once(
    app: Umbel, consumer: Consumer, lane: SoloLane, both: Both, ran: Counter[Any], start: Start
) -> None:
    results = app.send_many(("work", (i,)) for i in range(300))
    start(lane)

    assert [result.get(timeout=30) for result in results] == list(range(300))
    assert ran == Counter(range(300))
    assert both.taken
    wait_for(lambda: left(consumer) == (0, 0))


def test_what_came_with_the_settling_is_given_back_at_a_stop(
    app: Umbel, consumer: Consumer, lane: SoloLane, both: Both, ran: Counter[Any], start: Start
) -> None:
    both.then = lane.stop
    app.send_many(("work", (i,)) for i in range(50))
    start(lane).join(30)

    assert both.taken
    assert left(consumer) == (50 - len(ran), 0)


def test_what_was_handed_out_though_no_answer_came_is_found_and_run(
    app: Umbel, consumer: Consumer, lane: SoloLane, both: Both, ran: Counter[Any], start: Start
) -> None:
    lost_answers = 0

    def lose_the_answer() -> None:
        nonlocal lost_answers
        lost_answers += 1
        if lost_answers <= 2:
            raise BrokerUnavailableError("no answer in time")

    both.then = lose_the_answer
    results = app.send_many(("work", (i,)) for i in range(50))
    start(lane)

    assert [result.get(timeout=30) for result in results] == list(range(50))
    assert ran == Counter(range(50))
    wait_for(lambda: left(consumer) == (0, 0))


def test_nothing_is_taken_with_the_settling_once_it_is_to_stop(
    app: Umbel, consumer: Consumer, lane: SoloLane, both: Both, ran: Counter[Any], start: Start
) -> None:
    @app.task(name="last")
    def last() -> None:
        lane.stop()

    app.send_task("last")
    app.send_many(("work", (i,)) for i in range(5))
    start(lane).join(30)

    assert not both.taken
    assert (left(consumer), ran) == ((5, 0), Counter())
