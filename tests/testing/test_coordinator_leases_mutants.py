"""Each test of the leases part of `CoordinatorSuite` catches a fault planted in a sound coordinator."""

from __future__ import annotations

import time
from typing import ClassVar

import pytest

from umbel.builtin.memory.coordinator import MemoryCoordinator
from umbel.builtin.memory.space import Space
from umbel_testing import CoordinatorSuite
from umbel_testing.coordinator_leases_suite import CoordinatorLeasesSuite
from umbel_testing.mutants import Mutants

#: Longer than any test waits; threads that sleep for so long are left to it.
LONG_S = 30.0


def make_coordinator(kind, clock):
    space = Space()
    return lambda: kind(space, clock)


MUTANTS = Mutants(CoordinatorSuite, CoordinatorLeasesSuite, make_coordinator)


@MUTANTS.caught_by(
    "test_holder_prolongs_its_lease_with_the_same_token",
    "test_lease_and_key_of_one_name_are_apart",
    "test_lease_has_one_holder",
    "test_release_by_another_holder_or_token_is_refused",
)
class GivesALeaseToAll(MemoryCoordinator):
    def acquire(self, name, holder, *, ttl_s):
        return super().acquire(f"{name} {holder}", holder, ttl_s=ttl_s)

    def release(self, name, holder, token):
        return super().release(f"{name} {holder}", holder, token)


@MUTANTS.caught_by(
    "test_holder_prolongs_its_lease_with_the_same_token",
    "test_released_lease_goes_to_the_next_with_a_higher_token",
)
class GivesANewTokenEachTime(MemoryCoordinator):
    def acquire(self, name, holder, *, ttl_s):
        token = super().acquire(name, holder, ttl_s=ttl_s)
        return token and token + next(self._store._tokens)


@MUTANTS.caught_by("test_holder_prolongs_its_lease_with_the_same_token")
class DoesNotProlong(MemoryCoordinator):
    def acquire(self, name, holder, *, ttl_s):
        lease = self._store._leases.get(name, self._clock.monotonic())
        if lease is not None:
            return lease.token if lease.holder == holder else None
        return super().acquire(name, holder, ttl_s=ttl_s)


@MUTANTS.caught_by(
    "test_lease_that_runs_out_goes_to_the_next_with_a_higher_token",
    "test_released_lease_goes_to_the_next_with_a_higher_token",
)
class GivesTheSameTokenToAll(MemoryCoordinator):
    def acquire(self, name, holder, *, ttl_s):
        return super().acquire(name, holder, ttl_s=ttl_s) and 1

    def release(self, name, holder, token):
        lease = self._store._leases.get(name, self._clock.monotonic())
        return bool(lease) and token == 1 and super().release(name, holder, lease.token)


@MUTANTS.caught_by("test_release_by_another_holder_or_token_is_refused")
class ReleasesForAnybody(MemoryCoordinator):
    def release(self, name, holder, token):
        lease = self._store._leases.get(name, self._clock.monotonic())
        return bool(lease) and super().release(name, lease.holder, lease.token)


@MUTANTS.caught_by(
    "test_release_by_another_holder_or_token_is_refused",
    "test_release_of_a_lease_that_ran_out_is_refused",
    "test_second_release_is_refused",
)
class ReleasesWithoutTellingWhether(MemoryCoordinator):
    def release(self, name, holder, token):
        super().release(name, holder, token)
        return True


@MUTANTS.caught_by(
    "test_released_lease_goes_to_the_next_with_a_higher_token",
    "test_second_release_is_refused",
)
class NeverReleases(MemoryCoordinator):
    def release(self, name, holder, token):
        lease = self._store._leases.get(name, self._clock.monotonic())
        return bool(lease) and (lease.holder, lease.token) == (holder, token)


@MUTANTS.caught_by("test_concurrent_acquirers_have_one_winner")
class LooksThenAcquires(MemoryCoordinator):
    def acquire(self, name, holder, *, ttl_s):
        if self._store._leases.get(name, self._clock.monotonic()) is None:
            time.sleep(0.003)
            self._store._leases.pop(name, self._clock.monotonic())
        return super().acquire(name, holder, ttl_s=ttl_s)


@MUTANTS.caught_by("test_lease_and_key_of_one_name_are_apart")
class SharesOneNamespace(MemoryCoordinator):
    def acquire(self, name, holder, *, ttl_s):
        if self.get([name]):
            return None
        return super().acquire(name, holder, ttl_s=ttl_s)


@MUTANTS.caught_by(
    "test_cost_counts_as_so_many_units",
    "test_rate_gives_a_burst_of_its_limit_and_then_says_how_long",
    "test_rate_that_rested_gives_no_more_than_a_burst",
    "test_unit_is_free_after_the_time_told_and_not_before",
)
class AllowsNoBurst(MemoryCoordinator):
    def take(self, key, *, limit, period_s, cost=1):
        return super().take(key, limit=1, period_s=period_s / limit, cost=min(cost, 1))


@MUTANTS.caught_by(
    "test_cost_counts_as_so_many_units",
    "test_lease_and_key_of_one_name_are_apart",
    "test_rate_gives_a_burst_of_its_limit_and_then_says_how_long",
    "test_rate_that_rested_gives_no_more_than_a_burst",
    "test_refused_unit_takes_nothing",
    "test_unit_is_free_after_the_time_told_and_not_before",
)
class NeverLimits(MemoryCoordinator):
    def take(self, key, *, limit, period_s, cost=1):
        return 0.0


@MUTANTS.caught_by("test_refused_unit_takes_nothing")
class TakesWhatItRefuses(MemoryCoordinator):
    refused: ClassVar[dict] = {}

    def take(self, key, *, limit, period_s, cost=1):
        wait_s = super().take(key, limit=limit, period_s=period_s, cost=cost)
        if wait_s:
            self.refused[key] = self.refused.get(key, -1) + 1
            wait_s += self.refused[key] * period_s / limit
        return wait_s


@MUTANTS.caught_by("test_concurrent_takers_get_no_more_than_the_limit")
class TakesInTwoSteps(MemoryCoordinator):
    within: ClassVar[list] = []

    def take(self, key, *, limit, period_s, cost=1):
        self.within.append(key)
        time.sleep(0.002 if limit == 10 and cost == 1 else 0)
        wait_s = super().take(key, limit=limit, period_s=period_s, cost=cost)
        others = len(self.within) > 1
        self.within.remove(key)
        return 0.0 if others else wait_s


@MUTANTS.caught_by("test_unit_is_free_after_the_time_told_and_not_before")
class TellsHalfTheTime(MemoryCoordinator):
    def take(self, key, *, limit, period_s, cost=1):
        return super().take(key, limit=limit, period_s=period_s, cost=cost) / 2


@MUTANTS.caught_by("test_rate_that_rested_gives_no_more_than_a_burst")
class SavesUpWhatIsNotTaken(MemoryCoordinator):
    def take(self, key, *, limit, period_s, cost=1):
        rates = self._store._rates
        now = self._clock.monotonic()
        free_at = rates._items[key].value if key in rates._items else now
        after = free_at + cost * period_s / limit
        if after - period_s - now > 1e-6:
            return after - period_s - now
        rates.put(key, after, 0.0)
        return 0.0


@MUTANTS.caught_by("test_cost_counts_as_so_many_units")
class CountsEveryCostAsOne(MemoryCoordinator):
    def take(self, key, *, limit, period_s, cost=1):
        return super().take(key, limit=limit, period_s=period_s)


@MUTANTS.caught_by("test_rates_of_different_keys_are_apart")
class HasOneRateForAll(MemoryCoordinator):
    def take(self, key, *, limit, period_s, cost=1):
        return super().take("all", limit=limit, period_s=period_s, cost=cost)


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.__name__)
def test_fault_is_caught(mutant):
    MUTANTS.check(mutant)


def test_every_test_catches_a_fault():
    assert MUTANTS.uncaught() == set()
