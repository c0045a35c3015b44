from __future__ import annotations

import threading

import pytest

from umbel.builtin.sqlite.backend import SqliteBackend
from umbel.errors import BackendError
from umbel.outcomes import ChordPart
from umbel_testing.samples import result


def test_whole_result_comes_back(backend):
    stored = result("a", state="FAILURE", body=b"\x00\xff", token=3, retries=2, ttl_s=60.0)
    backend.store([stored])

    assert backend.load(["a"]) == {"a": stored}


@pytest.mark.parametrize("count", [1, 2, 4, 5, 255, 256, 257, 1000])
def test_any_number_is_loaded_at_once(backend, count):
    names = [f"task {n}" for n in range(count)]
    backend.store([result(name) for name in names])

    assert list(backend.load([*names, "unknown"])) and set(backend.load(names)) == set(names)


def test_last_of_many_that_are_waited_for_is_seen(backend):
    names = [f"task {n}" for n in range(1000)]
    backend.store([result(names[-1])])

    assert list(backend.wait(names, timeout_s=0)) == names[-1:]


def test_wait_for_nothing_returns_at_once(backend):
    assert backend.wait([], timeout_s=60) == {}


def test_refusal_in_a_batch_stores_the_rest_once(backend, query):
    backend.store([result("a", token=5)])
    refused = backend.store([result("b"), result("a", token=4), result("b", token=2), result("c")])

    assert refused == ["a"]
    assert backend.load(["b"])["b"].token == 2
    assert query("SELECT count(*) FROM results") == [(3,)]


def test_storing_drops_what_is_expired_little_by_little(backend, clock, query):
    backend.store([result(f"old {n}", ttl_s=10.0) for n in range(10)])
    clock.advance(11)
    counts = []
    for n in range(6):
        backend.store([result(f"new {n}")])
        counts.append(query("SELECT count(*) FROM results WHERE expires_at IS NOT NULL")[0][0])

    assert counts == [8, 6, 4, 2, 0, 0]


def test_damaged_rows_are_as_unknown_and_harm_no_neighbour(backend, query):
    backend.store([result(name) for name in ("a", "b", "c", "d", "e", "good")])
    query("UPDATE results SET body = 'text' WHERE task_id = 'a'")
    query("UPDATE results SET body = NULL WHERE task_id = 'b'")
    query("UPDATE results SET state = 5.5 WHERE task_id = 'c'")
    query("UPDATE results SET retries = 'x' WHERE task_id = 'd'")
    query("UPDATE results SET expires_at = 'x' WHERE task_id = 'e'")

    found = backend.load(["a", "b", "c", "d", "e", "good"])
    assert set(found) - {"c"} == {"good"}


def test_many_threads_store_and_wait_on_one_handle(open_handle):
    backend = open_handle(SqliteBackend)
    found = []
    names = [f"task {n}" for n in range(20)]
    threads = [
        threading.Thread(target=lambda name=name: found.extend(backend.wait([name], timeout_s=30)))
        for name in names
    ]
    for thread in threads:
        thread.start()
    for name in names:
        backend.store([result(name)])
    for thread in threads:
        thread.join()

    assert sorted(found) == sorted(names)


def test_id_that_is_no_text_of_utf_8_is_refused(backend):
    with pytest.raises(BackendError, match="can't be stored"):
        backend.store([result("\ud800")])


def test_closed_handle_says_so(backend):
    backend.close()

    with pytest.raises(BackendError, match="was closed"):
        backend.load(["a"])


def chord_part(group_id, index, result=b"5"):
    return ChordPart(
        group_id=group_id, index=index, task_id="a", state="SUCCESS", result=result, ttl_s=60.0
    )


def counted(group_id, index):
    return chord_part(group_id, index, result=None)


def test_chord_that_is_over_leaves_a_row(backend, query):
    backend.open_chord("group", 2, ttl_s=60.0, body=b"{}")
    backend.grow_chord("group", ["more"], ttl_s=60.0)
    backend.join_chord([counted("group", 0), chord_part("group", 1)])
    backend.close_chord(["group"])

    assert query("SELECT count(*) FROM chords") == [(1,)]
    assert query("SELECT count(*) FROM chord_parts") == [(0,)]
    assert query("SELECT count(*) FROM chord_told") == [(0,)]
    assert query("SELECT count(*) FROM chord_bodies") == [(0,)]


def test_expired_chords_are_dropped_as_others_come(backend, clock, query):
    for each in ("one", "two"):
        backend.open_chord(each, 3, ttl_s=60.0, body=b"{}")
        backend.grow_chord(each, ["more"], ttl_s=60.0)
        backend.join_chord([counted(each, 0), chord_part(each, 1)])
    backend.close_chord(["two"])
    clock.advance(61)
    backend.open_chord("new", 1, ttl_s=60.0)

    assert query("SELECT group_id FROM chords") == [("new",)]
    assert query("SELECT count(*) FROM chord_parts") == [(0,)]
    assert query("SELECT count(*) FROM chord_told") == [(0,)]
    assert query("SELECT count(*) FROM chord_bodies") == [(0,)]


@pytest.mark.parametrize("after_s", [299, 3000, 4000])
def test_chord_that_is_over_stays_over(backend, clock, after_s):
    backend.open_chord("group", 1, ttl_s=3600.0)
    backend.join_chord([chord_part("group", 0)])
    backend.close_chord(["group"])
    clock.advance(after_s)

    assert backend.join_chord([chord_part("group", 1)]) == {}
    assert backend.grow_chord("group", ["more"], ttl_s=60.0) is False


def test_a_chord_that_is_over_is_known_for_a_day(backend, clock):
    for group in ("over", "open"):
        backend.open_chord(group, 2, ttl_s=30 * 86_400.0)
    backend.close_chord(["over"])
    clock.advance("23h")
    assert set(backend.chord_progress(["over", "open"])) == {"over", "open"}
    clock.advance("2h")

    assert set(backend.chord_progress(["over", "open"])) == {"open"}
