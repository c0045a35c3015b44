"""Replaying and dropping dead letters."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from umbel import Umbel
from umbel.dead_letters import DeadLetters, ReplayReport
from umbel.errors import ConfigError, DeadLetterError, DecodeError
from umbel.messages import DeadLetter, Message
from umbel_testing import FakeClock

Dead = Callable[..., DeadLetter]


def sent(app: Umbel, queue: str = "celery") -> list[Message]:
    found = app.broker.peek(queue, limit=1000)
    assert all(isinstance(each, Message) for each in found)
    return list(found)  # type: ignore[arg-type]


def test_a_replayed_task_keeps_its_lineage_and_begins_anew(app: Umbel, dead: Dead) -> None:
    letter = dead(
        due_at=1.0,
        expires_at=2.0,
        priority=7,
        reply_to="me",
        headers={
            "task": "kit.add", "id": "i", "root_id": "root", "parent_id": "parent", "x-own": [1],
            "retries": 3, "eta": "2020-01-01T00:00:00+00:00", "expires": "2020-01-01T00:00:01+00:00",
        },
    )  # fmt: skip
    assert app.dead_letters.replay(letter.receipt) == ReplayReport(replayed=1)

    before, (again,) = letter.message, sent(app)
    assert isinstance(before, Message)
    assert again.headers == {
        **before.headers,
        "retries": 0,
        "eta": None,
        "expires": None,
        "umbel_attempts_before": 4,
        "umbel_replays": 1,
    }
    assert (again.id, again.body, again.priority) == (before.id, before.body, 7)
    assert (again.reply_to, again.due_at, again.expires_at) == ("me", None, None)
    assert again.attempt == before.attempt + 1
    assert list(app.dead_letters) == []


def test_a_second_replay_counts_on(app: Umbel, dead: Dead) -> None:
    headers = {"retries": 2, "umbel_attempts_before": 4, "umbel_replays": 1}
    app.dead_letters.replay(dead(headers=headers).receipt)

    (again,) = sent(app)
    assert again.headers["umbel_attempts_before"] == 7
    assert again.headers["umbel_replays"] == 2


def test_all_that_fit_are_replayed_and_the_others_stay(app: Umbel, dead: Dead) -> None:
    stays = dead("cold")
    hot = [dead("hot") for _ in range(450)]

    assert app.dead_letters.replay(where={"reason": "hot"}) == ReplayReport(replayed=450)
    found = app.broker.peek("celery", limit=1000)
    assert {each.id for each in found} == {each.message.id for each in hot}  # type: ignore[union-attr]
    assert list(app.dead_letters) == [stays]


def test_a_dry_run_only_counts(app: Umbel, dead: Dead) -> None:
    letters = [dead() for _ in range(3)]

    assert app.dead_letters.replay(dry_run=True).replayed == 3
    assert app.dead_letters.replay([letters[0].receipt], dry_run=True).replayed == 1
    assert app.dead_letters.count() == 3
    assert sent(app) == []


def test_what_dies_after_the_call_began_is_not_replayed(
    app: Umbel, dead: Dead, monkeypatch: pytest.MonkeyPatch
) -> None:
    dead("first")
    replay = app.broker.replay

    def dies_again(replays: Any) -> Any:
        gone = replay(replays)
        for _ in replays:
            dead("again")
        return gone

    monkeypatch.setattr(app.broker, "replay", dies_again)

    assert app.dead_letters.replay().replayed == 1
    assert [letter.reason for letter in app.dead_letters] == ["again"]


def test_what_others_replayed_meanwhile_is_told(
    app: Umbel, dead: Dead, monkeypatch: pytest.MonkeyPatch
) -> None:
    dead()
    there = dead()
    replay = app.broker.replay

    def late(replays: Any) -> Any:
        app.broker.drop_dead([there.receipt])
        return replay(replays)

    monkeypatch.setattr(app.broker, "replay", late)

    assert app.dead_letters.replay() == ReplayReport(replayed=1, gone=1)


def test_a_malformed_letter_is_not_replayed_as_it_is(app: Umbel, dead: Dead) -> None:
    malformed = dead(raw=b"{")
    dead()

    with pytest.raises(DeadLetterError, match=r"can't be read .* say what to send in its place"):
        app.dead_letters.replay(malformed.receipt)
    assert app.dead_letters.replay() == ReplayReport(replayed=1, unreadable=1)
    assert list(app.dead_letters) == [malformed]


def test_one_unknown_name_keeps_all_from_being_replayed(app: Umbel, dead: Dead) -> None:
    letter = dead()

    with pytest.raises(DeadLetterError):
        app.dead_letters.replay([letter.receipt, "nobody"])
    assert list(app.dead_letters) == [letter]


def test_a_malformed_letter_is_replayed_as_what_it_is_edited_to(app: Umbel, dead: Dead) -> None:
    letter = dead(raw=b"{", queue="mail")
    app.dead_letters.replay(letter.receipt, task="kit.add", args=[1], kwargs={"y": 2})

    (again,) = sent(app, "mail")
    assert again.task == "kit.add"
    assert again.body.startswith(b'[[1],{"y":2},')
    assert list(app.dead_letters) == []


def test_arguments_are_edited_and_the_rest_stays(app: Umbel, dead: Dead) -> None:
    body = b'[[2, 3], {"k": 1}, {"callbacks": null, "errbacks": null, "chain": [], "chord": 1}]'
    app.dead_letters.replay(dead(body=body).receipt, args=[5])

    (again,) = sent(app)
    assert app.serializer("json").loads(again.body) == [
        [5],
        {"k": 1},
        {"callbacks": None, "errbacks": None, "chain": [], "chord": 1},
    ]
    assert (again.headers["argsrepr"], again.headers["kwargsrepr"]) == ("(5,)", "{'k': 1}")
    assert again.headers["umbel_replays"] == 1


def test_a_compressed_body_is_edited(app: Umbel, dead: Dead) -> None:
    app.conf.update(task_compression="gzip")
    packed = app.message_for(app.task(name="t")(lambda x: x).s(1))
    letter = dead(body=packed.body, headers=packed.headers)
    assert app.dead_letters.arguments(letter).args == [1]
    app.dead_letters.replay(letter.receipt, kwargs={"z": 1})

    (again,) = sent(app)
    assert "compression" not in again.headers
    assert again.body.startswith(b'[[1],{"z":1},')


def test_another_task_may_be_named(app: Umbel, dead: Dead) -> None:
    letter = dead()
    app.dead_letters.replay(letter.receipt, task="kit.renamed")

    (again,) = sent(app)
    assert (again.task, again.headers["task"]) == ("kit.renamed", "kit.renamed")
    assert isinstance(letter.message, Message)
    assert (again.id, again.body) == (letter.message.id, letter.message.body)


def test_an_unreadable_body_is_only_replaced_as_a_whole(app: Umbel, dead: Dead) -> None:
    letter = dead(body=b"\x80pickle", content_type="application/x-python-serialize")

    with pytest.raises(DeadLetterError, match="give both args and kwargs"):
        app.dead_letters.replay(letter.receipt, args=[1])
    app.dead_letters.replay(letter.receipt, args=[1], kwargs={})
    (again,) = sent(app)
    assert again.content_type == "application/json"
    assert again.body.startswith(b"[[1],{},")


def test_only_one_letter_is_edited_at_a_time(app: Umbel, dead: Dead) -> None:
    names = [dead().receipt, dead().receipt]

    for selected in (names, None):
        with pytest.raises(DeadLetterError, match="one letter at a time"):
            app.dead_letters.replay(selected, args=[1])
    assert app.dead_letters.count() == 2


@pytest.mark.parametrize(
    "changes,error",
    [
        ({"content_type": "application/x-python-serialize"}, "isn't accepted"),
        ({"body": b"[1, 2]"}, "isn't a list of arguments"),
        ({"body": b"nonsense"}, "JSON"),
        ({"body": b"x" * 2000}, "over task_message_max_bytes"),
        ({"headers": {"compression": "rot13"}}, "rot13"),
        ({"headers": {"compression": 13}}, "compression 13"),
        ({"raw": b"{"}, "can't be read"),
    ],
    ids=str,
)
def test_arguments_are_decoded_as_a_worker_would_or_not_at_all(
    app: Umbel, dead: Dead, changes: dict[str, Any], error: str
) -> None:
    app.conf.update(task_message_max_bytes=1024)
    letter = dead(**changes)

    with pytest.raises((DecodeError, DeadLetterError), match=error):
        app.dead_letters.arguments(letter)


def test_a_rate_is_kept(app: Umbel, dead: Dead, clock: FakeClock) -> None:
    for _ in range(50):
        dead()
    begun_at, times = clock.time(), []

    def sleep(seconds: float) -> None:
        clock.advance(seconds)
        times.append((round(clock.time() - begun_at, 3), len(sent(app))))

    assert DeadLetters(app, sleep=sleep).replay(rate="20/s").replayed == 50
    assert times[0] == (0.1, 2)
    assert times[-1] == (2.4, 48)
    assert len(sent(app)) == 50


def test_a_rate_that_is_none_is_refused(app: Umbel, dead: Dead) -> None:
    dead()

    with pytest.raises(ConfigError, match="is no rate"):
        app.dead_letters.replay(rate="fast")
    assert app.dead_letters.count() == 1


def test_named_letters_are_dropped(app: Umbel, dead: Dead) -> None:
    first, second = dead(), dead()

    assert app.dead_letters.drop(first.receipt) == 1
    assert list(app.dead_letters) == [second]
    assert sent(app) == []


def test_all_that_fit_are_dropped(app: Umbel, dead: Dead) -> None:
    stays = dead("cold")
    for _ in range(250):
        dead("hot")

    assert app.dead_letters.drop(where={"reason": "hot"}) == 250
    assert list(app.dead_letters) == [stays]
    assert app.dead_letters.drop() == 1


def test_coroutines_do_not_block(app: Umbel, dead: Dead) -> None:
    first, second, third = dead(), dead("hot"), dead("hot")

    async def all_of_them() -> None:
        letters = app.dead_letters
        assert await letters.afind(reason="hot") == [third, second]
        assert await letters.acount() == 3
        assert await letters.aget(first.receipt) == first
        assert (await letters.areplay(first.receipt, args=[1])).replayed == 1
        assert await letters.adrop(where={"reason": "hot"}) == 2

    asyncio.run(all_of_them())
    assert app.dead_letters.count() == 0
