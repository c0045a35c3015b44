"""``app.delayed``: find what waits for its time, let it run now, drop it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from umbel import Umbel
from umbel.errors import DelayedError
from umbel.messages import Delayed
from umbel_testing import FakeClock


@pytest.fixture
def later(app: Umbel) -> Callable[..., str]:
    def send(countdown: float = 60.0, task: str = "shop.charge", **options: Any) -> str:
        return app.send_task(task, countdown=countdown, **options).id

    return send


def ids(found: Any) -> list[str]:
    return [getattr(one.message, "id", "") for one in found]


def test_what_is_due_first_is_found_first(app: Umbel, later: Callable[..., str]) -> None:
    third, first, second = later(30), later(10), later(20)
    app.send_task("shop.charge")

    assert ids(app.delayed) == [first, second, third]
    assert ids(app.delayed.find(limit=2)) == [first, second]


def test_filter_is_of_queue_and_task(app: Umbel, later: Callable[..., str]) -> None:
    plain, mail = later(), later(task="mail.send")
    other = later(queue="other")

    assert ids(app.delayed.find(queue="other")) == [other]
    assert ids(app.delayed.find(task="mail.send")) == [mail]
    assert ids(app.delayed.find(task="shop.*", queue="celery")) == [plain]
    assert app.delayed.count(task="shop.*") == 2


def test_unknown_filter_is_an_error_with_the_right_one(app: Umbel) -> None:
    with pytest.raises(DelayedError, match=r"can't be chosen by 'queues'; did you mean 'queue'\?"):
        app.delayed.find(queues="celery")  # type: ignore[call-arg]
    with pytest.raises(DelayedError, match="there are queue, task"):
        app.delayed.drop(where={"kind": "x"})  # type: ignore[typeddict-unknown-key]


def test_one_is_got_by_id_its_beginning_or_receipt(app: Umbel, later: Callable[..., str]) -> None:
    first, _ = later(task_id="aaaa-1"), later(task_id="bbbb-1")
    found = app.delayed.get("aaaa-1")

    assert ids([found]) == [first]
    assert app.delayed.get("aaaa") == app.delayed.get(found.receipt) == found


@pytest.mark.parametrize(
    "name, text",
    [
        ("cccc", "there is no delayed message 'cccc'"),
        ("aaaa", "'aaaa' stands for 2 delayed messages; name one by its receipt"),
    ],
)
def test_name_of_none_or_several_is_an_error(
    app: Umbel, later: Callable[..., str], name: str, text: str
) -> None:
    later(task_id="aaaa-1")
    later(task_id="aaaa-2")

    with pytest.raises(DelayedError, match=text):
        app.delayed.promote(name)
    assert app.delayed.count() == 2


def test_promoted_messages_are_ready(app: Umbel, later: Callable[..., str]) -> None:
    first, second, third = (later(task_id=f"{name}{name}-1") for name in ("aa", "bb", "cc"))

    assert app.delayed.promote([first, "cccc"]) == 2
    assert ids(app.delayed) == [second]
    assert ids_ready(app) == [first, third]


def test_all_that_fit_are_promoted_page_by_page(app: Umbel, later: Callable[..., str]) -> None:
    kept = later(task="mail.send")
    for _ in range(250):
        later()

    assert app.delayed.promote(where={"task": "shop.*"}) == 250
    assert ids(app.delayed) == [kept]


def test_what_waits_anew_is_not_promoted_without_end(
    app: Umbel, later: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a task that fails at once, and waits for its next try."""
    sent = [later() for _ in range(3)]
    broker = app.broker
    promote, promoted = broker.promote, []

    def and_come_back(receipts: Any) -> int:
        found = {one.receipt: one for one in broker.delayed(limit=1000)}
        promoted.extend(ids(found[receipt] for receipt in receipts))
        count = promote(receipts)
        broker.nack(broker.receive(["celery"], max_messages=10, wait_s=0), delay_s=5)
        return count

    monkeypatch.setattr(broker, "promote", and_come_back)

    assert app.delayed.promote() == 3
    assert sorted(promoted) == sorted(sent)


def test_dropped_messages_are_gone(app: Umbel, clock: FakeClock, later: Callable[..., str]) -> None:
    first, second = later(), later(queue="other")
    later(task="mail.send")

    assert app.delayed.drop(where={"task": "mail.*"}) == 1
    assert app.delayed.drop(first) == 1
    clock.advance(100)
    assert ids_ready(app, "celery", "other") == [second]


def test_coroutines_have_a_twin_of_each_verb(app: Umbel, later: Callable[..., str]) -> None:
    async def use() -> tuple[Any, ...]:
        delayed = app.delayed
        one: Delayed = await delayed.aget(first)
        found = await delayed.afind(limit=1)
        return (
            ids([one]),
            ids(found),
            await delayed.acount(queue="celery"),
            await delayed.apromote(first),
            await delayed.adrop(where={"queue": "celery"}),
        )

    first, _ = later(10), later(20)

    assert asyncio.run(use()) == ([first], [first], 2, 1, 1)


def ids_ready(app: Umbel, *queues: str) -> list[str]:
    found = app.broker.receive(list(queues) or ["celery"], max_messages=1000, wait_s=0)
    return ids(found)
