"""What the memory coordinator does beyond the contract of all coordinators (tests/contracts)."""

from __future__ import annotations

import gc

import pytest

from umbel.builtin.memory.coordinator import MemoryCoordinator
from umbel.builtin.memory.space import Space
from umbel.errors import BackendError
from umbel_testing.clock import FakeClock
from umbel_testing.kit import Running

PATIENCE_S = 10.0


@pytest.fixture
def clock():
    return FakeClock()


@pytest.fixture
def space():
    return Space()


@pytest.fixture
def coordinator(space, clock):
    return MemoryCoordinator(space, clock)


def test_counter_can_be_read_as_text(coordinator):
    coordinator.increment("n", 41)
    coordinator.increment("n")

    assert coordinator.get(["n"]) == {"n": b"42"}


def test_value_that_is_no_number_cannot_be_incremented(coordinator):
    coordinator.put("n", b"many")
    with pytest.raises(BackendError, match="'n' can't be incremented"):
        coordinator.increment("n")

    assert coordinator.get(["n"]) == {"n": b"many"}


def test_increment_without_a_ttl_keeps_the_counters_time(coordinator, clock):
    coordinator.increment("n", ttl_s=10.0)
    clock.advance(6)
    assert coordinator.increment("n") == 2
    clock.advance(6)

    assert coordinator.increment("n") == 1


@pytest.mark.parametrize(
    "limit, period_s, cost", [(0, 1.0, 1), (1, 0.0, 1), (1, -1.0, 1), (5, 1.0, 6), (5, 1.0, 0)]
)
def test_rate_that_could_never_be_taken_is_refused(coordinator, limit, period_s, cost):
    with pytest.raises(ValueError, match="can't be taken"):
        coordinator.take("rate", limit=limit, period_s=period_s, cost=cost)


def test_waiting_for_just_the_time_told_is_enough_however_odd_the_rate(coordinator, clock):
    for _ in range(1000):
        wait_s = coordinator.take("rate", limit=7, period_s=0.3)
        if wait_s:
            clock.advance(wait_s)
            assert coordinator.take("rate", limit=7, period_s=0.3) == 0.0

    assert clock.monotonic() == pytest.approx((1000 - 7) * 0.3 / 7, rel=0.6)


def test_rates_and_leases_that_are_over_are_dropped(coordinator, space, clock):
    for number in range(100):
        coordinator.take(f"rate {number}", limit=1, period_s=60.0)
        coordinator.acquire(f"lease {number}", "me", ttl_s=60.0)
    clock.advance("2m")
    coordinator.take("rate", limit=1, period_s=60.0)
    coordinator.acquire("lease", "me", ttl_s=60.0)

    assert (len(space.shared._rates), len(space.shared._leases)) == (1, 1)


def test_subscription_that_was_forgotten_collects_nothing(coordinator, space):
    coordinator.subscribe(["channel"])
    gc.collect()
    coordinator.publish("channel", b"")

    assert len(space.shared._inboxes) == 0


def test_closing_a_subscription_ends_its_poll(coordinator):
    subscription = coordinator.subscribe(["channel"])
    running = Running(lambda: subscription.poll(timeout_s=1e6))
    assert running.goes_on()
    subscription.close()

    assert running.result(PATIENCE_S) == []


def test_closed_subscription_hears_nothing_more(coordinator):
    subscription = coordinator.subscribe(["channel"])
    subscription.close()
    coordinator.publish("channel", b"")

    assert subscription.poll(timeout_s=0) == []
