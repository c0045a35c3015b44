"""When tasks with a rate limit start, whoever comes whenever."""

from __future__ import annotations

import heapq
import random
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from umbel.worker.pacing import LONGEST_HOLD_S, SLACK_S, Pace, step

RATES = st.sampled_from([0.2, 1.0, 7.0, 10.0, 60.0, 333.0])


def most_within(starts: Sequence[float], window_s: float) -> int:
    """Return how many of `starts`, in order, lie within one window at most."""
    first, most = 0, 0
    for index, at in enumerate(starts):
        while starts[first] < at - window_s:
            first += 1
        most = max(most, index - first + 1)
    return most


class Fleet:
    """Nodes and a queue: messages ask to start at a node, and come back when they are told to."""

    def __init__(self, rate: float, *, nodes: int = 1, late_s: float = 0.02, seed: int = 0):
        self.rate, self.late_s = rate, late_s
        self.random = random.Random(seed)
        self.paces = [Pace() for _ in range(nodes)]
        self.starts: list[float] = []
        self.holds: list[float] = []
        self._waiting: list[tuple[float, int, bool]] = []

    def arrive(self, count: int, at: float = 0.0) -> None:
        number = len(self._waiting)
        for index in range(count):
            heapq.heappush(self._waiting, (at, number + index, True))

    def run(self, until: float) -> None:
        """Let time go by."""
        while self._waiting and self._waiting[0][0] <= until:
            now, number, is_new = heapq.heappop(self._waiting)
            node = self.random.randrange(len(self.paces))
            self.paces[node], hold_s = step(
                self.paces[node], now, self.rate, is_new=is_new, jitter=self.random.random
            )
            if hold_s == 0:
                self.starts.append(now)
            else:
                self.holds.append(hold_s)
                back_at = now + hold_s + self.random.random() * self.late_s
                heapq.heappush(self._waiting, (back_at, number, False))


def test_first_one_starts_at_once() -> None:
    pace, hold_s = step(Pace(), 5.0, 1.0, is_new=True)

    assert hold_s == 0
    assert step(pace, 5.0, 1.0, is_new=True)[1] > 0


def test_one_that_is_held_starts_when_it_is_told_to_come() -> None:
    pace, _ = step(Pace(), 100.0, 2.0, is_new=True)
    pace, hold_s = step(pace, 100.0, 2.0, is_new=True)

    assert 0.4 <= hold_s <= 0.5
    assert step(pace, 100.0 + hold_s, 2.0, is_new=False)[1] == 0


def test_newcomer_does_not_go_before_one_that_was_promised_a_start() -> None:
    pace, _ = step(Pace(), 100.0, 2.0, is_new=True)
    pace, hold_s = step(pace, 100.0, 2.0, is_new=True)

    pace, newcomer_hold_s = step(pace, 100.0 + hold_s, 2.0, is_new=True)

    assert newcomer_hold_s > 0
    assert step(pace, 100.0 + hold_s, 2.0, is_new=False)[1] == 0


@settings(max_examples=200, deadline=None)
@given(
    rate=RATES,
    gaps=st.lists(
        st.tuples(st.floats(0, 3, allow_subnormal=False), st.booleans()), min_size=1, max_size=150
    ),
    window_s=st.floats(0.01, 5),
)
def test_never_more_start_than_the_rate_allows(
    rate: float, gaps: list[tuple[float, bool]], window_s: float
) -> None:
    pace, now, starts = Pace(), 1000.0, []
    for gap_s, is_new in gaps:
        now += gap_s if gap_s > 0.5 else gap_s / 20  # some in bursts
        pace, hold_s = step(pace, now, rate, is_new=is_new)
        if hold_s == 0:
            starts.append(now)

    assert most_within(starts, window_s) <= rate * (window_s + SLACK_S) + 1 + 1e-6


@settings(max_examples=25, deadline=None)
@given(rate=RATES, count=st.integers(1, 1500), seed=st.integers(0, 1000))
def test_a_backlog_starts_as_fast_as_the_rate_allows(rate: float, count: int, seed: int) -> None:
    fleet, run_s = Fleet(rate, seed=seed), 10.0
    fleet.arrive(count)
    fleet.run(run_s)

    possible = min(count, int(rate * run_s))
    assert len(fleet.starts) >= possible - 1
    assert most_within(fleet.starts, 1.0) <= rate * (1 + SLACK_S) + 1 + 1e-6


@pytest.mark.parametrize("count", [300, 2000])
def test_two_nodes_lose_next_to_nothing_of_their_rates(count: int) -> None:
    fleet = Fleet(10.0, nodes=2)
    fleet.arrive(count)
    fleet.run(10.0)

    assert 190 <= len(fleet.starts) <= 204


def test_a_rate_is_kept_over_trickling_arrivals() -> None:
    fleet = Fleet(5.0)
    for index in range(400):
        fleet.arrive(1, at=index / 40)
    fleet.run(20.0)

    assert 99 <= len(fleet.starts) <= 102


def test_everything_starts_in_the_end() -> None:
    fleet = Fleet(50.0, nodes=2)
    fleet.arrive(1000)
    fleet.run(30.0)

    assert len(fleet.starts) == 1000


def test_many_come_back_seldom() -> None:
    fleet = Fleet(10.0)
    fleet.arrive(20_000)
    fleet.run(60.0)

    # After the first look at each: those that start, those that come too early, and a reserve.
    assert len(fleet.holds) - 20_000 < 60 * 400
    assert max(fleet.holds) <= LONGEST_HOLD_S + 0.1


@pytest.mark.parametrize("rate", [1 / 720, 1.0, 10.0])
def test_few_are_never_held_for_long_so_that_a_raised_rate_is_felt(rate: float) -> None:
    fleet = Fleet(rate)
    fleet.arrive(50)
    fleet.run(60.0)

    assert max(fleet.holds) <= 3.0


@pytest.mark.parametrize("garbage", [1e300, float("inf"), float("nan"), -1e300, 1e9])
def test_what_a_killed_process_half_wrote_heals(garbage: float) -> None:
    pace = Pace(garbage, garbage, garbage)
    now, starts = 100.0, 0
    for _ in range(100):
        pace, hold_s = step(pace, now, 10.0, is_new=False)
        starts += hold_s == 0
        now += hold_s or 0.01

    assert starts >= 30
