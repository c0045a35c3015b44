"""Part of `BackendSuite`: groups that were saved."""

from __future__ import annotations

import json

from umbel.ids import new_id
from umbel.interfaces.backend import BackendCapability
from umbel_testing.backend_chord_kit import TTL_S, complete, parts_of, told
from umbel_testing.backend_kit import BackendKit
from umbel_testing.samples import result


class BackendGroupsSuite(BackendKit):
    """What a group is made of is kept until it is deleted or its time is over."""

    def test_saved_group_comes_back_as_it_was(self) -> None:
        backend, group, nothing = self.open(), new_id(), new_id()
        odd = document(
            group, "", "a:1", "Ünïcødé ✓ 漢字", "\x00", "\"quoted\" 'twice' \\", "x" * 10**5
        )
        backend.save_group(group, odd, ttl_s=TTL_S)
        backend.save_group(nothing, document(nothing), ttl_s=None)

        assert backend.load_group(group) == odd
        assert backend.load_group(nothing) == document(nothing)

    def test_group_that_was_never_saved_is_none(self) -> None:
        assert self.open().load_group(new_id()) is None

    def test_group_that_is_saved_again_is_replaced(self) -> None:
        backend, group = self.open(), new_id()
        for tasks in ("one", "two"), ("three",):
            backend.save_group(group, document(group, *tasks), ttl_s=TTL_S)

        assert backend.load_group(group) == document(group, "three")

    def test_deleted_group_is_gone(self) -> None:
        backend, group, other = self.open(), new_id(), new_id()
        for each in (group, other):
            backend.save_group(each, document(each, "one"), ttl_s=TTL_S)
        backend.delete_group(group)
        backend.delete_group(group)

        assert backend.load_group(group) is None
        assert backend.load_group(other) == document(other, "one")

    def test_deleted_group_can_be_saved_again(self) -> None:
        backend, group = self.open(), new_id()
        backend.save_group(group, document(group, "one"), ttl_s=TTL_S)
        backend.delete_group(group)
        backend.save_group(group, document(group, "two"), ttl_s=TTL_S)

        assert backend.load_group(group) == document(group, "two")

    def test_saved_group_and_the_result_of_a_task_are_two_things(self) -> None:
        backend, same, other = self.open(), new_id(), new_id()
        backend.store([result(same), result(other)])
        backend.save_group(same, document(same, other), ttl_s=TTL_S)
        both = set(backend.load([same, other])), backend.load_group(same)
        backend.delete_group(other)
        backend.delete_group(same)
        results = set(backend.load([same, other]))
        backend.save_group(same, document(same, other), ttl_s=TTL_S)
        backend.forget([same, other])

        assert both == ({same, other}, document(same, other))
        assert results == {same, other}
        assert backend.load_group(same) == document(same, other)

    def test_saved_group_may_be_the_header_of_a_chord(self) -> None:
        backend, group = self.open(), new_id()
        parts = parts_of(group, 2)
        saved = document(group, *(one.task_id for one in parts))
        backend.save_group(group, saved, ttl_s=TTL_S)
        if BackendCapability.CHORD in backend.capabilities:
            backend.open_chord(group, 2, ttl_s=TTL_S)
            assert told(backend.join_chord(parts)) == complete(parts)
            backend.close_chord([group])

        assert backend.load_group(group) == saved

    def test_saved_group_is_loaded_across_handles(self) -> None:
        group = new_id()
        self.open().save_group(group, document(group, "one"), ttl_s=TTL_S)
        assert self.open().load_group(group) == document(group, "one")
        self.open().delete_group(group)

        assert self.open().load_group(group) is None

    def test_saved_group_is_kept_until_its_time_is_over(self) -> None:
        backend, groups = self.open(), [new_id() for _ in range(3)]
        for group, ttl_s in zip(groups, (self.soon_s, TTL_S, None), strict=True):
            backend.save_group(group, document(group, "one"), ttl_s=self.soon_s)
            backend.save_group(group, document(group, "two"), ttl_s=ttl_s)
        self.pass_time(self.soon_s * 1.1)

        found = [backend.load_group(group) for group in groups]
        assert found == [None, *(document(group, "two") for group in groups[1:])]

    def test_ids_of_groups_may_hold_anything(self) -> None:
        backend, base = self.open(), new_id()
        ids = [f"{base}{odd}" for odd in ("", ":1", ".s", " ", "ü✓", "\x00", '"', "\\", "%s")]
        for each in ids:
            backend.save_group(each, document(each, "one"), ttl_s=TTL_S)

        assert [backend.load_group(each) for each in ids] == [document(each, "one") for each in ids]


def document(group_id: str, *task_ids: str) -> bytes:
    """Return what is saved of a group of tasks."""
    members = [[[task_id, None], None] for task_id in task_ids]
    saved = {"result": [[group_id, None], members]}
    return json.dumps(saved, ensure_ascii=False).encode()
