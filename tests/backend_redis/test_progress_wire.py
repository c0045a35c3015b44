"""What stands beside Celery's keys of a chord, and what they and its workers add to it."""

from __future__ import annotations

import json

import pytest
from chord_keys import all_keys, celerys_keys, key, part, tuple_of

from umbel.ids import new_id
from umbel.outcomes import ChordProgress


@pytest.fixture
def group():
    return new_id()


def progress(backend, group):
    return backend.chord_progress([group]).get(group)


def test_what_a_chord_grows_by_stands_where_celery_adds_to_it(backend, server, group):
    backend.open_chord(group, 1, ttl_s=3600.0)
    server.incr(key(group, ".t"))
    for _ in range(2):
        backend.grow_chord(group, ["one", "two"], ttl_s=3600.0)

    assert server.get(key(group, ".t")) == b"3"
    assert 3590 < server.ttl(key(group, ".t")) <= 3600
    assert progress(backend, group) == ChordProgress(size=4, done=0, failed=0)


def test_counted_parts_leave_no_key_of_celerys(backend, server, group):
    backend.open_chord(group, 2, ttl_s=3600.0)
    before = celerys_keys(server)
    backend.join_chord([part(group, 0, result=None), part(group, None, result=None)])

    assert celerys_keys(server) == before == [key(group, ".s")]


def test_keys_of_ours_are_kept_as_long_as_celerys(backend, server, group):
    backend.open_chord(group, 2, ttl_s=10.0)
    backend.join_chord([part(group, 0), part(group, 1, result=None)])
    backend.grow_chord(group, ["more"], ttl_s=3600.0)

    for suffix in "sdjtun":
        assert 3590 < server.ttl(key(group, f".{suffix}")) <= 3600


def test_closed_chord_keeps_its_progress_alone(backend, server, group):
    backend.open_chord(group, 2, ttl_s=3600.0)
    backend.grow_chord(group, ["more"], ttl_s=3600.0)
    backend.join_chord([part(group, 0), part(group, 1, result=None)])
    backend.close_chord([group])

    assert all_keys(server) == [key(group, ".c"), key(group, ".u")]
    assert server.hlen(key(group, ".u")) < 8


@pytest.mark.parametrize("late", [{}, {"result": None}, {"state": "FAILURE", "aborts": True}])
def test_late_part_does_not_revive_a_chord_whose_end_celery_has_forgotten(
    backend, server, group, late
):
    backend.open_chord(group, 1, ttl_s=3600.0)
    backend.join_chord([part(group, 0)])
    backend.close_chord([group])
    server.delete(key(group, ".c"))

    assert backend.join_chord([part(group, 1, **late)]) == {}
    assert backend.grow_chord(group, ["more"], ttl_s=3600.0) is False
    assert all_keys(server) == [key(group, ".u")]
    assert progress(backend, group) == ChordProgress(size=1, done=1, failed=0)


def test_chord_that_celerys_client_opens_again_begins_anew(backend, server, group):
    backend.open_chord(group, 3, ttl_s=3600.0)
    backend.join_chord([part(group, 0)])
    backend.close_chord([group])
    server.delete(key(group, ".c"))
    server.set(key(group, ".s"), 2, ex=3600)
    backend.join_chord([part(group, 0)])

    assert progress(backend, group) == ChordProgress(size=2, done=1, failed=0)
    assert backend.join_chord([part(group, 1)]).keys() == {group}
    backend.close_chord([group])
    assert progress(backend, group) == ChordProgress(size=2, done=2, failed=0)


def test_body_stands_in_a_field_of_ours_until_the_chord_is_closed(backend, server, group):
    backend.open_chord(group, 1, ttl_s=3600.0, body=b"{}")
    assert celerys_keys(server) == [key(group, ".s")]
    assert server.hget(key(group, ".u"), "body") == b"{}"

    backend.join_chord([part(group, 0)])
    backend.close_chord([group])
    assert server.hgetall(key(group, ".u")).keys() == {b"size", b"done", b"over"}


def test_chord_that_celerys_client_opens_again_has_no_body(backend, server, group):
    backend.open_chord(group, 1, ttl_s=3600.0, body=b"{}")
    backend.close_chord([group])
    server.delete(key(group, ".c"))
    server.set(key(group, ".s"), 2, ex=3600)
    backend.join_chord([part(group, 0)])

    assert backend.chord_body(group) is None


def test_parts_of_celerys_workers_are_done(backend, server, group):
    backend.open_chord(group, 3, ttl_s=3600.0)
    server.zadd(key(group, ".j"), {json.dumps([1, "theirs", "SUCCESS", 5]): 1})
    backend.join_chord([part(group, 0)])

    assert progress(backend, group) == ChordProgress(size=3, done=2, failed=0)


def test_chord_that_celerys_workers_ended_is_done(backend, server, group):
    backend.open_chord(group, 3, ttl_s=3600.0)
    backend.join_chord([part(group, 0, state="FAILURE")])
    # As Celery ends a chord, a good one or a failed one.
    server.delete(*(key(group, suffix) for suffix in (".j", ".t", ".s", ".d")))

    assert progress(backend, group) == ChordProgress(size=3, done=3, failed=1)


def test_chord_that_celerys_worker_ends_is_not_aborted(backend, server, group):
    backend.open_chord(group, 3, ttl_s=3600.0)
    server.set(key(group, ".c"), "0123456789abcdef", ex=6)

    assert backend.join_chord([part(group, 0, state="FAILURE", aborts=True)]) == {}
    assert server.get(key(group, ".c")) == b"0123456789abcdef"


def test_abort_claims_the_body(backend, server, group):
    backend.open_chord(group, 3, ttl_s=3600.0)
    backend.join_chord([part(group, 0, state="FAILURE", aborts=True)])

    assert 4 < server.ttl(key(group, ".c")) <= 6


def test_header_of_an_aborted_chord_is_not_shaped(backend, group, caplog):
    saved = tuple_of(group, [tuple_of("inner", [tuple_of("task-0"), tuple_of("task-1")])])
    backend.save_group(group, json.dumps({"result": saved}).encode(), ttl_s=3600.0)
    backend.open_chord(group, 2, ttl_s=3600.0)
    failed = part(group, 1, state="FAILURE", aborts=True)

    assert [one.task_id for one in backend.join_chord([failed])[group]] == ["task-1"]
    assert caplog.records == []


def test_saved_group_stands_where_celery_looks_for_it(backend, server, group):
    document = json.dumps({"result": tuple_of(group, [tuple_of("task-0")])}).encode()
    backend.save_group(group, document, ttl_s=3600.0)

    assert server.get(key(group)) == document
    assert 3590 < server.ttl(key(group)) <= 3600
    backend.save_group(group, document, ttl_s=None)
    assert server.ttl(key(group)) == -1
    server.set(key(group), b"by Celery")
    assert backend.load_group(group) == b"by Celery"
    backend.delete_group(group)
    assert all_keys(server) == []


def test_saved_header_of_ours_shapes_the_parts(backend, group):
    inner = tuple_of("inner", [tuple_of("task-0"), tuple_of("task-1")])
    backend.save_group(group, json.dumps({"result": tuple_of(group, [inner])}).encode(), ttl_s=60.0)
    backend.open_chord(group, 2, ttl_s=3600.0)
    found = backend.join_chord([part(group, 0), part(group, 1, result=b"6")])[group]

    assert [(one.task_id, json.loads(one.result)) for one in found] == [("inner", [5, 6])]


def test_parts_of_chords_and_of_groups_are_joined_in_one_round_trip(backend, server, group):
    others = [new_id() for _ in range(3)]
    for each in (group, *others):
        backend.open_chord(each, 9, ttl_s=3600.0)
    backend.join_chord([part(group, 0)])
    batch = [part(each, place, result=None) for each in others for place in range(3)]
    before = server.info("stats")["total_reads_processed"]
    backend.join_chord([*batch, *(part(group, place) for place in range(3))])

    # Of these, one tells of the statistics.
    assert server.info("stats")["total_reads_processed"] - before == 2
    assert progress(backend, group) == ChordProgress(size=9, done=3, failed=0)


def test_closed_chord_is_known_for_a_day_at_most(backend, server, group):
    other = new_id()
    backend.open_chord(group, 2, ttl_s=30 * 86_400.0)
    backend.open_chord(other, 2, ttl_s=3600.0)
    backend.close_chord([group, other])

    assert 86_390 < server.ttl(key(group, ".u")) <= 86_400
    assert 3590 < server.ttl(key(other, ".u")) <= 3600
