"""Each test of the saved groups of `BackendSuite` catches a fault planted in a sound backend."""

from __future__ import annotations

import pytest

from umbel.builtin.memory.backend import MemoryBackend
from umbel.builtin.memory.space import Space
from umbel_testing import BackendSuite
from umbel_testing.backend_groups_suite import BackendGroupsSuite
from umbel_testing.mutants import Mutants


def make_backend(kind, clock):
    space = Space()
    return lambda: kind(space, clock)


MUTANTS = Mutants(BackendSuite, BackendGroupsSuite, make_backend)


@MUTANTS.caught_by(
    "test_deleted_group_can_be_saved_again",
    "test_deleted_group_is_gone",
    "test_group_that_is_saved_again_is_replaced",
    "test_ids_of_groups_may_hold_anything",
    "test_saved_group_and_the_result_of_a_task_are_two_things",
    "test_saved_group_comes_back_as_it_was",
    "test_saved_group_is_kept_until_its_time_is_over",
    "test_saved_group_is_loaded_across_handles",
    "test_saved_group_may_be_the_header_of_a_chord",
)
class SavesNothing(MemoryBackend):
    def save_group(self, group_id, document, *, ttl_s):
        pass


@MUTANTS.caught_by(
    "test_group_that_is_saved_again_is_replaced",
    "test_saved_group_is_kept_until_its_time_is_over",
)
class SavesOnce(MemoryBackend):
    def save_group(self, group_id, document, *, ttl_s):
        if self.load_group(group_id) is None:
            super().save_group(group_id, document, ttl_s=ttl_s)


@MUTANTS.caught_by(
    "test_saved_group_comes_back_as_it_was",
)
class SavesAPageAtMost(MemoryBackend):
    def save_group(self, group_id, document, *, ttl_s):
        super().save_group(group_id, document[:4096], ttl_s=ttl_s)


@MUTANTS.caught_by(
    "test_deleted_group_is_gone",
    "test_group_that_was_never_saved_is_none",
    "test_saved_group_is_kept_until_its_time_is_over",
    "test_saved_group_is_loaded_across_handles",
)
class KnowsEmptyGroups(MemoryBackend):
    def load_group(self, group_id):
        return super().load_group(group_id) or b'{"result": [["", null], []]}'


@MUTANTS.caught_by(
    "test_deleted_group_is_gone",
    "test_saved_group_is_loaded_across_handles",
)
class DeletesNothing(MemoryBackend):
    def delete_group(self, group_id):
        pass


@MUTANTS.caught_by(
    "test_deleted_group_is_gone",
    "test_saved_group_and_the_result_of_a_task_are_two_things",
)
class DeletesKnownOnesOnly(MemoryBackend):
    def delete_group(self, group_id):
        assert self.load_group(group_id) is not None
        super().delete_group(group_id)


@MUTANTS.caught_by(
    "test_deleted_group_is_gone",
)
class DeletesAll(MemoryBackend):
    def delete_group(self, group_id):
        self.forget([one for one in self._store._results._items if one.startswith("group:")])


@MUTANTS.caught_by(
    "test_deleted_group_can_be_saved_again",
    "test_saved_group_and_the_result_of_a_task_are_two_things",
)
class DeletesForGood(MemoryBackend):
    def __init__(self, space, clock):
        super().__init__(space, clock)
        self.deleted = set()

    def delete_group(self, group_id):
        self.deleted.add(group_id)
        super().delete_group(group_id)

    def load_group(self, group_id):
        return None if group_id in self.deleted else super().load_group(group_id)


@MUTANTS.caught_by(
    "test_saved_group_and_the_result_of_a_task_are_two_things",
)
class DeletesTheResultToo(MemoryBackend):
    def delete_group(self, group_id):
        super().delete_group(group_id)
        self.forget([group_id])


@MUTANTS.caught_by(
    "test_saved_group_and_the_result_of_a_task_are_two_things",
)
class ForgetsTheGroupToo(MemoryBackend):
    def forget(self, task_ids):
        super().forget([*task_ids, *(f"group:{one}" for one in task_ids)])


@MUTANTS.caught_by(
    "test_saved_group_may_be_the_header_of_a_chord",
)
class DropsTheHeaderWithItsChord(MemoryBackend):
    def close_chord(self, group_ids):
        super().close_chord(group_ids)
        for one in group_ids:
            self.delete_group(one)


@MUTANTS.caught_by(
    "test_saved_group_may_be_the_header_of_a_chord",
)
class TakesTheHeaderForAChord(MemoryBackend):
    def open_chord(self, group_id, size, *, ttl_s, body=None):
        if self.load_group(group_id) is None:
            super().open_chord(group_id, size, ttl_s=ttl_s, body=body)


@MUTANTS.caught_by(
    "test_saved_group_is_loaded_across_handles",
)
class KeepsGroupsToItself(MemoryBackend):
    def save_group(self, group_id, document, *, ttl_s):
        super().save_group(f"{id(self)}{group_id}", document, ttl_s=ttl_s)

    def load_group(self, group_id):
        return super().load_group(f"{id(self)}{group_id}")

    def delete_group(self, group_id):
        super().delete_group(f"{id(self)}{group_id}")


@MUTANTS.caught_by(
    "test_saved_group_is_kept_until_its_time_is_over",
)
class KeepsGroupsForEver(MemoryBackend):
    def save_group(self, group_id, document, *, ttl_s):
        super().save_group(group_id, document, ttl_s=None)


@MUTANTS.caught_by(
    "test_saved_group_is_kept_until_its_time_is_over",
)
class DropsGroupsSoon(MemoryBackend):
    def save_group(self, group_id, document, *, ttl_s):
        super().save_group(group_id, document, ttl_s=0.1)


@MUTANTS.caught_by(
    "test_ids_of_groups_may_hold_anything",
)
class StripsIds(MemoryBackend):
    def save_group(self, group_id, document, *, ttl_s):
        super().save_group(group_id.strip(), document, ttl_s=ttl_s)

    def load_group(self, group_id):
        return super().load_group(group_id.strip())


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.__name__)
def test_fault_is_caught(mutant):
    MUTANTS.check(mutant)


def test_every_test_catches_a_fault():
    assert MUTANTS.uncaught() == set()
