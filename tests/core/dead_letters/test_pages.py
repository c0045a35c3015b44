"""A walk meets each letter that stays exactly once, whatever others do meanwhile."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from umbel.dead_letters.pages import Walk
from umbel.messages import DeadLetter, Malformed

NOTHING = Malformed(raw=b"", reason="of the test")


class Letters:
    """What a walk sees of a broker: pages of a list, newest first."""

    def __init__(self, count: int) -> None:
        self.receipts = [str(number) for number in range(count)]
        self.largest = 0
        self.calls = 0

    def dead_letters(
        self, queue: str | None = None, *, limit: int = 100, offset: int = 0
    ) -> Sequence[DeadLetter]:
        self.calls += 1
        page = self.receipts[::-1][offset : offset + limit]
        self.largest = max(self.largest, len(page))
        return [
            DeadLetter(message=NOTHING, queue="q", reason="", died_at=0.0, receipt=each)
            for each in page
        ]


def walk(letters: Any, page: int) -> Walk:
    return Walk(letters, None, page=page)


@pytest.mark.parametrize("count", [0, 1, 9, 10, 11, 95])
def test_all_are_met_newest_first_in_pages(count: int) -> None:
    letters = Letters(count)
    met = [letter.receipt for page in walk(letters, 10) for letter in page]

    assert met == letters.receipts[::-1]
    assert letters.largest <= 10


def test_what_the_walk_itself_removes_costs_no_look_back() -> None:
    letters = Letters(1000)
    going = walk(letters, 10)
    met: list[str] = []
    for page in going:
        receipts = [letter.receipt for letter in page]
        met += receipts
        letters.receipts = [each for each in letters.receipts if each not in receipts]
        going.removed(receipts)

    assert met == [str(number) for number in range(999, -1, -1)]
    assert letters.calls <= 102


@given(
    seed=st.integers(0, 2**32),
    count=st.integers(0, 60),
    page=st.integers(2, 12),
    removes=st.booleans(),
)
def test_letters_that_stay_are_met_once_while_others_bury_and_replay(
    seed: int, count: int, page: int, removes: bool
) -> None:
    random = Random(seed)
    letters = Letters(count)
    buried = iter(range(10_000, 10_040))
    taken: set[str] = set()
    met: list[str] = []
    going = walk(letters, page)
    for found in going:
        receipts = [letter.receipt for letter in found]
        met += receipts
        if removes:
            mine = [each for each in receipts if random.random() < 0.7]
            letters.receipts = [each for each in letters.receipts if each not in mine]
            going.removed(mine)
        for _ in range(random.randrange(4)):
            letters.receipts += [str(number) for number in [next(buried, None)] if number]
        for _ in range(random.randrange(6)):
            if letters.receipts:
                taken.add(letters.receipts.pop(random.randrange(len(letters.receipts))))

    assert len(met) == len(set(met))
    assert {str(number) for number in range(count)} - taken <= set(met)
