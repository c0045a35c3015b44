"""Eager runs count the parts of chords as backends do."""

from __future__ import annotations

import pytest

from umbel.outcomes import ChordPart
from umbel.worker.eager_chords import EagerChords


@pytest.fixture
def chords():
    found = EagerChords()
    found.open_chord("group", 2, ttl_s=None)
    return found


def part(index, *, result=b"5", aborts=False):
    return ChordPart(
        group_id="group",
        index=index,
        task_id=f"task-{index}",
        state="SUCCESS",
        result=result,
        aborts=aborts,
    )


def test_chord_is_complete_with_its_last_part(chords):
    assert chords.join_chord([part(1), part(1)]) == {}
    assert chords.join_chord([part(0)]) == {"group": [part(0), part(1)]}


def test_part_that_aborts_brings_what_there_is(chords):
    assert chords.join_chord([part(0, aborts=True)]) == {"group": [part(0, aborts=True)]}
    chords.close_chord(["group"])
    assert chords.join_chord([part(0, aborts=True)]) == {}


def test_part_without_a_result_makes_no_chord_complete(chords):
    assert chords.join_chord([part(0, result=None, aborts=True), part(1)]) == {}
    assert chords.join_chord([part(2, result=None)]) == {}


def test_chord_waits_for_what_it_has_grown_by(chords):
    for _ in range(2):
        assert chords.grow_chord("group", ["more"], ttl_s=None) is True

    assert chords.join_chord([part(0), part(1)]) == {}
    assert chords.join_chord([part(2)]) == {"group": [part(0), part(1), part(2)]}


def test_body_is_kept_until_the_chord_is_closed(chords):
    chords.open_chord("group", 2, ttl_s=None, body=b"{}")
    chords.open_chord("group", 2, ttl_s=None)

    assert (chords.chord_body("group"), chords.chord_body("unknown")) == (b"{}", None)
    chords.close_chord(["group"])
    assert chords.chord_body("group") is None


def test_chord_that_is_unknown_or_closed_does_not_grow(chords):
    chords.close_chord(["group"])

    assert chords.grow_chord("group", ["more"], ttl_s=None) is False
    assert chords.grow_chord("unknown", ["more"], ttl_s=None) is False
    assert chords.join_chord([part(0), part(1)]) == {}
