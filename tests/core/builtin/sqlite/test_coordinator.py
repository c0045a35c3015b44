from __future__ import annotations

import os

import pytest

from umbel.builtin.sqlite.coordinator import SqliteCoordinator
from umbel.errors import BackendError
from umbel_testing import FakeClock


def test_counter_is_a_value_as_well(coordinator):
    coordinator.increment("hits", 5)

    assert coordinator.get(["hits"]) == {"hits": b"5"}
    coordinator.put("hits", b"10")
    assert coordinator.increment("hits") == 11


def test_what_is_no_number_is_not_counted(coordinator):
    coordinator.put("name", b"ann")

    with pytest.raises(BackendError, match="'name' holds no number"):
        coordinator.increment("name")
    assert coordinator.get(["name"]) == {"name": b"ann"}


def test_counter_grows_beyond_64_bits(coordinator):
    coordinator.increment("large", 2**63)

    assert coordinator.increment("large", 2**63) == 2**64


def test_scan_takes_the_prefix_literally(coordinator):
    for key in ("a", "a%", "a%b", "a_", "ab", "b", "a%\U0010ffff"):
        coordinator.put(key, key.encode())

    assert list(coordinator.scan("a%")) == ["a%", "a%b", "a%\U0010ffff"]
    assert len(coordinator.scan("")) == 7


def test_expired_entries_leases_and_rates_do_not_pile_up(coordinator, clock, query):
    for n in range(40):
        coordinator.put(f"key {n}", b"", ttl_s=1)
        coordinator.acquire(f"lease {n}", "me", ttl_s=1)
        coordinator.take(f"rate {n}", limit=1, period_s=1)
        clock.advance(2)

    for table in ("entries", "leases", "rates"):
        assert query(f"SELECT count(*) FROM {table}")[0][0] <= 2


def test_token_grows_though_the_lease_was_forgotten(coordinator, clock, query):
    first = coordinator.acquire("lease", "me", ttl_s=1)
    clock.advance(2)
    query("DELETE FROM leases")

    assert coordinator.acquire("lease", "me", ttl_s=1) > first


@pytest.mark.parametrize(
    "rate", [{"limit": 0}, {"period_s": 0}, {"cost": 4}, {"cost": -1}, {"period_s": -1}]
)
def test_rate_that_could_never_be_met_is_a_mistake(coordinator, rate):
    with pytest.raises(ValueError, match="can't be taken"):
        coordinator.take("key", **{"limit": 3, "period_s": 1, **rate})


def test_rate_over_a_long_time_is_exact(coordinator, clock):
    taken = 0
    for _ in range(10_000):
        taken += coordinator.take("key", limit=7, period_s=10) == 0.0
        clock.advance(0.1)

    # A burst of 7, then 0.7 a second for 1,000 seconds.
    assert 706 <= taken <= 708


def test_rate_goes_on_where_the_clock_was_set_back(open_handle, clock):
    coordinator = open_handle(SqliteCoordinator, clock)
    coordinator.take("key", limit=1, period_s=10)
    earlier = open_handle(SqliteCoordinator, FakeClock(clock.time() - 3600))

    assert earlier.take("key", limit=1, period_s=10) == pytest.approx(10)


def test_rate_that_was_made_faster_is_not_held_up_by_the_slow_one(coordinator):
    coordinator.take("key", limit=1, period_s=3600)

    assert coordinator.take("key", limit=1, period_s=1) == pytest.approx(1)


def test_events_are_kept_for_a_minute_and_then_dropped(coordinator, clock, query):
    subscription = coordinator.subscribe(["channel"])
    for n in range(100):
        coordinator.publish("channel", str(n).encode())
    clock.advance(61)
    for _ in range(10):
        coordinator.publish("other", b"")

    assert query("SELECT count(*) FROM events WHERE channel = 'channel'") == [(0,)]
    assert subscription.poll(timeout_s=0) == []
    coordinator.publish("channel", b"new")
    assert subscription.poll(timeout_s=0) == [("channel", b"new")]
    subscription.close()


def test_more_events_than_one_poll_returns_come_in_the_next(coordinator):
    subscription = coordinator.subscribe(["channel"])
    for n in range(1010):
        coordinator.publish("channel", str(n).encode())
    polls = [subscription.poll(timeout_s=0) for _ in range(3)]

    assert [len(poll) for poll in polls] == [1000, 10, 0]
    subscription.close()


@pytest.mark.skipif(os.name == "nt", reason="an open file can't be deleted")
def test_subscription_outlives_its_file(coordinator, path):
    subscription = coordinator.subscribe(["channel"])
    for _ in range(5):
        coordinator.publish("channel", b"old")
    for name in path.parent.glob("jobs.db*"):
        name.unlink()
    coordinator.publish("channel", b"new")

    assert subscription.poll(timeout_s=0) == [("channel", b"new")]
    subscription.close()


def test_closed_handle_says_so(open_handle):
    coordinator = open_handle(SqliteCoordinator)
    coordinator.close()

    with pytest.raises(BackendError, match="was closed"):
        coordinator.get(["key"])
