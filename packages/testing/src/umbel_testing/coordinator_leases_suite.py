"""Part of `CoordinatorSuite`: leases with fencing tokens, and rates."""

from __future__ import annotations

from functools import partial

from umbel.interfaces.coordinator import Coordinator
from umbel_testing.coordinator_kit import CoordinatorKit
from umbel_testing.kit import Running

#: Of a store's time: how far it may differ from the time that a test asked for.
_INEXACT_S = 0.05


class CoordinatorLeasesSuite(CoordinatorKit):
    """One holder at a time; one rate for all."""

    def test_lease_has_one_holder(self) -> None:
        first, second, name = self.open(), self.open(), self.unique("lease")

        assert first.acquire(name, "first", ttl_s=3600.0) is not None
        assert second.acquire(name, "second", ttl_s=3600.0) is None

    def test_holder_prolongs_its_lease_with_the_same_token(self) -> None:
        coordinator, name = self.open(), self.unique("lease")
        token = coordinator.acquire(name, "first", ttl_s=self.soon_s)
        again = coordinator.acquire(name, "first", ttl_s=3600.0)
        self.pass_time(self.soon_s * 1.1)

        assert token is not None
        assert again == token
        assert coordinator.acquire(name, "second", ttl_s=1.0) is None

    def test_lease_that_runs_out_goes_to_the_next_with_a_higher_token(self) -> None:
        coordinator, name = self.open(), self.unique("lease")
        tokens = []
        for holder in ("first", "second", "first"):
            tokens.append(coordinator.acquire(name, holder, ttl_s=self.soon_s) or 0)
            self.pass_time(self.soon_s * 1.1)

        assert 0 < tokens[0] < tokens[1] < tokens[2]

    def test_released_lease_goes_to_the_next_with_a_higher_token(self) -> None:
        coordinator, name = self.open(), self.unique("lease")
        first = coordinator.acquire(name, "first", ttl_s=3600.0) or 0

        assert coordinator.release(name, "first", first)
        assert (coordinator.acquire(name, "second", ttl_s=3600.0) or 0) > first

    def test_release_by_another_holder_or_token_is_refused(self) -> None:
        coordinator, name = self.open(), self.unique("lease")
        token = coordinator.acquire(name, "first", ttl_s=3600.0) or 0

        assert not coordinator.release(name, "second", token)
        assert not coordinator.release(name, "first", token + 1)
        assert not coordinator.release(self.unique("lease"), "first", token)
        assert coordinator.acquire(name, "second", ttl_s=3600.0) is None

    def test_release_of_a_lease_that_ran_out_is_refused(self) -> None:
        coordinator, name = self.open(), self.unique("lease")
        token = coordinator.acquire(name, "first", ttl_s=self.soon_s) or 0
        self.pass_time(self.soon_s * 1.1)

        assert not coordinator.release(name, "first", token)

    def test_second_release_is_refused(self) -> None:
        coordinator, name = self.open(), self.unique("lease")
        token = coordinator.acquire(name, "first", ttl_s=3600.0) or 0
        coordinator.release(name, "first", token)

        assert not coordinator.release(name, "first", token)

    def test_concurrent_acquirers_have_one_winner(self) -> None:
        handles, names = [self.open() for _ in range(4)], [self.unique("lease") for _ in range(20)]

        def try_all(coordinator: Coordinator, holder: str) -> int:
            return sum(coordinator.acquire(one, holder, ttl_s=60.0) is not None for one in names)

        threads = [Running(partial(try_all, one, f"h{i}")) for i, one in enumerate(handles)]
        assert sum(thread.result(self.patience_s) for thread in threads) == len(names)

    def test_lease_and_key_of_one_name_are_apart(self) -> None:
        coordinator, name = self.open(), self.unique("name")
        coordinator.put(name, b"value")

        assert coordinator.acquire(name, "first", ttl_s=60.0) is not None
        assert coordinator.take(name, limit=1, period_s=60.0) == 0.0
        assert coordinator.delete([name]) == 1
        assert coordinator.acquire(name, "second", ttl_s=60.0) is None
        assert coordinator.take(name, limit=1, period_s=60.0) > 0

    def test_rate_gives_a_burst_of_its_limit_and_then_says_how_long(self) -> None:
        first, second, key = self.open(), self.open(), self.unique("rate")
        taken = [handle.take(key, limit=4, period_s=400.0) for handle in (first, second) * 2]

        assert taken == [0.0] * 4
        wait_s = first.take(key, limit=4, period_s=400.0)
        assert 0 < wait_s <= 100.0

    def test_concurrent_takers_get_no_more_than_the_limit(self) -> None:
        handles, key = [self.open() for _ in range(4)], self.unique("rate")

        def take_some(coordinator: Coordinator) -> int:
            return [coordinator.take(key, limit=10, period_s=36_000.0) for _ in range(5)].count(0.0)

        threads = [Running(partial(take_some, one)) for one in handles]
        assert sum(thread.result(self.patience_s) for thread in threads) == 10

    def test_refused_unit_takes_nothing(self) -> None:
        coordinator, key = self.open(), self.unique("rate")
        coordinator.take(key, limit=1, period_s=400.0)
        waits = [coordinator.take(key, limit=1, period_s=400.0) for _ in range(3)]

        assert 0 < waits[2] <= waits[1] <= waits[0] <= 400.0

    def test_unit_is_free_after_the_time_told_and_not_before(self) -> None:
        coordinator, key, period_s = self.open(), self.unique("rate"), self.soon_s * 2
        free_at = self.now() + self.soon_s
        for _ in range(2):
            assert coordinator.take(key, limit=2, period_s=period_s) == 0.0
        wait_s = coordinator.take(key, limit=2, period_s=period_s)
        self.pass_time(wait_s / 2)
        rest_s = coordinator.take(key, limit=2, period_s=period_s)
        assert rest_s > 0 or self.now() >= free_at - _INEXACT_S
        self.pass_time(rest_s + _INEXACT_S)

        assert wait_s <= self.soon_s
        assert coordinator.take(key, limit=2, period_s=period_s) == 0.0

    def test_rate_that_rested_gives_no_more_than_a_burst(self) -> None:
        coordinator, key, one_s = self.open(), self.unique("rate"), self.soon_s / 2
        coordinator.take(key, limit=2, period_s=one_s * 2)
        self.pass_time(one_s * 8)
        began_at = self.now()
        taken = [coordinator.take(key, limit=2, period_s=one_s * 2) for _ in range(6)].count(0.0)

        assert 2 <= taken <= 2 + (self.now() - began_at) / one_s + _INEXACT_S

    def test_cost_counts_as_so_many_units(self) -> None:
        coordinator, key = self.open(), self.unique("rate")

        assert coordinator.take(key, limit=10, period_s=1000.0, cost=7) == 0.0
        assert 0 < coordinator.take(key, limit=10, period_s=1000.0, cost=5) <= 200.0
        assert coordinator.take(key, limit=10, period_s=1000.0, cost=3) == 0.0

    def test_rates_of_different_keys_are_apart(self) -> None:
        coordinator = self.open()

        waits = [coordinator.take(self.unique("rate"), limit=1, period_s=60.0) for _ in range(3)]
        assert waits == [0.0] * 3
