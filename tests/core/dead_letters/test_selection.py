from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest

from umbel import Umbel
from umbel.errors import DeadLetterError
from umbel.messages import DeadLetter, DeathKind
from umbel_testing import FakeClock

Dead = Callable[..., DeadLetter]


@pytest.mark.parametrize(
    "given",
    [
        {"queue": "mail"},
        {"task": "shop.ship"},
        {"task": "*.ship"},
        {"kind": "poison"},
        {"kind": DeathKind.POISON},
        {"reason": "TOO HOT"},
        {"queue": "mail", "kind": "poison", "reason": "hot"},
    ],
    ids=str,
)
def test_letters_are_found_by_filter(app: Umbel, dead: Dead, given: dict[str, str]) -> None:
    dead("failed: cold", task="shop.bill")
    wanted = dead("far too hot", task="shop.ship", queue="mail", kind=DeathKind.POISON)
    dead("failed: cold", task="shop.Ship")

    assert list(app.dead_letters.find(**given)) == [wanted]  # type: ignore[arg-type]
    assert app.dead_letters.count(**given) == 1  # type: ignore[arg-type]


@pytest.mark.parametrize("of", [lambda s, _: s, lambda s, _: timedelta(seconds=s), None])
def test_letters_are_found_by_age(
    app: Umbel, dead: Dead, clock: FakeClock, of: Callable[[float, float], object] | None
) -> None:
    old = dead()
    clock.advance("1h")
    young = dead()
    clock.advance("10m")
    age = of(1800, 0) if of else datetime.fromtimestamp(clock.time() - 1800, UTC)

    assert list(app.dead_letters.find(older_than=age)) == [old]  # type: ignore[arg-type]
    assert list(app.dead_letters.find(newer_than=age)) == [young]  # type: ignore[arg-type]


def test_letters_come_newest_first_up_to_the_limit(app: Umbel, dead: Dead) -> None:
    letters = [dead() for _ in range(3)][::-1]

    assert list(app.dead_letters) == letters
    assert list(app.dead_letters.find(limit=2)) == letters[:2]


def test_unreadable_letters_belong_to_no_task(app: Umbel, dead: Dead) -> None:
    dead(raw=b"{")

    assert app.dead_letters.count(task="*x") == 0
    assert app.dead_letters.count(kind="failed") == 1


def test_a_letter_is_named_by_id_prefix_or_receipt(app: Umbel, dead: Dead) -> None:
    first, second = dead(id="abcd-1"), dead(id="efgh-2")

    get = app.dead_letters.get
    assert [get("abcd-1"), get("efgh"), get(second.receipt)] == [first, second, second]


@pytest.mark.parametrize("name", ["nobody", "abc", ""])
def test_a_name_that_stands_for_none_is_an_error(app: Umbel, dead: Dead, name: str) -> None:
    dead(id="abcd-1")

    with pytest.raises(DeadLetterError, match="there is no dead letter"):
        app.dead_letters.get(name)


def test_a_name_that_stands_for_several_is_an_error_with_their_receipts(
    app: Umbel, dead: Dead
) -> None:
    first, second = dead(id="abcd-1"), dead(id="abcd-2")

    with pytest.raises(DeadLetterError, match="stands for 2 dead letters") as raised:
        app.dead_letters.get("abcd")
    assert f"{first.receipt} (abcd-1)" in str(raised.value)
    assert f"{second.receipt} (abcd-2)" in str(raised.value)


def test_a_whole_id_is_not_the_beginning_of_another(app: Umbel, dead: Dead) -> None:
    whole = dead(id="abcd")
    dead(id="abcd-longer")

    assert app.dead_letters.get("abcd") == whole


def test_a_receipt_goes_before_the_beginning_of_an_id(app: Umbel, dead: Dead) -> None:
    by_receipt = dead()
    dead(id=f"{by_receipt.receipt}-and-more")

    assert app.dead_letters.get(by_receipt.receipt) == by_receipt


@pytest.mark.parametrize(
    "given,hint",
    [({"tsak": "x"}, "did you mean 'task'"), ({"xyz": 1}, "there are queue, task"), ({"": 1}, "")],
    ids=str,
)
def test_a_filter_of_an_unknown_field_means_none_rather_than_all(
    app: Umbel, dead: Dead, given: dict[str, object], hint: str
) -> None:
    dead()

    for act in (app.dead_letters.drop, app.dead_letters.replay):
        with pytest.raises(DeadLetterError, match=f"can't be chosen by .*{hint}"):
            act(where=given)  # type: ignore[operator]
    assert app.dead_letters.count() == 1


def test_an_age_that_is_none_is_refused(app: Umbel, dead: Dead) -> None:
    dead()

    with pytest.raises(DeadLetterError, match="an age is seconds"):
        app.dead_letters.count(older_than="soon")  # type: ignore[arg-type]
