"""Part of `BackendSuite`: `chord_progress`, `grow_chord`, and parts that are only counted."""

from __future__ import annotations

from functools import partial

from umbel.ids import new_id
from umbel.interfaces.backend import Backend
from umbel.outcomes import ChordPart, ChordProgress
from umbel_testing.backend_chord_kit import TTL_S, chords, complete, failed, part, parts_of, told
from umbel_testing.backend_kit import BackendKit
from umbel_testing.kit import Running

#: Ids are opaque: a store that joins them with something must be able to take them apart.
_ODD_IDS = (
    "", " ", "a", "a:1", "a:1:2", "+", "+a", "=a:1", "{a}", "}{", "Ünïcødé ✓ 漢字", "\x00", "\t\n",
    "\"quoted\" 'twice' \\", "%s", "x" * 300,
)  # fmt: skip


class BackendProgressSuite(BackendKit):
    """Capability CHORD: how far chords and groups have come, and what they grow by."""

    # -- progress ---------------------------------------------------------------------------------

    @chords
    def test_progress_tells_of_size_done_and_failed(self) -> None:
        backend, group = self.open(), new_id()
        backend.open_chord(group, 5, ttl_s=TTL_S)
        opened = self.progress(backend, group)
        backend.join_chord([part(group, 0), failed(group, 1)])
        backend.join_chord([part(group, None, state="REVOKED"), part(group, 3)])

        assert opened == ChordProgress(size=5, done=0, failed=0)
        assert self.progress(backend, group) == ChordProgress(size=5, done=4, failed=2)

    @chords
    def test_progress_counts_a_part_once(self) -> None:
        backend, group = self.open(), new_id()
        first = part(group, 0)
        again = part(group, 0, task_id=first.task_id, state="FAILURE")
        backend.open_chord(group, 5, ttl_s=TTL_S)
        backend.join_chord([first, first])
        backend.join_chord([again, part(group, 1, task_id=first.task_id)])

        assert self.progress(backend, group) == ChordProgress(size=5, done=2, failed=0)

    @chords
    def test_progress_of_many_groups_is_told_in_one_call(self) -> None:
        backend, groups = self.open(), [new_id() for _ in range(3)]
        for size, group in enumerate(groups, start=1):
            backend.open_chord(group, size, ttl_s=TTL_S)
        backend.join_chord([part(groups[1]), failed(groups[2])])

        assert dict(backend.chord_progress(groups)) == {
            groups[0]: ChordProgress(1, 0, 0),
            groups[1]: ChordProgress(2, 1, 0),
            groups[2]: ChordProgress(3, 1, 1),
        }

    @chords
    def test_progress_of_what_was_never_opened_is_unknown(self) -> None:
        backend, group = self.open(), new_id()
        backend.join_chord([part(group, 0), part(group, 1, result=None)])
        backend.close_chord([closed := new_id()])

        assert dict(backend.chord_progress([group, closed, new_id()])) == {}
        assert dict(backend.chord_progress([])) == {}

    @chords
    def test_progress_stays_when_the_chord_is_closed(self) -> None:
        backend, group = self.open(), new_id()
        backend.open_chord(group, 3, ttl_s=TTL_S)
        backend.grow_chord(group, ["more"], ttl_s=TTL_S)
        backend.join_chord([part(group, 0), failed(group, 1)])
        backend.close_chord([group])
        backend.close_chord([group])
        backend.join_chord([failed(group, 2), part(group, 3, result=None)])

        assert self.progress(backend, group) == ChordProgress(size=4, done=2, failed=1)

    @chords
    def test_progress_of_a_chord_opened_again_begins_anew(self) -> None:
        backend, group = self.open(), new_id()
        parts = [*parts_of(group, 2), part(group, 2, result=None)]
        backend.open_chord(group, 3, ttl_s=TTL_S)
        backend.grow_chord(group, ["more"], ttl_s=TTL_S)
        backend.join_chord(parts)
        backend.close_chord([group])
        backend.open_chord(group, 2, ttl_s=TTL_S)
        opened = self.progress(backend, group)
        backend.join_chord(parts[1:])
        backend.grow_chord(group, ["more"], ttl_s=TTL_S)

        assert opened == ChordProgress(size=2, done=0, failed=0)
        assert self.progress(backend, group) == ChordProgress(size=3, done=2, failed=0)

    @chords
    def test_opening_again_keeps_the_progress(self) -> None:
        backend, group = self.open(), new_id()
        backend.open_chord(group, 3, ttl_s=TTL_S)
        backend.grow_chord(group, ["more"], ttl_s=TTL_S)
        backend.join_chord([failed(group), part(group, 1, result=None)])
        backend.open_chord(group, 3, ttl_s=TTL_S)

        assert self.progress(backend, group) == ChordProgress(size=4, done=2, failed=1)

    @chords
    def test_progress_is_kept_until_its_time_is_over(self) -> None:
        backend, groups = self.open(), [new_id() for _ in range(4)]
        for ttl_s, group in zip((self.soon_s, self.soon_s, TTL_S, None), groups, strict=True):
            backend.open_chord(group, 2, ttl_s=ttl_s)
            backend.join_chord([part(group, ttl_s=ttl_s)])
        backend.close_chord(groups[1:])
        self.pass_time(self.soon_s * 1.1)

        assert set(backend.chord_progress(groups)) == set(groups[2:])

    @chords
    def test_late_part_does_not_revive_a_chord_whose_time_is_over(self) -> None:
        backend, group = self.open(), new_id()
        backend.open_chord(group, 1, ttl_s=self.soon_s)
        backend.join_chord([part(group, 0, ttl_s=self.soon_s)])
        backend.close_chord([group])
        self.pass_time(self.soon_s * 1.1)
        late = [part(group, 1), failed(group, 2, aborts=True), counted(group, 3)]

        assert told(backend.join_chord(late)) == {}
        assert backend.grow_chord(group, ["more"], ttl_s=TTL_S) is False
        assert dict(backend.chord_progress([group])) == {}

    @chords
    def test_progress_is_told_across_handles(self) -> None:
        group = new_id()
        self.open().open_chord(group, 2, ttl_s=TTL_S)
        self.open().join_chord([failed(group)])

        assert self.progress(self.open(), group) == ChordProgress(size=2, done=1, failed=1)

    # -- parts without a result -------------------------------------------------------------------

    @chords
    def test_part_without_a_result_is_counted_and_never_comes_back(self) -> None:
        backend, group = self.open(), new_id()
        parts = [counted(group, 0), counted(group, 1, state="FAILURE"), counted(group, None)]
        backend.open_chord(group, 3, ttl_s=TTL_S)

        assert told(backend.join_chord(parts)) == {}
        assert self.progress(backend, group) == ChordProgress(size=3, done=3, failed=1)

    @chords
    def test_part_without_a_result_counts_once_however_often_it_comes(self) -> None:
        backend, group = self.open(), new_id()
        first, loose = counted(group, 0), counted(group, None)
        again = counted(group, 0, task_id=first.task_id, state="FAILURE")
        backend.open_chord(group, 9, ttl_s=TTL_S)
        backend.join_chord([first, loose, loose])
        backend.join_chord([again, loose, counted(group, None)])
        backend.join_chord([counted(group, 0), counted(group, 1, task_id=first.task_id)])

        assert self.progress(backend, group) == ChordProgress(size=9, done=5, failed=0)

    @chords
    def test_part_without_a_result_makes_no_chord_complete(self) -> None:
        backend, group = self.open(), new_id()
        parts = parts_of(group, 2)
        backend.open_chord(group, 2, ttl_s=TTL_S)

        assert told(backend.join_chord([parts[1], counted(group, 2)])) == {}
        assert told(backend.join_chord([counted(group, 3)])) == {}
        assert told(backend.join_chord([counted(group, 4), parts[0]])) == complete(parts)
        assert told(backend.join_chord([counted(group, 5)])) == {}

    @chords
    def test_part_without_a_result_aborts_nothing(self) -> None:
        backend, group = self.open(), new_id()
        backend.open_chord(group, 3, ttl_s=TTL_S)
        aborting = counted(group, 0, state="FAILURE", aborts=True)

        assert told(backend.join_chord([aborting, part(group, 1)])) == {}

    @chords
    def test_part_without_a_result_begins_the_time_anew(self) -> None:
        backend, group = self.open(), new_id()
        backend.open_chord(group, 2, ttl_s=self.soon_s)
        backend.join_chord([counted(group, 0)])
        self.pass_time(self.soon_s * 1.1)
        backend.join_chord([counted(group, 1)])

        assert self.progress(backend, group) == ChordProgress(size=2, done=2, failed=0)
        assert backend.grow_chord(group, ["more"], ttl_s=TTL_S)

    @chords
    def test_thousands_of_parts_without_a_result_are_counted(self) -> None:
        backend, group = self.open(), new_id()
        states = ["FAILURE" if index % 3 == 0 else "SUCCESS" for index in range(1200)]
        parts = [counted(group, index, state=state) for index, state in enumerate(states)]
        backend.open_chord(group, 1200, ttl_s=TTL_S)
        backend.join_chord(parts)
        backend.join_chord(parts[:700])

        assert self.progress(backend, group) == ChordProgress(size=1200, done=1200, failed=400)

    @chords
    def test_concurrent_counts_lose_nothing_and_double_nothing(self) -> None:
        handles, group = [self.open() for _ in range(4)], new_id()
        plain = [counted(group, index) for index in range(20)]
        parts = parts_of(group, 20)
        handles[0].open_chord(group, 40, ttl_s=TTL_S)

        def join(backend: Backend, offset: int) -> None:
            for index in range(20):  # each of them by two handles
                if index % 4 in (offset, (offset + 1) % 4):
                    backend.join_chord([plain[index], parts[index]])

        threads = [Running(partial(join, one, offset)) for offset, one in enumerate(handles)]
        for thread in threads:
            thread.result(self.patience_s)
        assert self.progress(handles[0], group) == ChordProgress(size=40, done=40, failed=0)

    # -- growing ----------------------------------------------------------------------------------

    @chords
    def test_chord_waits_for_what_it_has_grown_by(self) -> None:
        backend, group = self.open(), new_id()
        parts = parts_of(group, 3)
        backend.open_chord(group, 1, ttl_s=TTL_S)
        answer = backend.grow_chord(group, [parts[1].task_id, parts[2].task_id], ttl_s=TTL_S)

        assert answer is True
        assert [told(backend.join_chord([one])) for one in parts] == [{}, {}, complete(parts)]

    @chords
    def test_chord_grows_once_by_an_id(self) -> None:
        backend, group = self.open(), new_id()
        parts = parts_of(group, 4)
        backend.open_chord(group, 1, ttl_s=TTL_S)
        answers = [
            backend.grow_chord(group, ids, ttl_s=TTL_S)
            for ids in (["one", "two"], ["two", "three"], ["three", "three"], [])
        ]

        assert answers == [True] * 4
        assert self.progress(backend, group) == ChordProgress(size=4, done=0, failed=0)
        assert told(backend.join_chord(parts[1:])) == {}
        assert told(backend.join_chord(parts[:1])) == complete(parts)

    @chords
    def test_chord_that_is_unknown_or_closed_does_not_grow(self) -> None:
        backend, unknown, joined, closed = self.open(), new_id(), new_id(), new_id()
        backend.join_chord([part(joined)])
        backend.open_chord(closed, 2, ttl_s=TTL_S)
        backend.close_chord([closed])

        for group in (unknown, joined, closed):
            assert backend.grow_chord(group, ["more"], ttl_s=TTL_S) is False
            assert backend.grow_chord(group, [], ttl_s=TTL_S) is False
        assert dict(backend.chord_progress([unknown, joined, closed])) == {
            closed: ChordProgress(size=2, done=0, failed=0)
        }
        backend.open_chord(joined, 2, ttl_s=TTL_S)
        assert set(backend.join_chord([part(joined)])) == {joined}

    @chords
    def test_growing_begins_the_time_anew(self) -> None:
        backend, group = self.open(), new_id()
        parts = [part(group, index, ttl_s=self.soon_s) for index in range(2)]
        backend.open_chord(group, 1, ttl_s=self.soon_s)
        backend.join_chord([failed(group, 5, aborts=False), parts[0]])
        backend.grow_chord(group, ["more", "and more"], ttl_s=TTL_S)
        self.pass_time(self.soon_s * 1.1)

        assert self.progress(backend, group) == ChordProgress(size=3, done=2, failed=1)
        assert set(backend.join_chord(parts[1:])) == {group}

    @chords
    def test_thousands_of_ids_are_grown_by(self) -> None:
        backend, group = self.open(), new_id()
        ids = [f"id-{index}" for index in range(1200)]
        backend.open_chord(group, 1, ttl_s=TTL_S)
        backend.grow_chord(group, ids, ttl_s=TTL_S)
        backend.grow_chord(group, ids[:600], ttl_s=TTL_S)

        assert self.progress(backend, group) == ChordProgress(size=1201, done=0, failed=0)

    # -- ids --------------------------------------------------------------------------------------

    @chords
    def test_ids_of_tasks_may_hold_anything(self) -> None:
        backend, group, count = self.open(), new_id(), len(_ODD_IDS)
        loose = [counted(group, None, task_id=each) for each in _ODD_IDS]
        placed = [counted(group, place, task_id=each) for each in _ODD_IDS for place in (1, 2)]
        parts = [part(group, 3, task_id=each) for each in _ODD_IDS]
        backend.open_chord(group, 0, ttl_s=TTL_S)
        for _ in range(2):
            backend.grow_chord(group, _ODD_IDS, ttl_s=TTL_S)
            backend.join_chord([*loose, *placed])
        progress = self.progress(backend, group)

        assert progress == ChordProgress(size=count, done=3 * count, failed=0)
        backend.join_chord(parts[1:])
        assert sorted(told(backend.join_chord(parts[:1]))[group]) == sorted(complete(parts)[group])

    def progress(self, backend: Backend, group: str) -> ChordProgress:
        """Return how far a group has come."""
        return backend.chord_progress([group])[group]


def counted(
    group_id: str,
    index: int | None,
    *,
    task_id: str | None = None,
    state: str = "SUCCESS",
    aborts: bool = False,
) -> ChordPart:
    """Return a part without a result."""
    return part(group_id, index, task_id=task_id, state=state, result=None, aborts=aborts)
