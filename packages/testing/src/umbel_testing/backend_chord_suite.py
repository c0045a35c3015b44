"""Part of `BackendSuite`: `open_chord`, `join_chord` and `close_chord`."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from umbel.ids import new_id
from umbel.interfaces.backend import Backend
from umbel.outcomes import ChordPart
from umbel_testing.backend_chord_kit import (
    ERROR,
    TTL_S,
    chords,
    complete,
    failed,
    part,
    parts_of,
    told,
)
from umbel_testing.backend_kit import BackendKit
from umbel_testing.kit import Running

#: All that JSON can say, and kombu's form of a time.
_ODD_VALUE: dict[str, Any] = {
    "text": "Ünïcødé ✓ 漢字 \U0001f33f \x00 \t \" \\ '",
    "numbers": [0, -17, 0.1, 1e300, 2**53, 2**70],
    "nothing": [None, True, False, "", [], {}],
    "when": {"__type__": "datetime", "__value__": "2026-11-22T11:57:28.262508+00:00"},
    "": {"nested": [1, [2, [3, {"deep": [None]}]]]},
}


class BackendChordSuite(BackendKit):
    """Capability CHORD: the parts of a chord are counted, each once, until its body is sent."""

    @chords
    def test_chord_is_complete_with_its_last_part(self) -> None:
        backend, group = self.open(), new_id()
        parts = parts_of(group, 3)
        backend.open_chord(group, 3, ttl_s=TTL_S)

        assert [told(backend.join_chord([one])) for one in parts] == [{}, {}, complete(parts)]

    @chords
    def test_parts_come_in_order_of_their_index(self) -> None:
        backend, group = self.open(), new_id()
        parts = parts_of(group, 12)
        backend.open_chord(group, 12, ttl_s=TTL_S)
        backend.join_chord([*parts[9:], parts[1], parts[5], parts[2]])
        last = [parts[4], parts[8], parts[3], parts[0], parts[7], parts[6]]

        assert told(backend.join_chord(last)) == complete(parts)

    @chords
    def test_parts_without_an_index_come_behind_the_others(self) -> None:
        backend, group = self.open(), new_id()
        loose = [part(group, None) for _ in range(2)]
        parts = parts_of(group, 2)
        backend.open_chord(group, 4, ttl_s=TTL_S)
        backend.join_chord(loose)
        found = told(backend.join_chord(parts))[group]

        assert found[:2] == complete(parts)[group]
        assert sorted(found[2:]) == sorted(complete(loose)[group])

    @chords
    def test_part_counts_once_however_often_it_comes(self) -> None:
        backend, group = self.open(), new_id()
        parts = parts_of(group, 2)
        backend.open_chord(group, 2, ttl_s=TTL_S)

        assert told(backend.join_chord([parts[0], parts[0]])) == {}
        assert told(backend.join_chord([parts[0]])) == {}
        assert told(backend.join_chord([parts[1]])) == complete(parts)

    @chords
    def test_part_without_an_index_counts_once_too(self) -> None:
        backend, group = self.open(), new_id()
        one, other = part(group, None), part(group, None)
        backend.open_chord(group, 2, ttl_s=TTL_S)

        assert told(backend.join_chord([one, one])) == {}
        assert set(backend.join_chord([other])) == {group}

    @chords
    def test_what_a_part_said_first_stands(self) -> None:
        backend, group = self.open(), new_id()
        first, second = part(group, 0, result=b'"first"'), part(group, 1)
        later = part(group, 0, task_id=first.task_id, state="FAILURE", result=b'"later"')
        backend.open_chord(group, 2, ttl_s=TTL_S)
        backend.join_chord([first])
        backend.join_chord([later])

        assert told(backend.join_chord([second])) == complete([first, second])

    @chords
    def test_one_task_at_two_places_is_two_parts(self) -> None:
        backend, group = self.open(), new_id()
        first = part(group, 0)
        again = part(group, 1, task_id=first.task_id)
        backend.open_chord(group, 2, ttl_s=TTL_S)

        assert told(backend.join_chord([first, again])) == complete([first, again])

    @chords
    def test_failed_and_revoked_parts_count(self) -> None:
        backend, group = self.open(), new_id()
        parts = [failed(group, 0), part(group, 1, state="REVOKED", result=ERROR)]
        backend.open_chord(group, 2, ttl_s=TTL_S)

        assert told(backend.join_chord(parts)) == complete(parts)

    @chords
    def test_result_of_a_part_comes_back_as_it_was(self) -> None:
        backend, group = self.open(), new_id()
        odd = part(group, 0, result=json.dumps(_ODD_VALUE, ensure_ascii=False).encode())
        null, large = (
            part(group, 1, result=b"null"),
            part(group, 2, result=b'"%b"' % (b"x" * 10**6)),
        )
        backend.open_chord(group, 3, ttl_s=TTL_S)

        assert told(backend.join_chord([odd, null, large])) == complete([odd, null, large])

    @chords
    def test_complete_chord_is_told_again_until_it_is_closed(self) -> None:
        backend, group = self.open(), new_id()
        parts = parts_of(group, 2)
        backend.open_chord(group, 2, ttl_s=TTL_S)
        backend.join_chord(parts)

        assert told(backend.join_chord([parts[0]])) == complete(parts)
        backend.close_chord([group])
        assert told(backend.join_chord(parts)) == {}

    @chords
    def test_chord_that_was_never_opened_stays_incomplete(self) -> None:
        backend, group = self.open(), new_id()

        assert told(backend.join_chord(parts_of(group, 2))) == {}

    @chords
    def test_opening_again_keeps_what_was_joined(self) -> None:
        backend, group = self.open(), new_id()
        parts = parts_of(group, 2)
        for one in parts[:1]:
            backend.open_chord(group, 2, ttl_s=TTL_S)
            backend.join_chord([one])
        backend.open_chord(group, 2, ttl_s=TTL_S)

        assert told(backend.join_chord(parts[1:])) == complete(parts)

    @chords
    def test_closed_chord_opened_again_begins_anew(self) -> None:
        backend, group = self.open(), new_id()
        backend.open_chord(group, 2, ttl_s=TTL_S)
        backend.join_chord(parts_of(group, 2))
        backend.close_chord([group])
        backend.open_chord(group, 2, ttl_s=TTL_S)
        parts = parts_of(group, 2)

        assert told(backend.join_chord(parts[:1])) == {}
        assert told(backend.join_chord(parts[1:])) == complete(parts)

    @chords
    def test_parts_of_many_chords_are_joined_in_one_call(self) -> None:
        backend, groups = self.open(), [new_id() for _ in range(3)]
        for group in groups:
            backend.open_chord(group, 2, ttl_s=TTL_S)
        first, second, third = (parts_of(group, 2) for group in groups)
        mixed = [first[1], second[0], third[0], first[0], third[1]]

        assert told(backend.join_chord(mixed)) == {**complete(first), **complete(third)}
        backend.close_chord([groups[0], groups[2]])
        assert told(backend.join_chord([*first, *second, *third])) == complete(second)

    @chords
    def test_parts_are_counted_across_handles(self) -> None:
        group = new_id()
        parts = parts_of(group, 2)
        self.open().open_chord(group, 2, ttl_s=TTL_S)
        self.open().join_chord(parts[:1])

        assert told(self.open().join_chord(parts[1:])) == complete(parts)
        self.open().close_chord([group])
        assert told(self.open().join_chord(parts)) == {}

    @chords
    def test_concurrent_joins_lose_no_part_and_miss_no_end(self) -> None:
        handles, group = [self.open() for _ in range(4)], new_id()
        parts = parts_of(group, 40)
        handles[0].open_chord(group, 40, ttl_s=TTL_S)

        def join(backend: Backend, offset: int) -> list[Mapping[str, Sequence[ChordPart]]]:
            return [backend.join_chord([one]) for one in parts[offset :: len(handles)]]

        threads = [Running(partial(join, one, offset)) for offset, one in enumerate(handles)]
        answers = [told(each) for thread in threads for each in thread.result(self.patience_s)]
        found = [each for each in answers if each]
        assert found
        assert all(each == complete(parts) for each in found)

    @chords
    def test_thousands_of_parts_are_counted(self) -> None:
        backend, group = self.open(), new_id()
        parts = parts_of(group, 3000)
        backend.open_chord(group, 3000, ttl_s=TTL_S)

        assert told(backend.join_chord(parts[1:])) == {}
        assert told(backend.join_chord(parts[:1])) == complete(parts)

    @chords
    def test_expired_chord_stays_incomplete(self) -> None:
        backend, group = self.open(), new_id()
        parts = [part(group, index, ttl_s=self.soon_s) for index in range(2)]
        backend.open_chord(group, 2, ttl_s=self.soon_s)
        backend.join_chord(parts[:1])
        self.pass_time(self.soon_s * 1.1)

        assert told(backend.join_chord(parts[1:])) == {}

    @chords
    def test_each_part_begins_the_time_anew(self) -> None:
        backend, groups = self.open(), [new_id(), new_id()]
        chords = [
            [part(group, index, ttl_s=ttl_s) for index in range(2)]
            for group, ttl_s in zip(groups, (TTL_S, None), strict=True)
        ]
        for group, parts in zip(groups, chords, strict=True):
            backend.open_chord(group, 2, ttl_s=self.soon_s)
            backend.join_chord(parts[:1])
        self.pass_time(self.soon_s * 1.1)

        for parts in chords:
            assert told(backend.join_chord(parts[1:])) == complete(parts)

    @chords
    def test_chords_of_nothing_do_nothing(self) -> None:
        backend, group = self.open(), new_id()
        backend.open_chord(group, 1, ttl_s=TTL_S)
        backend.close_chord([])
        backend.close_chord([new_id()])

        assert dict(backend.join_chord([])) == {}
        one = part(group, 0)
        assert told(backend.join_chord([one])) == complete([one])

    @chords
    def test_part_that_aborts_brings_what_there_is(self) -> None:
        backend, group = self.open(), new_id()
        first, third = part(group, 0), part(group, 2)
        aborting = failed(group, 1, aborts=True)
        backend.open_chord(group, 4, ttl_s=TTL_S)
        backend.join_chord([third])

        assert told(backend.join_chord([aborting, first])) == complete([first, aborting, third])

    @chords
    def test_failed_part_that_does_not_abort_is_waited_upon(self) -> None:
        backend, group = self.open(), new_id()
        parts = [failed(group, 0), part(group, 1)]
        backend.open_chord(group, 2, ttl_s=TTL_S)

        assert told(backend.join_chord(parts[:1])) == {}
        assert told(backend.join_chord(parts[1:])) == complete(parts)

    @chords
    def test_part_that_was_counted_before_aborts_too(self) -> None:
        backend, group = self.open(), new_id()
        aborting = failed(group, 1, aborts=True)
        backend.open_chord(group, 3, ttl_s=TTL_S)
        backend.join_chord([part(group, 1, task_id=aborting.task_id, result=b"1")])

        found = backend.join_chord([aborting])[group]
        assert [(one.task_id, one.state) for one in found] == [(aborting.task_id, "SUCCESS")]

    @chords
    def test_aborted_chord_is_told_to_who_aborts_it_until_it_is_closed(self) -> None:
        backend, group = self.open(), new_id()
        aborting, later = failed(group, 0, aborts=True), part(group, 1)
        backend.open_chord(group, 3, ttl_s=TTL_S)
        backend.join_chord([aborting])

        assert told(backend.join_chord([later])) == {}
        assert told(backend.join_chord([aborting])) == complete([aborting, later])
        backend.close_chord([group])
        assert told(backend.join_chord([aborting])) == {}

    @chords
    def test_chord_that_was_never_opened_is_not_aborted(self) -> None:
        backend, group = self.open(), new_id()

        assert told(backend.join_chord([failed(group, 0, aborts=True)])) == {}

    @chords
    def test_part_aborts_its_own_chord_alone(self) -> None:
        backend, group, other = self.open(), new_id(), new_id()
        aborting = failed(group, 0, aborts=True)
        for each in (group, other):
            backend.open_chord(each, 2, ttl_s=TTL_S)

        assert told(backend.join_chord([aborting, part(other)])) == complete([aborting])

    @chords
    def test_thousands_of_parts_come_with_the_one_that_aborts(self) -> None:
        backend, group = self.open(), new_id()
        parts = [failed(group, 0, aborts=True), *parts_of(group, 1500)[1:]]
        backend.open_chord(group, 2000, ttl_s=TTL_S)

        assert told(backend.join_chord(parts)) == complete(parts)
