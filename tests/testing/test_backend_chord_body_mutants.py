"""Each test of what is kept with chords catches a fault planted in a sound backend."""

from __future__ import annotations

from math import inf
from typing import ClassVar

import pytest

from umbel.builtin.memory.backend import MemoryBackend
from umbel.builtin.memory.space import Space
from umbel_testing import BackendSuite
from umbel_testing.backend_chord_body_suite import BackendChordBodySuite
from umbel_testing.mutants import Mutants


def make_backend(kind, clock):
    space = Space()
    return lambda: kind(space, clock)


MUTANTS = Mutants(BackendSuite, BackendChordBodySuite, make_backend)


class Broken(MemoryBackend):
    """A memory backend whose bodies are easy to break."""

    def chord(self, group_id):
        return self._store.chords._chord(group_id, self._clock.monotonic())


@MUTANTS.caught_by(
    "test_body_is_gone_when_the_chord_is_closed",
    "test_body_is_kept_as_it_was_for_all_handles",
    "test_body_is_no_longer_known_when_the_time_of_its_chord_is_over",
    "test_body_may_be_told_by_opening_again",
    "test_closed_chord_opened_again_has_the_body_of_that_opening",
    "test_opening_again_keeps_the_body",
)
class KeepsNoBody(Broken):
    def open_chord(self, group_id, size, *, ttl_s, body=None):
        super().open_chord(group_id, size, ttl_s=ttl_s)


@MUTANTS.caught_by(
    "test_body_is_gone_when_the_chord_is_closed",
    "test_body_is_kept_as_it_was_for_all_handles",
    "test_body_is_no_longer_known_when_the_time_of_its_chord_is_over",
    "test_closed_chord_opened_again_has_the_body_of_that_opening",
    "test_opening_again_keeps_the_body",
)
class KeepsText(Broken):
    def open_chord(self, group_id, size, *, ttl_s, body=None):
        text = body and body.decode("utf-8", "replace").encode()
        super().open_chord(group_id, size, ttl_s=ttl_s, body=text)


@MUTANTS.caught_by(
    "test_body_is_kept_as_it_was_for_all_handles",
)
class KeepsItByHandle(Broken):
    def __init__(self, space, clock):
        super().__init__(space, clock)
        self.own = set()

    def open_chord(self, group_id, size, *, ttl_s, body=None):
        super().open_chord(group_id, size, ttl_s=ttl_s, body=body)
        self.own.add(group_id)

    def chord_body(self, group_id):
        return super().chord_body(group_id) if group_id in self.own else None


@MUTANTS.caught_by(
    "test_body_is_kept_as_it_was_for_all_handles",
    "test_body_is_no_longer_known_when_the_time_of_its_chord_is_over",
)
class DropsItWithThePart(Broken):
    def join_chord(self, parts):
        for each in parts:
            self.chord(each.group_id).body = None
        return super().join_chord(parts)


@MUTANTS.caught_by(
    "test_body_of_what_has_none_is_unknown",
    "test_closed_chord_opened_again_has_the_body_of_that_opening",
    "test_body_is_gone_when_the_chord_is_closed",
    "test_body_is_no_longer_known_when_the_time_of_its_chord_is_over",
)
class HasAnEmptyBody(Broken):
    def chord_body(self, group_id):
        return super().chord_body(group_id) or b""


@MUTANTS.caught_by(
    "test_body_is_gone_when_the_chord_is_closed",
    "test_closed_chord_opened_again_has_the_body_of_that_opening",
)
class KeepsItForEver(Broken):
    kept: ClassVar[dict] = {}

    def open_chord(self, group_id, size, *, ttl_s, body=None):
        super().open_chord(group_id, size, ttl_s=ttl_s, body=body)
        if body is not None:
            self.kept[group_id] = body

    def chord_body(self, group_id):
        is_known = self.chord(group_id).size is not None
        return self.kept.get(group_id) if is_known else None


@MUTANTS.caught_by(
    "test_opening_again_keeps_the_body",
)
class OpeningDropsIt(Broken):
    def open_chord(self, group_id, size, *, ttl_s, body=None):
        self.chord(group_id).body = None
        super().open_chord(group_id, size, ttl_s=ttl_s, body=body)


@MUTANTS.caught_by(
    "test_body_may_be_told_by_opening_again",
)
class KeepsTheFirst(Broken):
    def open_chord(self, group_id, size, *, ttl_s, body=None):
        known = self.chord(group_id)
        # What it was opened with, be it a body or none.
        if known.size is not None and not known.is_closed:
            body = known.body
        super().open_chord(group_id, size, ttl_s=ttl_s, body=body)


@MUTANTS.caught_by(
    "test_body_is_no_longer_known_when_the_time_of_its_chord_is_over",
)
class OutlivesItsChord(Broken):
    kept: ClassVar[dict] = {}

    def open_chord(self, group_id, size, *, ttl_s, body=None):
        super().open_chord(group_id, size, ttl_s=ttl_s, body=body)
        self.kept[group_id] = self.chord(group_id).body

    def close_chord(self, group_ids):
        super().close_chord(group_ids)
        self.kept.update(dict.fromkeys(group_ids))

    def chord_body(self, group_id):
        return self.kept.get(group_id)


@MUTANTS.caught_by(
    "test_body_is_no_longer_known_when_the_time_of_its_chord_is_over",
)
class EndsWithItsFirstTime(Broken):
    ends: ClassVar[dict] = {}

    def open_chord(self, group_id, size, *, ttl_s, body=None):
        super().open_chord(group_id, size, ttl_s=ttl_s, body=body)
        self.ends[group_id] = self._clock.monotonic() + (inf if ttl_s is None else ttl_s)

    def chord_body(self, group_id):
        is_over = self._clock.monotonic() >= self.ends.get(group_id, 0)
        return None if is_over else super().chord_body(group_id)


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.__name__)
def test_fault_is_caught(mutant):
    MUTANTS.check(mutant)


def test_every_test_catches_a_fault():
    assert MUTANTS.uncaught() == set()
