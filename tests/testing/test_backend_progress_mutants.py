"""Each test of the progress part of `BackendSuite` catches a fault planted in a sound backend."""

from __future__ import annotations

import time

import msgspec
import pytest

from umbel.builtin.memory.backend import MemoryBackend
from umbel.builtin.memory.space import Space
from umbel.outcomes import ChordProgress
from umbel_testing import BackendSuite
from umbel_testing.backend_progress_suite import BackendProgressSuite
from umbel_testing.mutants import Mutants


def make_backend(kind, clock):
    space = Space()
    return lambda: kind(space, clock)


MUTANTS = Mutants(BackendSuite, BackendProgressSuite, make_backend)


class Broken(MemoryBackend):
    """A memory backend whose chords are easy to break."""

    def chord(self, group_id):
        return self._store.chords._chord(group_id, self._clock.monotonic())


class Telling(Broken):
    """Tells of another progress."""

    def chord_progress(self, group_ids):
        found = super().chord_progress(group_ids)
        return {group: self.tell(self.chord(group), one) for group, one in found.items()}


# -- progress -------------------------------------------------------------------------------------


@MUTANTS.caught_by(
    "test_growing_begins_the_time_anew",
    "test_opening_again_keeps_the_progress",
    "test_part_without_a_result_is_counted_and_never_comes_back",
    "test_progress_is_told_across_handles",
    "test_progress_of_many_groups_is_told_in_one_call",
    "test_progress_stays_when_the_chord_is_closed",
    "test_progress_tells_of_size_done_and_failed",
    "test_thousands_of_parts_without_a_result_are_counted",
)
class LeavesOutTheFailed(Telling):
    def tell(self, _chord, found):
        return ChordProgress(found.size, found.done - found.failed, found.failed)


@MUTANTS.caught_by(
    "test_progress_tells_of_size_done_and_failed",
)
class CallsTheRevokedSound(Telling):
    def tell(self, chord, found):
        revoked = [one for one in chord.parts.values() if one.state == "REVOKED"]
        return ChordProgress(found.size, found.done, found.failed - len(revoked))


@MUTANTS.caught_by(
    "test_chord_grows_once_by_an_id",
    "test_chord_that_is_unknown_or_closed_does_not_grow",
    "test_concurrent_counts_lose_nothing_and_double_nothing",
    "test_growing_begins_the_time_anew",
    "test_ids_of_tasks_may_hold_anything",
    "test_opening_again_keeps_the_progress",
    "test_part_without_a_result_begins_the_time_anew",
    "test_part_without_a_result_counts_once_however_often_it_comes",
    "test_part_without_a_result_is_counted_and_never_comes_back",
    "test_progress_counts_a_part_once",
    "test_progress_is_kept_until_its_time_is_over",
    "test_progress_is_told_across_handles",
    "test_progress_of_a_chord_opened_again_begins_anew",
    "test_progress_of_many_groups_is_told_in_one_call",
    "test_progress_stays_when_the_chord_is_closed",
    "test_progress_tells_of_size_done_and_failed",
    "test_thousands_of_ids_are_grown_by",
    "test_thousands_of_parts_without_a_result_are_counted",
)
class TellsOfNothing(Broken):
    def chord_progress(self, group_ids):
        return {}


@MUTANTS.caught_by(
    "test_chord_that_is_unknown_or_closed_does_not_grow",
    "test_progress_is_kept_until_its_time_is_over",
    "test_progress_of_many_groups_is_told_in_one_call",
)
class TellsOfTheFirstAlone(Broken):
    def chord_progress(self, group_ids):
        return super().chord_progress(group_ids[:1])


@MUTANTS.caught_by(
    "test_chord_that_is_unknown_or_closed_does_not_grow",
    "test_late_part_does_not_revive_a_chord_whose_time_is_over",
    "test_progress_is_kept_until_its_time_is_over",
    "test_progress_of_what_was_never_opened_is_unknown",
)
class TellsOfTheUnknown(Broken):
    def chord_progress(self, group_ids):
        unknown = dict.fromkeys(group_ids, ChordProgress(0, 0, 0))
        return {**unknown, **super().chord_progress(group_ids)}


@MUTANTS.caught_by(
    "test_progress_of_what_was_never_opened_is_unknown",
)
class FailsToTellOfNothing(Broken):
    def chord_progress(self, group_ids):
        assert group_ids
        return super().chord_progress(group_ids)


@MUTANTS.caught_by(
    "test_chord_grows_once_by_an_id",
    "test_growing_begins_the_time_anew",
    "test_ids_of_tasks_may_hold_anything",
    "test_opening_again_keeps_the_progress",
    "test_progress_of_a_chord_opened_again_begins_anew",
    "test_progress_stays_when_the_chord_is_closed",
    "test_thousands_of_ids_are_grown_by",
)
class TellsOfTheOriginalSize(Telling):
    def tell(self, chord, found):
        return ChordProgress(chord.size, found.done, found.failed)


@MUTANTS.caught_by(
    "test_concurrent_counts_lose_nothing_and_double_nothing",
    "test_progress_counts_a_part_once",
)
class CountsEachTime(Telling):
    def join_chord(self, parts):
        for one in parts:
            chord = self.chord(one.group_id)
            if (one.task_id, one.index) in chord.parts:
                chord.done += 1
                chord.failed += one.state == "FAILURE"
        return super().join_chord(parts)

    def tell(self, _chord, found):
        return found


@MUTANTS.caught_by(
    "test_progress_stays_when_the_chord_is_closed",
)
class ForgetsTheClosed(Telling):
    def tell(self, chord, found):
        return ChordProgress(found.size, 0, 0) if chord.is_closed else found


@MUTANTS.caught_by(
    "test_progress_stays_when_the_chord_is_closed",
)
class CountsAfterTheEnd(Broken):
    def join_chord(self, parts):
        for one in parts:
            chord = self.chord(one.group_id)
            chord.done += chord.is_closed
        return super().join_chord(parts)


@MUTANTS.caught_by(
    "test_progress_of_a_chord_opened_again_begins_anew",
)
class GoesOnWithWhatWasClosed(Broken):
    def open_chord(self, group_id, size, *, ttl_s, body=None):
        before = self.chord(group_id)
        super().open_chord(group_id, size, ttl_s=ttl_s, body=body)
        chord = self.chord(group_id)
        chord.done, chord.failed = before.done, before.failed


@MUTANTS.caught_by(
    "test_progress_of_a_chord_opened_again_begins_anew",
)
class RemembersTheCounted(Broken):
    """Keeps what counts once beyond the end of a chord."""

    def close_chord(self, group_ids):
        self.kept = {one: set(self.chord(one).counted) for one in group_ids}
        super().close_chord(group_ids)

    def open_chord(self, group_id, size, *, ttl_s, body=None):
        super().open_chord(group_id, size, ttl_s=ttl_s, body=body)
        self.chord(group_id).counted.update(getattr(self, "kept", {}).get(group_id, ()))


@MUTANTS.caught_by(
    "test_progress_of_a_chord_opened_again_begins_anew",
)
class RemembersTheGrown(Broken):
    def open_chord(self, group_id, size, *, ttl_s, body=None):
        grown = self.chord(group_id).grown
        super().open_chord(group_id, size, ttl_s=ttl_s, body=body)
        self.chord(group_id).grown.update(grown)


@MUTANTS.caught_by(
    "test_chord_that_is_unknown_or_closed_does_not_grow",
    "test_opening_again_keeps_the_body",
    "test_opening_again_keeps_the_progress",
    "test_opening_again_keeps_what_was_joined",
)
class OpensAnewEachTime(Broken):
    def open_chord(self, group_id, size, *, ttl_s, body=None):
        self._store.chords._chords.pop(group_id, self._clock.monotonic())
        super().open_chord(group_id, size, ttl_s=ttl_s, body=body)


@MUTANTS.caught_by(
    "test_opening_again_keeps_the_progress",
)
class ForgetsTheGrownWhenOpenedAgain(Broken):
    def open_chord(self, group_id, size, *, ttl_s, body=None):
        self.chord(group_id).grown.clear()
        super().open_chord(group_id, size, ttl_s=ttl_s, body=body)


@MUTANTS.caught_by(
    "test_late_part_does_not_revive_a_chord_whose_time_is_over",
    "test_progress_is_kept_until_its_time_is_over",
)
class KeepsTheClosedForEver(Broken):
    def close_chord(self, group_ids):
        super().close_chord(group_ids)
        for one in group_ids:
            chord = self._store.chords
            chord._keep(one, chord._chord(one, self._clock.monotonic()), 0.0, None)


@MUTANTS.caught_by(
    "test_progress_is_kept_until_its_time_is_over",
)
class KeepsTheClosedForAMoment(Broken):
    def close_chord(self, group_ids):
        super().close_chord(group_ids)
        now, chords = self._clock.monotonic(), self._store.chords
        for one in group_ids:
            chords._keep(one, chords._chord(one, now), now, 0.1)


@MUTANTS.caught_by(
    "test_late_part_does_not_revive_a_chord_whose_time_is_over",
)
class RemembersSizes(Broken):
    def __init__(self, space, clock):
        super().__init__(space, clock)
        self.sizes = {}

    def open_chord(self, group_id, size, *, ttl_s, body=None):
        self.sizes[group_id] = size
        super().open_chord(group_id, size, ttl_s=ttl_s, body=body)

    def join_chord(self, parts):
        for one in parts:
            if self.chord(one.group_id).size is None and one.group_id in self.sizes:
                super().open_chord(one.group_id, self.sizes[one.group_id], ttl_s=one.ttl_s)
        return super().join_chord(parts)


@MUTANTS.caught_by(
    "test_progress_is_told_across_handles",
)
class TellsOfItsOwnAlone(Broken):
    def __init__(self, space, clock):
        super().__init__(space, clock)
        self.own = set()

    def open_chord(self, group_id, size, *, ttl_s, body=None):
        self.own.add(group_id)
        super().open_chord(group_id, size, ttl_s=ttl_s, body=body)

    def chord_progress(self, group_ids):
        return super().chord_progress([one for one in group_ids if one in self.own])


# -- parts without a result -----------------------------------------------------------------------


def changed(parts, **changes):
    return [msgspec.structs.replace(one, **changes) if one.result is None else one for one in parts]


@MUTANTS.caught_by(
    "test_concurrent_counts_lose_nothing_and_double_nothing",
    "test_ids_of_tasks_may_hold_anything",
    "test_opening_again_keeps_the_progress",
    "test_part_without_a_result_begins_the_time_anew",
    "test_part_without_a_result_counts_once_however_often_it_comes",
    "test_part_without_a_result_is_counted_and_never_comes_back",
    "test_progress_of_a_chord_opened_again_begins_anew",
    "test_thousands_of_parts_without_a_result_are_counted",
)
class PassesOverWhatHasNoResult(Broken):
    def join_chord(self, parts):
        return super().join_chord([one for one in parts if one.result is not None])


@MUTANTS.caught_by(
    "test_ids_of_tasks_may_hold_anything",
    "test_part_without_a_result_aborts_nothing",
    "test_part_without_a_result_is_counted_and_never_comes_back",
    "test_part_without_a_result_makes_no_chord_complete",
)
class TakesNoResultForNull(Broken):
    def join_chord(self, parts):
        return super().join_chord(changed(parts, result=b"null"))


@MUTANTS.caught_by(
    "test_part_without_a_result_is_counted_and_never_comes_back",
    "test_part_without_a_result_makes_no_chord_complete",
)
class CompleteWhenAllAreCounted(Broken):
    def join_chord(self, parts):
        found = super().join_chord(parts)
        for one in parts:
            chord = self.chord(one.group_id)
            if chord.size and chord.done >= chord.total() and not chord.is_closed:
                found.setdefault(one.group_id, list(chord.parts.values()))
        return found


@MUTANTS.caught_by(
    "test_part_without_a_result_makes_no_chord_complete",
)
class TellsAgainWhateverComes(Broken):
    """Looks at a chord again with any part."""

    def join_chord(self, parts):
        found = super().join_chord(parts)
        for one in parts:
            chord = self.chord(one.group_id)
            if chord.size and len(chord.parts) >= chord.total() and not chord.is_closed:
                found.setdefault(one.group_id, list(chord.parts.values()))
        return found


@MUTANTS.caught_by(
    "test_part_without_a_result_aborts_nothing",
)
class AbortsWithoutAResult(Broken):
    def join_chord(self, parts):
        found = super().join_chord(parts)
        for one in parts:
            if one.aborts and one.result is None and one.group_id not in found:
                found[one.group_id] = list(self.chord(one.group_id).parts.values())
        return found


@MUTANTS.caught_by(
    "test_concurrent_counts_lose_nothing_and_double_nothing",
    "test_ids_of_tasks_may_hold_anything",
    "test_part_without_a_result_counts_once_however_often_it_comes",
    "test_thousands_of_parts_without_a_result_are_counted",
)
class CountsWhatHasNoResultEachTime(Broken):
    def join_chord(self, parts):
        for one in parts:
            self.chord(one.group_id).counted.clear()
        return super().join_chord(parts)


@MUTANTS.caught_by(
    "test_part_without_a_result_counts_once_however_often_it_comes",
)
class CountsWhatHasNoResultByIndex(Broken):
    def join_chord(self, parts):
        places = {(one.group_id, one.index) for one in parts if one.result is None}
        known = {
            (group, index)
            for group, index in places
            if index in {each[1] for each in self.chord(group).counted}
        }
        return super().join_chord(
            [one for one in parts if one.result or (one.group_id, one.index) not in known]
        )


@MUTANTS.caught_by(
    "test_ids_of_tasks_may_hold_anything",
    "test_part_without_a_result_counts_once_however_often_it_comes",
)
class CountsWhatHasNoResultByTask(Broken):
    def join_chord(self, parts):
        return super().join_chord(changed(parts, index=None))


@MUTANTS.caught_by(
    "test_part_without_a_result_is_counted_and_never_comes_back",
    "test_thousands_of_parts_without_a_result_are_counted",
)
class CallsTheCountedSound(Broken):
    def join_chord(self, parts):
        return super().join_chord(changed(parts, state="SUCCESS"))


@MUTANTS.caught_by(
    "test_part_without_a_result_counts_once_however_often_it_comes",
    "test_thousands_of_parts_without_a_result_are_counted",
)
class LetsTheCountedFailLater(Broken):
    def join_chord(self, parts):
        for one in parts:
            chord = self.chord(one.group_id)
            chord.failed += one.state == "FAILURE" and (one.task_id, one.index) in chord.counted
        return super().join_chord(parts)


@MUTANTS.caught_by(
    "test_part_without_a_result_begins_the_time_anew",
)
class KeepsNothingForTheCounted(Broken):
    def join_chord(self, parts):
        items = self._store.chords._chords._items
        ends = {key: item.expires_at for key, item in items.items()}
        found = super().join_chord(parts)
        for one in parts:
            if one.result is None and one.group_id in ends:
                items[one.group_id].expires_at = ends[one.group_id]
        return found


@MUTANTS.caught_by(
    "test_thousands_of_parts_without_a_result_are_counted",
)
class CountsAThousandAtMost(Broken):
    def join_chord(self, parts):
        return super().join_chord(parts[:1000])


@MUTANTS.caught_by(
    "test_concurrent_counts_lose_nothing_and_double_nothing",
)
class LooksThenWrites(Broken):
    """Loses what was counted between its look and its writing."""

    def join_chord(self, parts):
        chord = self.chord(parts[0].group_id) if parts else None
        if chord is None or chord.size != 40:
            return super().join_chord(parts)
        before = chord.done
        time.sleep(0.002)
        found = super().join_chord(parts)
        chord.done = before + len(parts)
        return found


# -- growing --------------------------------------------------------------------------------------


@MUTANTS.caught_by(
    "test_chord_grows_once_by_an_id",
    "test_chord_waits_for_what_it_has_grown_by",
    "test_growing_begins_the_time_anew",
    "test_ids_of_tasks_may_hold_anything",
    "test_opening_again_keeps_the_progress",
    "test_progress_of_a_chord_opened_again_begins_anew",
    "test_progress_stays_when_the_chord_is_closed",
    "test_thousands_of_ids_are_grown_by",
)
class GrowsNot(Broken):
    def grow_chord(self, group_id, task_ids, *, ttl_s):
        return super().grow_chord(group_id, [], ttl_s=ttl_s)


@MUTANTS.caught_by(
    "test_chord_grows_once_by_an_id",
    "test_ids_of_tasks_may_hold_anything",
    "test_thousands_of_ids_are_grown_by",
)
class GrowsEachTime(Broken):
    grown = 0

    def grow_chord(self, group_id, task_ids, *, ttl_s):
        type(self).grown += 1
        new = [f"{one}/{self.grown}" for one in task_ids]
        return super().grow_chord(group_id, new, ttl_s=ttl_s)


@MUTANTS.caught_by(
    "test_chord_grows_once_by_an_id",
)
class GrowsForEachOfACall(Broken):
    def grow_chord(self, group_id, task_ids, *, ttl_s):
        new = [f"{one}/{task_ids[:at].count(one)}" for at, one in enumerate(task_ids)]
        return super().grow_chord(group_id, new, ttl_s=ttl_s)


@MUTANTS.caught_by(
    "test_chord_grows_once_by_an_id",
)
class GrowsAtOnceAlone(Broken):
    def grow_chord(self, group_id, task_ids, *, ttl_s):
        if self.chord(group_id).grown:
            return False
        return super().grow_chord(group_id, task_ids, ttl_s=ttl_s)


@MUTANTS.caught_by(
    "test_chord_grows_once_by_an_id",
)
class TellsOfGrowthThatCounts(Broken):
    def grow_chord(self, group_id, task_ids, *, ttl_s):
        before = len(self.chord(group_id).grown)
        super().grow_chord(group_id, task_ids, ttl_s=ttl_s)
        return len(self.chord(group_id).grown) > before


@MUTANTS.caught_by(
    "test_chord_that_is_unknown_or_closed_does_not_grow",
    "test_late_part_does_not_revive_a_chord_whose_time_is_over",
)
class GrowsTheUnknown(Broken):
    def grow_chord(self, group_id, task_ids, *, ttl_s):
        if self.chord(group_id).size is None:
            self.open_chord(group_id, 0, ttl_s=ttl_s)
        return super().grow_chord(group_id, task_ids, ttl_s=ttl_s)


@MUTANTS.caught_by(
    "test_chord_that_is_unknown_or_closed_does_not_grow",
)
class GrowsTheClosed(Broken):
    def grow_chord(self, group_id, task_ids, *, ttl_s):
        chord = self.chord(group_id)
        if chord.is_closed:
            chord.grown.update(task_ids)
        return super().grow_chord(group_id, task_ids, ttl_s=ttl_s)


@MUTANTS.caught_by(
    "test_chord_that_is_unknown_or_closed_does_not_grow",
)
class GrowsBeforeItLooks(Broken):
    """Remembers what it has said no to."""

    def grow_chord(self, group_id, task_ids, *, ttl_s):
        chord = self.chord(group_id)
        if chord.size is None:
            chord.grown.update(task_ids)
        return super().grow_chord(group_id, task_ids, ttl_s=ttl_s)


@MUTANTS.caught_by(
    "test_growing_begins_the_time_anew",
)
class KeepsTheFirstExpiryWhenItGrows(Broken):
    def grow_chord(self, group_id, task_ids, *, ttl_s):
        item = self._store.chords._chords._items.get(group_id)
        ends = item and item.expires_at
        found = super().grow_chord(group_id, task_ids, ttl_s=ttl_s)
        if found:
            self._store.chords._chords._items[group_id].expires_at = ends
        return found


@MUTANTS.caught_by(
    "test_thousands_of_ids_are_grown_by",
)
class GrowsByAThousandAtMost(Broken):
    def grow_chord(self, group_id, task_ids, *, ttl_s):
        return super().grow_chord(group_id, task_ids[:1000], ttl_s=ttl_s)


@MUTANTS.caught_by(
    "test_ids_of_tasks_may_hold_anything",
)
class StripsIds(Broken):
    def grow_chord(self, group_id, task_ids, *, ttl_s):
        return super().grow_chord(group_id, [one.strip() for one in task_ids], ttl_s=ttl_s)


@MUTANTS.caught_by(
    "test_ids_of_tasks_may_hold_anything",
)
class JoinsIdAndIndex(Broken):
    """Takes "a:1" without an index for "a" at the first place."""

    def join_chord(self, parts):
        return super().join_chord(
            [
                msgspec.structs.replace(
                    one,
                    task_id=f"{one.task_id}:{one.index}" if one.index is not None else one.task_id,
                    index=None,
                )
                if one.result is None
                else one
                for one in parts
            ]
        )


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.__name__)
def test_fault_is_caught(mutant):
    MUTANTS.check(mutant)


def test_every_test_catches_a_fault():
    assert MUTANTS.uncaught() == set()
