"""``app.queues``: look, empty, pause."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from umbel import Umbel
from umbel.errors import CapabilityError
from umbel.interfaces.broker import Capability
from umbel.queues import Queues


def send(app: Umbel, queue: str = "celery", **options: Any) -> str:
    return app.send_task("shop.charge", queue=queue, **options).id


def test_names_are_those_of_the_broker_of_the_workers_and_of_pauses(app: Umbel) -> None:
    send(app, "mail")
    app.queues.pause("closed")

    assert app.queues.names() == ["celery", "closed", "mail"]


def test_each_queue_is_shown_as_it_stands(app: Umbel) -> None:
    send(app)
    send(app, "mail", countdown=60)
    found = {stats.name: (stats.ready, stats.delayed) for stats in app.queues}

    assert found == {"celery": (1, 0), "mail": (0, 1)}
    assert app.queues.stats("mail").delayed == 1


def test_peek_shows_what_waits(app: Umbel) -> None:
    sent = [send(app) for _ in range(3)]

    assert [getattr(each, "id", None) for each in app.queues.peek("celery", limit=2)] == sent[:2]
    assert [getattr(each, "id", None) for each in app.queues.peek("celery", offset=2)] == sent[2:]


def test_purge_takes_several_queues(app: Umbel) -> None:
    for queue in ("a", "a", "b", "c"):
        send(app, queue)

    assert app.queues.purge("a", "b", "a") == 3
    assert app.queues.stats("c").ready == 1


def test_paused_queue_is_no_workers_until_it_is_resumed(app: Umbel) -> None:
    send(app)
    app.queues.pause("celery", "mail")
    broker = app.open_broker()

    assert app.queues.paused() == ["celery", "mail"]
    assert broker.receive(["celery"], max_messages=1, wait_s=0) == []
    app.queues.resume("celery")
    assert app.queues.paused() == ["mail"]
    assert len(broker.receive(["celery"], max_messages=1, wait_s=0)) == 1


def test_coroutines_have_a_twin_of_each_verb(app: Umbel) -> None:
    async def use() -> tuple[Any, ...]:
        queues = app.queues
        await queues.apause("celery")
        paused = await queues.apaused()
        await queues.aresume("celery")
        names, stats = await queues.anames(), await queues.astats("celery")
        peeked = await queues.apeek("celery")
        return (
            paused,
            await queues.apaused(),
            names,
            stats.ready,
            len(peeked),
            await queues.apurge("celery"),
        )

    send(app)

    assert asyncio.run(use()) == (["celery"], [], ["celery"], 1, 1, 1)


def test_broker_that_cannot_pause_says_so(app: Umbel, monkeypatch: pytest.MonkeyPatch) -> None:
    class Modest(type(app.broker)):  # type: ignore[misc]
        capabilities = app.broker.capabilities - {Capability.PAUSE}

        def pause(self, queue: str) -> None:
            self._need(Capability.PAUSE)

    monkeypatch.setattr(app.broker, "__class__", Modest)

    assert isinstance(app.queues, Queues)
    assert app.queues.names() == ["celery"]
    with pytest.raises(CapabilityError, match="Modest has no capability 'pause'"):
        app.queues.pause("celery")
