"""Part of `CoordinatorSuite`: values with expiry, and counters."""

from __future__ import annotations

from functools import partial

from umbel.interfaces.coordinator import Coordinator
from umbel_testing.coordinator_kit import CoordinatorKit
from umbel_testing.kit import Running


class CoordinatorValuesSuite(CoordinatorKit):
    """One namespace of keys, the same for all handles."""

    def test_value_is_read_back_by_any_handle(self) -> None:
        key = self.unique("key")
        self.open().put(key, b"\x00 any bytes \xff")

        assert dict(self.open().get([key])) == {key: b"\x00 any bytes \xff"}

    def test_empty_value_is_a_value(self) -> None:
        coordinator, key = self.open(), self.unique("key")
        coordinator.put(key, b"")

        assert dict(coordinator.get([key])) == {key: b""}
        assert not coordinator.put_if_absent(key, b"other")

    def test_unknown_keys_are_left_out(self) -> None:
        coordinator, key = self.open(), self.unique("key")
        coordinator.put(key, b"here")

        assert dict(coordinator.get([self.unique("key"), key])) == {key: b"here"}
        assert dict(coordinator.get([])) == {}

    def test_put_replaces(self) -> None:
        coordinator, key = self.open(), self.unique("key")
        coordinator.put(key, b"old")
        coordinator.put(key, b"new")

        assert dict(coordinator.get([key])) == {key: b"new"}

    def test_key_expires(self) -> None:
        coordinator, prefix = self.open(), self.unique("key")
        coordinator.put(f"{prefix}/short", b"", ttl_s=self.soon_s)
        coordinator.put(f"{prefix}/long", b"", ttl_s=3600.0)
        coordinator.put(f"{prefix}/ever", b"")
        self.pass_time(self.soon_s * 1.1)

        kept = {f"{prefix}/long": b"", f"{prefix}/ever": b""}
        assert dict(coordinator.scan(prefix)) == kept
        assert dict(coordinator.get([f"{prefix}/short", *kept])) == kept
        assert coordinator.delete([f"{prefix}/short"]) == 0

    def test_put_again_begins_the_time_anew(self) -> None:
        coordinator, key, ever = self.open(), self.unique("key"), self.unique("key")
        for name in (key, ever):
            coordinator.put(name, b"old", ttl_s=self.soon_s)
        coordinator.put(key, b"new", ttl_s=3600.0)
        coordinator.put(ever, b"new")
        self.pass_time(self.soon_s * 1.1)

        assert dict(coordinator.get([key, ever])) == {key: b"new", ever: b"new"}

    def test_put_if_absent_sets_only_what_has_no_value(self) -> None:
        coordinator, key = self.open(), self.unique("key")

        assert coordinator.put_if_absent(key, b"first")
        assert not coordinator.put_if_absent(key, b"second")
        assert dict(coordinator.get([key])) == {key: b"first"}

    def test_put_if_absent_sets_what_has_expired(self) -> None:
        coordinator, key = self.open(), self.unique("key")
        assert coordinator.put_if_absent(key, b"first", ttl_s=self.soon_s)
        self.pass_time(self.soon_s * 1.1)

        assert coordinator.put_if_absent(key, b"second", ttl_s=self.soon_s)
        assert dict(coordinator.get([key])) == {key: b"second"}
        self.pass_time(self.soon_s * 1.1)
        assert dict(coordinator.get([key])) == {}

    def test_refused_put_if_absent_does_not_prolong_the_key(self) -> None:
        coordinator, key = self.open(), self.unique("key")
        ends_at = self.now() + self.soon_s
        coordinator.put(key, b"first", ttl_s=self.soon_s)

        if coordinator.put_if_absent(key, b"second", ttl_s=3600.0):
            assert self.now() >= ends_at
        else:
            self.pass_time(self.soon_s * 1.1)
            assert coordinator.put_if_absent(key, b"third")

    def test_put_if_absent_has_one_winner(self) -> None:
        handles, keys = [self.open() for _ in range(4)], [self.unique("key") for _ in range(20)]

        def try_all(coordinator: Coordinator) -> int:
            return sum(coordinator.put_if_absent(key, b"") for key in keys)

        threads = [Running(partial(try_all, one)) for one in handles]
        assert sum(thread.result(self.patience_s) for thread in threads) == len(keys)

    def test_delete_drops_keys_and_counts_those_that_were_there(self) -> None:
        coordinator, keys = self.open(), [self.unique("key") for _ in range(3)]
        for key in keys:
            coordinator.put(key, b"")

        assert coordinator.delete([keys[0], keys[1], self.unique("key")]) == 2
        assert coordinator.delete(keys[:2]) == 0
        assert dict(coordinator.get(keys)) == {keys[2]: b""}

    def test_scan_finds_all_keys_of_a_prefix_and_no_others(self) -> None:
        coordinator, root = self.open(), self.unique("scan")
        inside = {f"{root}/a": b"1", f"{root}/a/b": b"2", f"{root}/": b"3", f"{root}/é": b"4"}
        for key, value in inside.items():
            coordinator.put(key, value)
        coordinator.put(f"{root}", b"shorter")
        coordinator.put(f"x{root}/a", b"not at its beginning")

        assert dict(coordinator.scan(f"{root}/")) == inside

    def test_scan_takes_its_prefix_literally(self) -> None:
        coordinator, root = self.open(), self.unique("scan")
        prefixes = [f"{root}/{mark}" for mark in ("%", "_", "*", "?", "[a]", "\\", "'", ".")]
        for prefix in [*prefixes, f"{root}/a"]:
            coordinator.put(f"{prefix}key", b"")

        for prefix in prefixes:
            assert dict(coordinator.scan(prefix)) == {f"{prefix}key": b""}

    def test_scan_tells_upper_from_lower_case(self) -> None:
        coordinator, root = self.open(), self.unique("scan")
        coordinator.put(f"{root}/Key", b"")
        coordinator.put(f"{root}/key", b"")

        assert dict(coordinator.scan(f"{root}/k")) == {f"{root}/key": b""}

    def test_counter_begins_at_zero_and_adds_up(self) -> None:
        coordinator, key = self.open(), self.unique("counter")

        sums = [coordinator.increment(key), coordinator.increment(key, 5)]
        assert [*sums, coordinator.increment(key, -7)] == [1, 6, -1]

    def test_concurrent_increments_are_all_counted(self) -> None:
        handles, key = [self.open() for _ in range(4)], self.unique("counter")

        def count(coordinator: Coordinator) -> list[int]:
            return [coordinator.increment(key) for _ in range(25)]

        threads = [Running(partial(count, one)) for one in handles]
        sums = [one for thread in threads for one in thread.result(self.patience_s)]
        assert sorted(sums) == list(range(1, 101))

    def test_concurrent_threads_of_one_handle_do_not_disturb_each_other(self) -> None:
        coordinator, root = self.open(), self.unique("threads")

        def work(number: int) -> bool:
            keys = [f"{root}/{number}/{count}" for count in range(20)]
            for key in keys:
                coordinator.put(key, key.encode())
            return all(dict(coordinator.get([key])) == {key: key.encode()} for key in keys)

        threads = [Running(partial(work, number)) for number in range(4)]
        assert all(thread.result(self.patience_s) for thread in threads)

    def test_counter_is_reset_by_delete(self) -> None:
        coordinator, key = self.open(), self.unique("counter")
        coordinator.increment(key, 3)

        assert coordinator.delete([key]) == 1
        assert coordinator.increment(key) == 1

    def test_counter_expires(self) -> None:
        coordinator, key = self.open(), self.unique("counter")
        coordinator.increment(key, ttl_s=self.soon_s)
        self.pass_time(self.soon_s * 1.1)

        assert coordinator.increment(key) == 1

    def test_increment_with_a_ttl_begins_the_counters_time_anew(self) -> None:
        coordinator, key = self.open(), self.unique("counter")
        coordinator.increment(key, ttl_s=self.soon_s)
        coordinator.increment(key, ttl_s=3600.0)
        self.pass_time(self.soon_s * 1.1)

        assert coordinator.increment(key) == 3
