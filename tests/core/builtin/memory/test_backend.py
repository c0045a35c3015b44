"""What the memory backend does beyond the contract of all backends (tests/contracts)."""

from __future__ import annotations

from umbel.builtin.memory.backend import MemoryBackend
from umbel.builtin.memory.space import Space
from umbel.clock import SYSTEM_CLOCK
from umbel.outcomes import ChordPart, ChordProgress, StoredResult
from umbel_testing.clock import FakeClock
from umbel_testing.kit import Running

PATIENCE_S = 10.0


def test_expired_results_are_dropped_as_others_are_stored():
    clock, space = FakeClock(), Space()
    backend = MemoryBackend(space, clock)
    backend.store(
        [StoredResult(task_id=str(n), state="SUCCESS", body=b"", ttl_s=60.0) for n in range(100)]
    )
    clock.advance("2m")
    backend.store([StoredResult(task_id="new", state="SUCCESS", body=b"")])

    assert len(space.results._results) == 1


def test_moving_the_clock_past_its_bound_ends_a_wait():
    clock = FakeClock()
    backend = MemoryBackend(Space(), clock)
    running = Running(lambda: backend.wait(["1"], timeout_s=3600.0))
    assert running.goes_on()
    clock.advance("1h")

    assert running.result(PATIENCE_S) == {}


def test_closing_ends_a_wait():
    backend = MemoryBackend(Space(), SYSTEM_CLOCK)
    running = Running(lambda: backend.wait(["1"], timeout_s=1e6))
    assert running.goes_on()
    backend.close()

    assert running.result(PATIENCE_S) == {}


def chord_part(index, result=b"5"):
    return ChordPart(
        group_id="group", index=index, task_id="a", state="SUCCESS", result=result, ttl_s=60.0
    )


def test_chord_that_is_over_keeps_no_part():
    space = Space()
    backend = MemoryBackend(space, FakeClock())
    backend.open_chord("group", 2, ttl_s=60.0, body=b"{}")
    backend.join_chord([chord_part(0), chord_part(1, None)])
    backend.close_chord(["group"])
    chord = space.results.chords._chord("group", 0.0)

    assert (chord.parts, chord.counted, chord.body) == ({}, set(), None)


def test_chord_that_nobody_opened_is_known_to_be_over_for_a_while():
    clock, space = FakeClock(), Space()
    backend = MemoryBackend(space, clock)
    backend.close_chord(["group"])
    clock.advance(299)
    backend.join_chord([chord_part(0)])
    backend.open_chord("group", 1, ttl_s=60.0)

    assert backend.chord_progress(["group"]) == {"group": ChordProgress(1, 0, 0)}
    clock.advance(61)
    backend.open_chord("other", 1, ttl_s=60.0)
    assert len(space.results.chords._chords) == 1


def test_a_chord_that_is_over_is_known_for_a_day():
    clock, space = FakeClock(), Space()
    backend = MemoryBackend(space, clock)
    for group in ("over", "open"):
        backend.open_chord(group, 2, ttl_s=30 * 86_400.0)
    backend.close_chord(["over"])
    clock.advance("23h")
    assert set(backend.chord_progress(["over", "open"])) == {"over", "open"}
    clock.advance("2h")

    assert set(backend.chord_progress(["over", "open"])) == {"open"}
