"""In which order a consumer looks into its queues."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from random import Random

import pytest

from umbel import Umbel
from umbel.errors import ConfigError
from umbel.routing import Queue, declared_queues, queue_weights
from umbel.worker.consumer import Consumer
from umbel.worker.identity import Identity
from umbel.worker.queue_order import QueueOrder, order_of

NAMES = ["a", "b", "c"]
IDENTITY = Identity(node="node", consumer="node/0", hostname="w@host", lease_s=60.0)


def test_strict_order_is_that_of_the_names() -> None:
    order = order_of("strict", NAMES, {"c": 9.0})

    assert [order() for _ in range(3)] == [NAMES] * 3


def test_round_robin_puts_each_queue_first_in_turn() -> None:
    order = order_of("round_robin", NAMES, {})

    assert [order() for _ in range(4)] == [
        ["a", "b", "c"],
        ["b", "c", "a"],
        ["c", "a", "b"],
        ["a", "b", "c"],
    ]


def test_weights_say_how_often_a_queue_goes_first() -> None:
    order = order_of("weighted", NAMES, {"a": 6.0, "b": 3.0}, draw=Random(1).random)
    orders = [order() for _ in range(3000)]
    first = Counter(names[0] for names in orders)

    assert all(sorted(names) == NAMES for names in orders)
    assert [round(first[name] / 300) for name in NAMES] == [6, 3, 1]


@pytest.mark.parametrize("kind", list(QueueOrder))
def test_single_queue_is_always_first(kind: str) -> None:
    order = order_of(kind, ["a"], {"a": 2.0})

    assert [list(order()) for _ in range(2)] == [["a"], ["a"]]


def test_weight_is_an_option_of_a_queue() -> None:
    given = [Queue("a", weight=5), {"name": "b", "weight": 0.5}, "c"]

    assert queue_weights(given) == {"a": 5.0, "b": 0.5}
    assert queue_weights({"a": {"weight": 2}}) == {"a": 2.0}
    assert queue_weights(None) == {}


@pytest.mark.parametrize("given", [0, -1, True, "many", float("nan"), float("inf"), 1e9])
def test_wrong_weight_is_an_error_that_names_queue_and_value(given: object) -> None:
    with pytest.raises(ConfigError, match=rf"weight of queue 'mail' .* not {given!r}"):
        declared_queues({"mail": {"weight": given}})


def test_wrong_order_is_an_error_that_names_the_words() -> None:
    app = Umbel("tests", worker_queue_order="random")

    with pytest.raises(ConfigError, match="'round_robin', 'strict', 'weighted'"):
        app.finalize()


@pytest.mark.parametrize(
    "kind, expected",
    [("strict", ["a1", "a2", "b1", "c1"]), ("round_robin", ["a1", "b1", "c1", "a2"])],
)
def test_consumer_takes_by_the_order_of_the_setting(
    kind: str, expected: list[str], consume: Callable[..., Consumer]
) -> None:
    consumer = consume(worker_queue_order=kind)
    for name in ("a1", "a2", "b1", "c1"):
        consumer.host.send_task("t", queue=name[0], task_id=name)  # type: ignore[attr-defined]
    taken = [consumer.source.receive(max_messages=1, wait_s=0)[0] for _ in range(4)]

    assert [getattr(one.message, "id", None) for one in taken] == expected


def test_consumer_knows_the_weights(consume: Callable[..., Consumer]) -> None:
    consumer = consume(
        worker_queue_order="weighted",
        task_queues=[Queue("a"), Queue("b"), Queue("c", weight=1000.0)],
    )
    firsts = Counter(consumer.source._in_order()[0] for _ in range(200))

    assert firsts["c"] > 150


@pytest.fixture
def consume():
    opened = []

    def of(**settings: object) -> Consumer:
        app = Umbel("tests", broker="memory://", backend="memory://", **settings)
        consumer = Consumer(app, IDENTITY, NAMES)
        opened.append((app, consumer))
        return consumer

    yield of
    for app, consumer in opened:
        consumer.close()
        app.close()
