"""Each test of the values part of `CoordinatorSuite` catches a fault planted in a sound coordinator."""

from __future__ import annotations

import fnmatch
import time
from typing import ClassVar

import pytest

from umbel.builtin.memory.coordinator import MemoryCoordinator
from umbel.builtin.memory.space import Space
from umbel_testing import CoordinatorSuite
from umbel_testing.coordinator_values_suite import CoordinatorValuesSuite
from umbel_testing.mutants import Mutants

#: Longer than any test waits; threads that sleep for so long are left to it.
LONG_S = 30.0


def make_coordinator(kind, clock):
    space = Space()
    return lambda: kind(space, clock)


MUTANTS = Mutants(CoordinatorSuite, CoordinatorValuesSuite, make_coordinator)


@MUTANTS.caught_by("test_value_is_read_back_by_any_handle")
class TakesValuesForText(MemoryCoordinator):
    def put(self, key, value, *, ttl_s=None):
        super().put(key, value.decode("utf-8", "replace").encode(), ttl_s=ttl_s)


@MUTANTS.caught_by(
    "test_coordinator_keeps_its_store_when_a_handle_closes",
    "test_lease_has_one_holder",
    "test_payloads_come_in_order",
    "test_published_payload_reaches_every_subscription_once",
    "test_put_if_absent_has_one_winner",
    "test_rate_gives_a_burst_of_its_limit_and_then_says_how_long",
    "test_value_is_read_back_by_any_handle",
)
class KeepsValuesToItself(MemoryCoordinator):
    def __init__(self, space, clock):
        super().__init__(Space(), clock)


@MUTANTS.caught_by(
    "test_delete_drops_keys_and_counts_those_that_were_there",
    "test_empty_value_is_a_value",
    "test_key_expires",
    "test_put_if_absent_has_one_winner",
)
class TakesEmptyForAbsent(MemoryCoordinator):
    def get(self, keys):
        return {key: value for key, value in super().get(keys).items() if value}

    def put_if_absent(self, key, value, *, ttl_s=None):
        return not self.get([key]) and (self.put(key, value, ttl_s=ttl_s) or True)


@MUTANTS.caught_by(
    "test_delete_drops_keys_and_counts_those_that_were_there",
    "test_key_expires",
    "test_put_if_absent_sets_what_has_expired",
    "test_unknown_keys_are_left_out",
)
class ReturnsUnknownKeys(MemoryCoordinator):
    def get(self, keys):
        return {key: super(ReturnsUnknownKeys, self).get([key]).get(key, b"") for key in keys}


@MUTANTS.caught_by(
    "test_put_again_begins_the_time_anew",
    "test_put_replaces",
)
class NeverReplaces(MemoryCoordinator):
    def put(self, key, value, *, ttl_s=None):
        super().put_if_absent(key, value, ttl_s=ttl_s)


@MUTANTS.caught_by("test_key_expires", "test_refused_put_if_absent_does_not_prolong_the_key")
class NeverExpires(MemoryCoordinator):
    def put(self, key, value, *, ttl_s=None):
        super().put(key, value)


@MUTANTS.caught_by("test_key_expires")
class ScansTheExpired(MemoryCoordinator):
    def scan(self, prefix):
        items = self._store.values._items.items()
        return {key: item.value for key, item in items if key.startswith(prefix)}


@MUTANTS.caught_by("test_key_expires")
class CountsTheExpired(MemoryCoordinator):
    def delete(self, keys):
        known = [key for key in keys if key in self._store.values._items]
        super().delete(keys)
        return len(known)


@MUTANTS.caught_by("test_put_again_begins_the_time_anew")
class KeepsTheFirstExpiry(MemoryCoordinator):
    def put(self, key, value, *, ttl_s=None):
        items = self._store.values._items
        ends_at = items[key].expires_at if key in items else None
        super().put(key, value, ttl_s=ttl_s)
        if ends_at is not None:
            items[key].expires_at = ends_at


@MUTANTS.caught_by(
    "test_put_if_absent_sets_only_what_has_no_value",
    "test_refused_put_if_absent_does_not_prolong_the_key",
)
class SetsWhatIsThere(MemoryCoordinator):
    def put_if_absent(self, key, value, *, ttl_s=None):
        absent = not self.get([key])
        self.put(key, value, ttl_s=ttl_s)
        return absent


@MUTANTS.caught_by(
    "test_put_if_absent_sets_what_has_expired",
    "test_refused_put_if_absent_does_not_prolong_the_key",
)
class TakesTheExpiredForThere(MemoryCoordinator):
    ever: ClassVar[set] = set()

    def put_if_absent(self, key, value, *, ttl_s=None):
        if key in self.ever:
            return False
        self.ever.add(key)
        return super().put_if_absent(key, value, ttl_s=ttl_s)


@MUTANTS.caught_by("test_put_if_absent_sets_what_has_expired")
class SetsTheAbsentForEver(MemoryCoordinator):
    def put_if_absent(self, key, value, *, ttl_s=None):
        return super().put_if_absent(key, value, ttl_s=None if value == b"second" else ttl_s)


@MUTANTS.caught_by(
    "test_delete_drops_keys_and_counts_those_that_were_there",
    "test_key_expires",
)
class CountsAllAsDeleted(MemoryCoordinator):
    def delete(self, keys):
        super().delete(keys)
        return len(keys)


@MUTANTS.caught_by(
    "test_counter_is_reset_by_delete",
    "test_delete_drops_keys_and_counts_those_that_were_there",
)
class DeletesNothing(MemoryCoordinator):
    def delete(self, keys):
        return len(self.get(keys))


@MUTANTS.caught_by("test_scan_finds_all_keys_of_a_prefix_and_no_others")
class ScansAnywhere(MemoryCoordinator):
    def scan(self, prefix):
        return {key: value for key, value in super().scan("").items() if prefix in key}


@MUTANTS.caught_by("test_scan_takes_its_prefix_literally")
class ScansByPattern(MemoryCoordinator):
    def scan(self, prefix):
        found = super().scan("")
        return {
            key: value for key, value in found.items() if fnmatch.fnmatchcase(key, f"{prefix}*")
        }


@MUTANTS.caught_by("test_scan_tells_upper_from_lower_case")
class ScansWithoutCase(MemoryCoordinator):
    def scan(self, prefix):
        found = super().scan("")
        return {key: one for key, one in found.items() if key.lower().startswith(prefix.lower())}


@MUTANTS.caught_by("test_put_if_absent_has_one_winner")
class LooksThenSets(MemoryCoordinator):
    def put_if_absent(self, key, value, *, ttl_s=None):
        if self.get([key]):
            return False
        time.sleep(0.003)
        self.put(key, value, ttl_s=ttl_s)
        return True


@MUTANTS.caught_by("test_counter_begins_at_zero_and_adds_up")
class CountsByOne(MemoryCoordinator):
    def increment(self, key, by=1, *, ttl_s=None):
        return super().increment(key, 1, ttl_s=ttl_s)


@MUTANTS.caught_by("test_concurrent_increments_are_all_counted")
class ReadsThenAdds(MemoryCoordinator):
    def increment(self, key, by=1, *, ttl_s=None):
        total = int(self.get([key]).get(key, b"0")) + by
        time.sleep(0.002)
        self.put(key, str(total).encode(), ttl_s=ttl_s)
        return total


@MUTANTS.caught_by("test_counter_is_reset_by_delete")
class KeepsCountersApart(MemoryCoordinator):
    def increment(self, key, by=1, *, ttl_s=None):
        return super().increment(f"counter of {key}", by, ttl_s=ttl_s)


@MUTANTS.caught_by("test_counter_expires")
class CountsForEver(MemoryCoordinator):
    def increment(self, key, by=1, *, ttl_s=None):
        return super().increment(key, by)


@MUTANTS.caught_by("test_increment_with_a_ttl_begins_the_counters_time_anew")
class LetsCountersKeepTheirTime(MemoryCoordinator):
    def increment(self, key, by=1, *, ttl_s=None):
        return super().increment(key, by, ttl_s=None if self.get([key]) else ttl_s)


@MUTANTS.caught_by("test_refused_put_if_absent_does_not_prolong_the_key")
class ProlongsWhatItRefuses(MemoryCoordinator):
    def put_if_absent(self, key, value, *, ttl_s=None):
        was_set = super().put_if_absent(key, value, ttl_s=ttl_s)
        if not was_set:
            self.put(key, self.get([key])[key], ttl_s=ttl_s)
        return was_set


@MUTANTS.caught_by("test_concurrent_threads_of_one_handle_do_not_disturb_each_other")
class MixesThreadsUp(MemoryCoordinator):
    def get(self, keys):
        self.asked = keys
        if keys and "threads" in keys[0]:
            time.sleep(0.001)
        return super().get(self.asked)


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.__name__)
def test_fault_is_caught(mutant):
    MUTANTS.check(mutant)


def test_every_test_catches_a_fault():
    assert MUTANTS.uncaught() == set()
