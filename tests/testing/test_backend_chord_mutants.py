"""Each test of the chord part of `BackendSuite` catches a fault planted in a sound backend."""

from __future__ import annotations

import time
from math import inf
from typing import ClassVar

import msgspec
import pytest

from umbel.builtin.memory.backend import MemoryBackend
from umbel.builtin.memory.space import Space
from umbel_testing import BackendSuite
from umbel_testing.backend_chord_suite import BackendChordSuite
from umbel_testing.mutants import Mutants


def make_backend(kind, clock):
    space = Space()
    return lambda: kind(space, clock)


MUTANTS = Mutants(BackendSuite, BackendChordSuite, make_backend)


def changed(parts, change):
    return [msgspec.structs.replace(one, **change(one)) for one in parts]


class Broken(MemoryBackend):
    """A memory backend whose chords are easy to break."""

    def chord(self, group_id):
        return self._store.chords._chord(group_id, self._clock.monotonic())


@MUTANTS.caught_by(
    "test_aborted_chord_is_told_to_who_aborts_it_until_it_is_closed",
    "test_chord_grows_once_by_an_id",
    "test_chord_is_complete_with_its_last_part",
    "test_chord_that_is_unknown_or_closed_does_not_grow",
    "test_chord_waits_for_what_it_has_grown_by",
    "test_chords_of_nothing_do_nothing",
    "test_closed_chord_opened_again_begins_anew",
    "test_complete_chord_is_told_again_until_it_is_closed",
    "test_concurrent_joins_lose_no_part_and_miss_no_end",
    "test_each_part_begins_the_time_anew",
    "test_failed_and_revoked_parts_count",
    "test_failed_part_that_does_not_abort_is_waited_upon",
    "test_growing_begins_the_time_anew",
    "test_ids_of_tasks_may_hold_anything",
    "test_one_task_at_two_places_is_two_parts",
    "test_opening_again_keeps_what_was_joined",
    "test_part_aborts_its_own_chord_alone",
    "test_part_counts_once_however_often_it_comes",
    "test_part_that_aborts_brings_what_there_is",
    "test_part_that_was_counted_before_aborts_too",
    "test_part_without_a_result_makes_no_chord_complete",
    "test_part_without_an_index_counts_once_too",
    "test_parts_are_counted_across_handles",
    "test_parts_come_in_order_of_their_index",
    "test_parts_of_many_chords_are_joined_in_one_call",
    "test_parts_without_an_index_come_behind_the_others",
    "test_result_of_a_part_comes_back_as_it_was",
    "test_saved_group_may_be_the_header_of_a_chord",
    "test_thousands_of_parts_are_counted",
    "test_what_a_part_said_first_stands",
)
class NeverComplete(Broken):
    def join_chord(self, parts):
        super().join_chord(parts)
        return {}


@MUTANTS.caught_by(
    "test_aborted_chord_is_told_to_who_aborts_it_until_it_is_closed",
    "test_chord_is_complete_with_its_last_part",
    "test_chord_that_is_unknown_or_closed_does_not_grow",
    "test_closed_chord_opened_again_begins_anew",
    "test_concurrent_joins_lose_no_part_and_miss_no_end",
    "test_failed_part_that_does_not_abort_is_waited_upon",
    "test_ids_of_tasks_may_hold_anything",
    "test_opening_again_keeps_the_progress",
    "test_part_aborts_its_own_chord_alone",
    "test_part_counts_once_however_often_it_comes",
    "test_part_without_a_result_begins_the_time_anew",
    "test_part_without_a_result_counts_once_however_often_it_comes",
    "test_part_without_a_result_is_counted_and_never_comes_back",
    "test_part_without_a_result_makes_no_chord_complete",
    "test_part_without_an_index_counts_once_too",
    "test_parts_of_many_chords_are_joined_in_one_call",
    "test_progress_counts_a_part_once",
    "test_progress_is_told_across_handles",
    "test_progress_of_a_chord_opened_again_begins_anew",
    "test_progress_of_many_groups_is_told_in_one_call",
    "test_progress_stays_when_the_chord_is_closed",
    "test_progress_tells_of_size_done_and_failed",
    "test_thousands_of_parts_are_counted",
)
class CompleteOnePartEarly(Broken):
    def open_chord(self, group_id, size, *, ttl_s, body=None):
        super().open_chord(group_id, max(1, size - 1), ttl_s=ttl_s, body=body)


class Sorting(Broken):
    """Brings the parts into an order of its own."""

    def join_chord(self, parts):
        return {key: self.order(found) for key, found in super().join_chord(parts).items()}


@MUTANTS.caught_by(
    "test_concurrent_joins_lose_no_part_and_miss_no_end",
    "test_parts_come_in_order_of_their_index",
    "test_thousands_of_parts_are_counted",
)
class SortsIndexesAsText(Sorting):
    def order(self, parts):
        return sorted(parts, key=lambda one: (one.index is None, str(one.index)))


@MUTANTS.caught_by(
    "test_chord_grows_once_by_an_id",
    "test_concurrent_joins_lose_no_part_and_miss_no_end",
    "test_part_that_aborts_brings_what_there_is",
    "test_part_without_a_result_makes_no_chord_complete",
    "test_parts_come_in_order_of_their_index",
    "test_parts_of_many_chords_are_joined_in_one_call",
    "test_parts_without_an_index_come_behind_the_others",
    "test_thousands_of_parts_are_counted",
)
class KeepsTheOrderOfJoining(Sorting):
    def order(self, parts):
        return list(self.chord(parts[0].group_id).parts.values())


@MUTANTS.caught_by(
    "test_parts_without_an_index_come_behind_the_others",
)
class PutsTheLooseInFront(Sorting):
    def order(self, parts):
        return sorted(parts, key=lambda one: -1 if one.index is None else one.index)


@MUTANTS.caught_by(
    "test_result_of_a_part_comes_back_as_it_was",
)
class ManglesResults(Sorting):
    def order(self, parts):
        return changed(parts, lambda one: {"result": one.result[:1000]})


@MUTANTS.caught_by(
    "test_aborted_chord_is_told_to_who_aborts_it_until_it_is_closed",
    "test_failed_and_revoked_parts_count",
    "test_failed_part_that_does_not_abort_is_waited_upon",
    "test_part_aborts_its_own_chord_alone",
    "test_part_that_aborts_brings_what_there_is",
)
class TellsOfSuccessOnly(Sorting):
    def order(self, parts):
        return changed(parts, lambda _: {"state": "SUCCESS"})


@MUTANTS.caught_by(
    "test_aborted_chord_is_told_to_who_aborts_it_until_it_is_closed",
    "test_complete_chord_is_told_again_until_it_is_closed",
    "test_ids_of_tasks_may_hold_anything",
    "test_part_counts_once_however_often_it_comes",
    "test_part_that_was_counted_before_aborts_too",
    "test_part_without_a_result_counts_once_however_often_it_comes",
    "test_parts_of_many_chords_are_joined_in_one_call",
    "test_progress_counts_a_part_once",
    "test_what_a_part_said_first_stands",
)
class CountsEachTime(Broken):
    joins = 0

    def join_chord(self, parts):
        type(self).joins += 1
        found = super().join_chord(
            changed(parts, lambda one: {"task_id": f"{one.task_id}/{self.joins}"})
        )
        return {
            key: changed(each, lambda one: {"task_id": one.task_id.partition("/")[0]})
            for key, each in found.items()
        }


@MUTANTS.caught_by(
    "test_part_counts_once_however_often_it_comes",
    "test_part_without_a_result_makes_no_chord_complete",
    "test_part_without_an_index_counts_once_too",
)
class CountsEachOfABatch(Broken):
    def join_chord(self, parts):
        found = super().join_chord(parts)
        return {
            **found,
            **{
                group: list(self.chord(group).parts.values())
                for group in {one.group_id for one in parts if one.result} - set(found)
                if len([1 for one in parts if one.group_id == group]) == self.chord(group).total()
                and not self.chord(group).is_closed
            },
        }


@MUTANTS.caught_by(
    "test_part_that_was_counted_before_aborts_too",
    "test_progress_counts_a_part_once",
    "test_what_a_part_said_first_stands",
)
class LetsTheLastWordStand(Broken):
    def join_chord(self, parts):
        for one in parts:
            self.chord(one.group_id).parts.pop((one.task_id, one.index), None)
        return super().join_chord(parts)


@MUTANTS.caught_by(
    "test_one_task_at_two_places_is_two_parts",
    "test_part_without_a_result_makes_no_chord_complete",
    "test_parts_of_many_chords_are_joined_in_one_call",
    "test_progress_counts_a_part_once",
)
class CountsByTaskAlone(Broken):
    def join_chord(self, parts):
        for one in parts:
            if one.task_id not in {key[0] for key in self.chord(one.group_id).parts}:
                super().join_chord([one])
        return super().join_chord(parts[:1])


@MUTANTS.caught_by(
    "test_chord_that_is_unknown_or_closed_does_not_grow",
    "test_ids_of_tasks_may_hold_anything",
    "test_part_that_aborts_brings_what_there_is",
    "test_part_without_an_index_counts_once_too",
    "test_parts_without_an_index_come_behind_the_others",
)
class CountsByIndexAlone(Broken):
    def join_chord(self, parts):
        found = {}
        for one in parts:
            others = {key for key in self.chord(one.group_id).parts if key[1] == one.index}
            if not others or (one.task_id, one.index) in others:
                found |= super().join_chord([one])
        return found


@MUTANTS.caught_by(
    "test_aborted_chord_is_told_to_who_aborts_it_until_it_is_closed",
    "test_failed_and_revoked_parts_count",
    "test_failed_part_that_does_not_abort_is_waited_upon",
    "test_growing_begins_the_time_anew",
    "test_opening_again_keeps_the_progress",
    "test_part_aborts_its_own_chord_alone",
    "test_part_that_aborts_brings_what_there_is",
    "test_part_that_was_counted_before_aborts_too",
    "test_part_without_a_result_is_counted_and_never_comes_back",
    "test_progress_is_told_across_handles",
    "test_progress_of_many_groups_is_told_in_one_call",
    "test_progress_stays_when_the_chord_is_closed",
    "test_progress_tells_of_size_done_and_failed",
)
class CountsSuccessOnly(Broken):
    def join_chord(self, parts):
        return super().join_chord([one for one in parts if one.state == "SUCCESS"])


@MUTANTS.caught_by(
    "test_complete_chord_is_told_again_until_it_is_closed",
)
class TellsOnce(Broken):
    seen: ClassVar[set] = set()

    def join_chord(self, parts):
        found = super().join_chord(parts)
        new = {key: each for key, each in found.items() if frozenset(each) not in self.seen}
        self.seen.update(frozenset(each) for each in new.values())
        return new


@MUTANTS.caught_by(
    "test_aborted_chord_is_told_to_who_aborts_it_until_it_is_closed",
    "test_body_is_gone_when_the_chord_is_closed",
    "test_chord_that_is_unknown_or_closed_does_not_grow",
    "test_closed_chord_opened_again_begins_anew",
    "test_closed_chord_opened_again_has_the_body_of_that_opening",
    "test_complete_chord_is_told_again_until_it_is_closed",
    "test_parts_are_counted_across_handles",
    "test_parts_of_many_chords_are_joined_in_one_call",
    "test_progress_of_a_chord_opened_again_begins_anew",
    "test_progress_stays_when_the_chord_is_closed",
)
class ClosesNothing(Broken):
    def close_chord(self, group_ids):
        pass


@MUTANTS.caught_by(
    "test_closed_chord_opened_again_has_the_body_of_that_opening",
    "test_parts_of_many_chords_are_joined_in_one_call",
)
class ClosesOneOnly(Broken):
    def close_chord(self, group_ids):
        super().close_chord(group_ids[:1])


@MUTANTS.caught_by(
    "test_body_is_gone_when_the_chord_is_closed",
    "test_chord_that_is_unknown_or_closed_does_not_grow",
    "test_chords_of_nothing_do_nothing",
    "test_parts_of_many_chords_are_joined_in_one_call",
)
class ClosesAll(Broken):
    def close_chord(self, group_ids):
        super().close_chord(list(self._store.chords._chords._items))


@MUTANTS.caught_by(
    "test_chord_that_is_unknown_or_closed_does_not_grow",
    "test_chord_that_was_never_opened_is_not_aborted",
    "test_chord_that_was_never_opened_stays_incomplete",
    "test_expired_chord_stays_incomplete",
    "test_late_part_does_not_revive_a_chord_whose_time_is_over",
    "test_progress_of_what_was_never_opened_is_unknown",
)
class CountsTheUnopened(Broken):
    def join_chord(self, parts):
        for one in parts:
            chord = self.chord(one.group_id)
            if chord.size is None and not chord.is_closed:
                self.open_chord(one.group_id, len(chord.parts) + 1, ttl_s=60.0)
        return super().join_chord(parts)


@MUTANTS.caught_by(
    "test_chord_that_is_unknown_or_closed_does_not_grow",
    "test_opening_again_keeps_the_body",
    "test_opening_again_keeps_the_progress",
    "test_opening_again_keeps_what_was_joined",
)
class OpensAnewEachTime(Broken):
    def open_chord(self, group_id, size, *, ttl_s, body=None):
        super().close_chord([group_id])
        super().open_chord(group_id, size, ttl_s=ttl_s, body=body)


@MUTANTS.caught_by(
    "test_closed_chord_opened_again_begins_anew",
    "test_closed_chord_opened_again_has_the_body_of_that_opening",
    "test_progress_of_a_chord_opened_again_begins_anew",
)
class StaysClosed(Broken):
    def open_chord(self, group_id, size, *, ttl_s, body=None):
        if not self.chord(group_id).is_closed:
            super().open_chord(group_id, size, ttl_s=ttl_s, body=body)


@MUTANTS.caught_by(
    "test_closed_chord_opened_again_begins_anew",
    "test_progress_of_a_chord_opened_again_begins_anew",
)
class RemembersClosedParts(Broken):
    kept: ClassVar[dict] = {}

    def close_chord(self, group_ids):
        self.kept.update({one: dict(self.chord(one).parts) for one in group_ids})
        super().close_chord(group_ids)

    def open_chord(self, group_id, size, *, ttl_s, body=None):
        super().open_chord(group_id, size, ttl_s=ttl_s, body=body)
        self.chord(group_id).parts.update(self.kept.get(group_id, {}))


@MUTANTS.caught_by(
    "test_parts_of_many_chords_are_joined_in_one_call",
    "test_progress_of_many_groups_is_told_in_one_call",
)
class JoinsOneChordACall(Broken):
    def join_chord(self, parts):
        return super().join_chord([one for one in parts if one.group_id == parts[0].group_id])


@MUTANTS.caught_by(
    "test_another_handle_loads_it_too",
    "test_body_is_kept_as_it_was_for_all_handles",
    "test_close_can_be_repeated",
    "test_concurrent_joins_lose_no_part_and_miss_no_end",
    "test_parts_are_counted_across_handles",
    "test_progress_is_told_across_handles",
    "test_saved_group_is_loaded_across_handles",
)
class KeepsHandlesApart(Broken):
    def __init__(self, space, clock):
        super().__init__(Space(), clock)


@MUTANTS.caught_by(
    "test_concurrent_joins_lose_no_part_and_miss_no_end",
)
class LooksThenWrites(Broken):
    """Loses what was joined between its look and its writing."""

    def join_chord(self, parts):
        chord = self.chord(parts[0].group_id) if parts else None
        if chord is None or chord.size != 40:
            return super().join_chord(parts)
        before = dict(chord.parts)
        time.sleep(0.002)
        chord.parts.clear()
        chord.parts.update(before)
        return super().join_chord(parts)


@MUTANTS.caught_by(
    "test_thousands_of_parts_are_counted",
)
class JoinsAThousandAtMost(Broken):
    def join_chord(self, parts):
        return super().join_chord(parts[:1000])


@MUTANTS.caught_by(
    "test_expired_chord_stays_incomplete",
    "test_late_part_does_not_revive_a_chord_whose_time_is_over",
    "test_progress_is_kept_until_its_time_is_over",
)
class KeepsChordsForEver(Broken):
    def open_chord(self, group_id, size, *, ttl_s, body=None):
        super().open_chord(group_id, size, ttl_s=None, body=body)

    def join_chord(self, parts):
        return super().join_chord(changed(parts, lambda _: {"ttl_s": None}))


@MUTANTS.caught_by(
    "test_each_part_begins_the_time_anew",
    "test_part_without_a_result_begins_the_time_anew",
)
class KeepsTheFirstExpiry(Broken):
    def join_chord(self, parts):
        items = self._store.chords._chords._items
        ends = {key: item.expires_at for key, item in items.items()}
        found = super().join_chord(parts)
        for key in ends.keys() & items.keys():
            items[key].expires_at = ends[key]
        return found


@MUTANTS.caught_by(
    "test_chords_of_nothing_do_nothing",
)
class FailsToDoNothing(Broken):
    def join_chord(self, parts):
        assert parts
        return super().join_chord(parts)


@MUTANTS.caught_by(
    "test_chords_of_nothing_do_nothing",
    "test_progress_of_what_was_never_opened_is_unknown",
)
class ClosesKnownOnesOnly(Broken):
    def close_chord(self, group_ids):
        for one in group_ids:
            assert self.chord(one).size is not None
        super().close_chord(group_ids)


class Aborting(Broken):
    """Finds out by itself which chords are aborted."""

    def join_chord(self, parts):
        found = super().join_chord(changed(parts, lambda _: {"aborts": False}))
        aborted = {group for group in self.aborted(parts) if self.may_abort(self.chord(group))}
        more = {group: sorted(self.chord(group).parts.values(), key=_place) for group in aborted}
        return {**more, **found}

    def may_abort(self, chord):
        return chord.size is not None and not chord.is_closed

    def aborted(self, parts):
        return {one.group_id for one in parts if one.aborts and one.result}


def _place(part):
    return inf if part.index is None else part.index


@MUTANTS.caught_by(
    "test_aborted_chord_is_told_to_who_aborts_it_until_it_is_closed",
    "test_part_aborts_its_own_chord_alone",
    "test_part_that_aborts_brings_what_there_is",
    "test_part_that_was_counted_before_aborts_too",
    "test_thousands_of_parts_come_with_the_one_that_aborts",
)
class AbortsNothing(Aborting):
    def aborted(self, parts):
        return set()


@MUTANTS.caught_by(
    "test_failed_part_that_does_not_abort_is_waited_upon",
    "test_part_without_a_result_aborts_nothing",
    "test_part_without_a_result_is_counted_and_never_comes_back",
)
class AbortsWithAnyFailure(Aborting):
    def aborted(self, parts):
        return {one.group_id for one in parts if one.state != "SUCCESS"}


@MUTANTS.caught_by(
    "test_chord_that_was_never_opened_is_not_aborted",
    "test_late_part_does_not_revive_a_chord_whose_time_is_over",
)
class AbortsTheUnopened(Aborting):
    def may_abort(self, chord):
        return not chord.is_closed


@MUTANTS.caught_by(
    "test_aborted_chord_is_told_to_who_aborts_it_until_it_is_closed",
)
class AbortsTheClosed(Aborting):
    def may_abort(self, chord):
        return chord.size is not None


@MUTANTS.caught_by(
    "test_aborted_chord_is_told_to_who_aborts_it_until_it_is_closed",
)
class RemembersWhatIsAborted(Aborting):
    marked: ClassVar[set] = set()

    def aborted(self, parts):
        self.marked.update(super().aborted(parts))
        return {one.group_id for one in parts} & self.marked


@MUTANTS.caught_by(
    "test_aborted_chord_is_told_to_who_aborts_it_until_it_is_closed",
    "test_part_that_was_counted_before_aborts_too",
)
class AbortsOnce(Aborting):
    seen: ClassVar[set] = set()

    def aborted(self, parts):
        new = {one for one in parts if one.task_id not in self.seen}
        self.seen.update(one.task_id for one in parts)
        return super().aborted(new)


@MUTANTS.caught_by(
    "test_part_aborts_its_own_chord_alone",
)
class AbortsAllOfTheCall(Aborting):
    def aborted(self, parts):
        return {one.group_id for one in parts} if super().aborted(parts) else set()


@MUTANTS.caught_by(
    "test_thousands_of_parts_come_with_the_one_that_aborts",
)
class AbortsWithTheFirstThousand(Broken):
    def join_chord(self, parts):
        found = super().join_chord(parts[:1000])
        return {**super().join_chord(parts[1000:]), **found}


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.__name__)
def test_fault_is_caught(mutant):
    MUTANTS.check(mutant)


def test_every_test_catches_a_fault():
    assert MUTANTS.uncaught() == set()
