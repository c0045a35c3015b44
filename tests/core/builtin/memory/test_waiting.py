"""How waits end: by what they look for, by time of either kind, or by an interrupt."""

from __future__ import annotations

import threading
import time

import pytest

from umbel.builtin.memory.waiting import DrivenClock, Waiter
from umbel.clock import SYSTEM_CLOCK
from umbel_testing.clock import FakeClock
from umbel_testing.kit import Running

FOREVER_S = 1_000_000.0
PATIENCE_S = 10.0


@pytest.fixture
def changed():
    return threading.Condition(threading.Lock())


def never():
    return None


def test_what_is_there_is_returned_at_once(changed):
    assert Waiter(changed, SYSTEM_CLOCK).wait_for(lambda: "there", timeout_s=FOREVER_S) == "there"


def test_no_wait_looks_once(changed):
    looks = []
    Waiter(changed, SYSTEM_CLOCK).wait_for(lambda: looks.append(1), timeout_s=0)

    assert looks == [1]


def test_wait_ends_at_its_bound(changed):
    waiter = Waiter(changed, SYSTEM_CLOCK)

    assert Running(lambda: waiter.wait_for(never, timeout_s=0.05)).result(PATIENCE_S) is None


def test_wait_ends_with_a_change(changed):
    found = []
    waiter = Waiter(changed, SYSTEM_CLOCK)
    running = Running(lambda: waiter.wait_for(lambda: list(found), timeout_s=FOREVER_S))
    assert running.goes_on()
    with changed:
        found.append("new")
        changed.notify_all()

    assert running.result(PATIENCE_S) == ["new"]


def test_change_without_anything_found_is_waited_on(changed):
    running = Running(lambda: Waiter(changed, SYSTEM_CLOCK).wait_for(never, timeout_s=0.2))
    with changed:
        changed.notify_all()

    assert running.goes_on(0.05)
    assert running.result(PATIENCE_S) is None


def test_time_alone_is_slept_until_it_changes_the_answer(changed):
    due_at = time.monotonic() + 0.1
    waiter = Waiter(changed, SYSTEM_CLOCK)
    looks = []

    def look():
        looks.append(1)
        return time.monotonic() >= due_at

    running = Running(
        lambda: waiter.wait_for(
            look, timeout_s=FOREVER_S, next_in=lambda: due_at - time.monotonic()
        )
    )
    assert running.result(PATIENCE_S)
    assert len(looks) < 20


def test_interrupt_ends_all_waits_of_its_waiter_and_no_others(changed):
    waiter, other = Waiter(changed, SYSTEM_CLOCK), Waiter(changed, SYSTEM_CLOCK)
    mine = [Running(lambda: waiter.wait_for(never, timeout_s=FOREVER_S)) for _ in range(3)]
    others = Running(lambda: other.wait_for(never, timeout_s=FOREVER_S))
    for running in mine:
        assert running.goes_on()
    waiter.interrupt()

    assert [running.result(PATIENCE_S) for running in mine] == [None] * 3
    assert others.goes_on()
    other.interrupt()
    assert others.result(PATIENCE_S) is None


def test_interrupt_of_nobody_ends_the_next_wait_and_that_alone(changed):
    waiter = Waiter(changed, SYSTEM_CLOCK)
    waiter.interrupt()

    assert waiter.wait_for(lambda: "there", timeout_s=FOREVER_S) == "there"
    assert waiter.wait_for(never, timeout_s=FOREVER_S) is None
    running = Running(lambda: waiter.wait_for(never, timeout_s=FOREVER_S))
    assert running.goes_on()
    waiter.interrupt()
    assert running.result(PATIENCE_S) is None


def test_driven_clock_that_is_moved_wakes_a_wait(changed):
    clock = FakeClock()
    due_at = clock.time() + 3600
    waiter = Waiter(changed, clock)
    running = Running(
        lambda: waiter.wait_for(
            lambda: clock.time() >= due_at,
            timeout_s=FOREVER_S,
            next_in=lambda: due_at - clock.time(),
        )
    )
    assert running.goes_on()
    clock.advance("59m")
    assert running.goes_on()
    clock.advance("1m")

    assert running.result(PATIENCE_S)


def test_driven_clock_that_is_moved_past_the_bound_ends_a_wait(changed):
    clock = FakeClock()
    running = Running(lambda: Waiter(changed, clock).wait_for(never, timeout_s=600.0))
    assert running.goes_on()
    clock.advance("10m")

    assert running.result(PATIENCE_S) is None


def test_driven_clock_that_nobody_moves_hangs_nobody(changed):
    running = Running(lambda: Waiter(changed, FakeClock()).wait_for(never, timeout_s=0.05))

    assert running.result(PATIENCE_S) is None


def test_wait_leaves_no_subscription_behind(changed):
    clock = FakeClock()
    Waiter(changed, clock).wait_for(never, timeout_s=0.01)

    assert isinstance(clock, DrivenClock)
    assert clock._wakes == {}
