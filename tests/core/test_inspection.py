"""Questions to workers, and which answers count."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import msgspec
import pytest

from umbel.errors import ConfigError
from umbel.inspection import CHANNEL, encode_reply

Reply = Callable[[dict[str, Any]], list[bytes]]


@pytest.fixture
def nodes(make_app) -> Iterator[Callable[..., Any]]:
    """Makes an app, and what answers its questions in the place of workers."""
    ends: list[threading.Event] = []
    threads: list[threading.Thread] = []

    def make(reply: Reply) -> Any:
        app = make_app()
        subscription, end = app.coordinator.subscribe([CHANNEL]), threading.Event()

        def serve() -> None:
            while not end.is_set():
                for _, payload in subscription.poll(timeout_s=0.05):
                    order = msgspec.json.decode(payload)
                    for answer in reply(order):
                        app.coordinator.publish(order["reply_to"], answer)
            subscription.close()

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        ends.append(end)
        threads.append(thread)
        return app

    yield make
    for end in ends:
        end.set()
    for thread in threads:
        thread.join(10)


def pong(*names: str) -> Reply:
    return lambda order: [encode_reply(order["ticket"], name, {"ok": "pong"}) for name in names]


def test_answers_come_by_node(nodes):
    app = nodes(pong("b@h", "a@h"))

    assert app.control.inspect(timeout=0.3).ping() == {"a@h": {"ok": "pong"}, "b@h": {"ok": "pong"}}
    assert app.control.ping(timeout=0.3) == [{"a@h": {"ok": "pong"}}, {"b@h": {"ok": "pong"}}]


def test_nobody_answers(app):
    began = time.monotonic()

    assert app.control.inspect(timeout=0.05).ping() is None
    assert app.control.ping(timeout=0.05) == []
    assert time.monotonic() - began >= 0.1


def test_asking_ends_when_all_who_were_asked_have_answered(nodes):
    app = nodes(pong("a@h", "b@h"))
    began = time.monotonic()

    answers = app.control.inspect(["b@h", "a@h"], timeout=60).active()

    assert answers == {"a@h": {"ok": "pong"}, "b@h": {"ok": "pong"}}
    assert time.monotonic() - began < 30


def test_one_node_may_be_named_by_a_string(nodes):
    app = nodes(pong("a@h"))

    assert app.control.inspect("a@h", timeout=60).ping() == {"a@h": {"ok": "pong"}}


def test_answers_of_others_and_to_other_questions_are_passed_over(nodes):
    def reply(order: dict[str, Any]) -> list[bytes]:
        return [
            b"{",
            b"\xff\xfe",
            b"[" * 100_000,
            b'{"ticket": 7}',
            encode_reply("another question", "a@h", "wrong"),
            encode_reply(order["ticket"], "stranger@h", "wrong"),
            encode_reply(order["ticket"], "a@h", "right"),
        ]

    app = nodes(reply)

    assert app.control.inspect(["a@h"], timeout=60).ping() == {"a@h": "right"}


def test_late_answer_is_for_nobody(nodes):
    tickets: list[str] = []

    def reply(order: dict[str, Any]) -> list[bytes]:
        late, tickets[:] = list(tickets), [order["ticket"]]
        return [encode_reply(ticket, "a@h", "late") for ticket in late]

    app = nodes(reply)

    assert app.control.inspect(timeout=0.1).ping() is None
    assert app.control.inspect(timeout=0.1).ping() is None
    assert len(tickets) == 1


def test_answers_do_not_block_the_event_loop(nodes):
    app = nodes(pong("a@h"))

    async def ask() -> Any:
        inspected = app.control.inspect(["a@h"], timeout=60)
        return await asyncio.gather(
            inspected.aping(),
            inspected.acall("active"),
            app.control.acall("ping", destination=["a@h"], timeout=60),
        )

    assert asyncio.run(ask()) == [{"a@h": {"ok": "pong"}}] * 3


@pytest.mark.parametrize(
    "method,arguments,expected",
    [
        ("ping", (), {}),
        ("active", (), {}),
        ("reserved", (), {}),
        ("scheduled", (), {}),
        ("stats", (), {}),
        ("active_queues", (), {}),
        ("revoked", (), {}),
        ("registered", ("rate_limit", "queue"), {"taskinfoitems": ["rate_limit", "queue"]}),
        ("conf", (True,), {"with_defaults": True}),
    ],
)
def test_each_question_is_asked_by_its_name(nodes, method, arguments, expected):
    asked: list[dict[str, Any]] = []

    def reply(order: dict[str, Any]) -> list[bytes]:
        asked.append(order)
        return [encode_reply(order["ticket"], "a@h", [])]

    app = nodes(reply)
    getattr(app.control.inspect(["a@h"], timeout=60), method)(*arguments)

    (order,) = asked
    assert (order["method"], order["arguments"]) == (method, expected)
    assert order["destination"] == ["a@h"]


def test_asking_needs_a_coordinator(app, monkeypatch):
    monkeypatch.setattr(app._handles, "open_coordinator", lambda: None)

    with pytest.raises(ConfigError, match=r"stats\(\) needs a coordinator"):
        app.control.inspect().stats()
