"""The clock that tests move."""

from __future__ import annotations

import threading
from datetime import UTC, datetime, timedelta

import pytest

from umbel.clock import Clock
from umbel_testing.clock import FakeClock, seconds_of


def test_clock_stands_still_until_it_is_moved():
    clock: Clock = FakeClock(datetime(2031, 5, 1, tzinfo=UTC))
    before = (clock.time(), clock.monotonic())

    assert before == (datetime(2031, 5, 1, tzinfo=UTC).timestamp(), 0.0)
    assert (clock.time(), clock.monotonic()) == before


def test_move_shifts_both_times_and_returns_the_wall_clock():
    clock = FakeClock(1000.0)

    assert clock.advance("1m 30s") == 1090.0
    assert (clock.time(), clock.monotonic()) == (1090.0, 90.0)


@pytest.mark.parametrize(
    "duration, seconds",
    [
        (2, 2.0),
        (0.25, 0.25),
        (timedelta(minutes=1), 60.0),
        ("3h", 10_800.0),
        ("1h30m", 5400.0),
        (" 1d  2h ", 93_600.0),
        ("250ms", 0.25),
        ("1.5s", 1.5),
        ("1w", 604_800.0),
    ],
)
def test_durations_are_read(duration, seconds):
    assert seconds_of(duration) == seconds


@pytest.mark.parametrize(
    "duration", ["", "3", "3 hours", "h", "-1h", "1h-", -1, float("inf"), float("nan")]
)
def test_what_is_no_duration_is_refused(duration):
    clock = FakeClock(0.0)
    with pytest.raises(ValueError):
        clock.advance(duration)

    assert clock.time() == 0.0


def test_subscribers_are_told_of_each_move_until_they_end_it():
    clock, told = FakeClock(0.0), []
    unsubscribe = clock.subscribe(lambda: told.append(clock.time()))
    clock.advance(1)
    clock.advance(2)
    unsubscribe()
    unsubscribe()
    clock.advance(4)

    assert told == [1.0, 3.0]


def test_subscriber_may_subscribe_and_end_others_while_it_is_told():
    clock, told = FakeClock(0.0), []
    end_second = clock.subscribe(lambda: told.append("second"))

    def first():
        end_second()
        clock.subscribe(lambda: told.append("late"))

    clock.subscribe(first)
    clock.advance(1)
    clock.advance(1)

    assert told == ["second", "late"]


def test_concurrent_moves_add_up():
    clock = FakeClock(0.0)
    threads = [
        threading.Thread(target=lambda: [clock.advance(1) for _ in range(500)]) for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert clock.time() == 2000.0
