"""Chords stand in Celery's keys, so that its workers and ours finish them together."""

from __future__ import annotations

import json

import pytest
from chord_keys import celerys_keys, key, part, tuple_of

from umbel.ids import new_id
from umbel.outcomes import ChordPart


@pytest.fixture
def group():
    return new_id()


def test_size_is_written_as_celery_does(backend, server, group):
    backend.open_chord(group, 3, ttl_s=3600.0)

    assert celerys_keys(server) == [key(group, ".s")]
    assert server.get(key(group, ".s")) == b"3"
    assert 3590 < server.ttl(key(group, ".s")) <= 3600


def test_parts_are_written_as_celery_does(backend, server, group):
    backend.open_chord(group, 3, ttl_s=None)
    backend.join_chord([part(group, 1), part(group, None, state="FAILURE", result=b'{"a": 1}')])

    joined = server.zrange(key(group, ".j"), 0, -1, withscores=True)
    assert joined == [
        (b'[1, "task-1", "SUCCESS", 5]', 1.0),
        (b'[1, "task-None", "FAILURE", {"a": 1}]', float("inf")),
    ]
    assert server.smembers(key(group, ".d")) == {b"task-1:1", b"task-None:+inf"}
    for suffix in (".s", ".j", ".d"):
        assert 3590 < server.ttl(key(group, suffix)) <= 3600


def test_time_of_the_saved_group_begins_anew_too(backend, server, group):
    server.set(key(group), b'{"result": []}', ex=10)
    backend.join_chord([part(group, 0)])

    assert server.ttl(key(group)) > 3590


def test_body_is_claimed_while_it_is_sent_and_told_to_be_over_then(backend, server, group):
    backend.open_chord(group, 1, ttl_s=3600.0)
    backend.join_chord([part(group, 0)])

    assert 4 < server.ttl(key(group, ".c")) <= 6
    backend.close_chord([group])
    assert celerys_keys(server) == [key(group, ".c")]
    assert server.get(key(group, ".c")) == b"done"
    assert 290 < server.ttl(key(group, ".c")) <= 300


def test_chord_that_a_worker_of_celerys_finishes_is_left_to_it(backend, server, group):
    backend.open_chord(group, 2, ttl_s=3600.0)
    backend.join_chord([part(group, 0)])
    server.set(key(group, ".c"), "0123456789abcdef", ex=6)

    assert backend.join_chord([part(group, 1)]) == {}
    assert server.get(key(group, ".c")) == b"0123456789abcdef"


def test_chord_whose_claim_ran_out_is_finished_by_who_has_a_part_again(backend, server, group):
    backend.open_chord(group, 1, ttl_s=3600.0)
    server.set(key(group, ".c"), "0123456789abcdef", ex=6)
    assert backend.join_chord([part(group, 0)]) == {}
    server.delete(key(group, ".c"))

    assert backend.join_chord([part(group, 0)]).keys() == {group}


def test_opening_leaves_the_claim_of_who_sends_the_body(backend, server, group):
    server.set(key(group, ".c"), "0123456789abcdef", ex=6)
    backend.open_chord(group, 1, ttl_s=3600.0)

    assert server.get(key(group, ".c")) == b"0123456789abcdef"


def test_parts_of_celerys_older_workers_count(backend, server, group):
    backend.open_chord(group, 3, ttl_s=3600.0)
    # Celery up to 5.6 writes no `.d`.
    server.zadd(key(group, ".j"), {json.dumps([1, "théirs", "SUCCESS", [float("nan")]]): 1})
    backend.join_chord([part(group, 0)])
    found = backend.join_chord([part(group, 2)])[group]

    assert [(one.task_id, one.index, one.result) for one in found] == [
        ("task-0", 0, b"5"),
        ("théirs", 1, b"[NaN]"),
        ("task-2", 2, b"5"),
    ]


def test_same_part_of_an_older_worker_and_of_ours_counts_once(backend, server, group):
    backend.open_chord(group, 2, ttl_s=3600.0)
    server.zadd(key(group, ".j"), {json.dumps([1, "task-0", "SUCCESS", 5]): 0})

    assert backend.join_chord([part(group, 0)]) == {}
    assert backend.join_chord([part(group, 1)]).keys() == {group}


def test_parts_that_were_added_to_the_chord_are_waited_for(backend, server, group):
    backend.open_chord(group, 1, ttl_s=3600.0)
    server.incr(key(group, ".t"))

    assert backend.join_chord([part(group, 0)]) == {}
    assert len(backend.join_chord([part(group, 1)])[group]) == 2


@pytest.mark.parametrize("opened_by", ["option", "celery"])
def test_fleet_that_keeps_no_order_is_joined(redis_server, open_backend, server, group, opened_by):
    options = {"result_chord_ordered": False} if opened_by == "option" else {}
    backend = open_backend(redis_server.url, **options)
    backend.open_chord(group, 3, ttl_s=3600.0)
    if opened_by == "celery":
        server.rpush(key(group, ".j"), json.dumps([1, "theirs", "SUCCESS", 7]))
    else:
        backend.join_chord([part(group, 2)])
    backend.join_chord([part(group, 1), part(group, 1)])
    found = backend.join_chord([part(group, 0)])[group]

    assert server.type(key(group, ".j")) == b"list"
    first = "theirs" if opened_by == "celery" else "task-2"
    assert [(one.task_id, one.index) for one in found] == [
        (first, None),
        ("task-1", None),
        ("task-0", None),
    ]


def shaped_by(backend, server, group, saved, *parts):
    """Join parts to a chord whose header was saved; return task, index, state and value of each."""
    server.set(key(group), saved if isinstance(saved, bytes) else json.dumps({"result": saved}))
    backend.open_chord(group, len(parts), ttl_s=3600.0)
    found = backend.join_chord(parts)[group]
    return [(one.task_id, one.index, one.state, json.loads(one.result)) for one in found]


# As Celery's client indexes them: the parts of a nested group begin at its place.
def nested_parts(group, **of_task_1b):
    last = ChordPart(
        **{"group_id": group, "index": 1, "task_id": "task-1b", "state": "SUCCESS", "result": b"7"}
        | of_task_1b
    )
    return [part(group, 0, result=b'{"a": [1]}'), part(group, 1, result=b"6"), last]


def test_group_in_a_saved_header_is_one_part(backend, server, group):
    children = [tuple_of("task-0", parent=tuple_of("before")), tuple_of("task-1")]
    saved = tuple_of(group, [tuple_of("inner", children), tuple_of("task-1b")])

    assert shaped_by(backend, server, group, saved, *nested_parts(group)) == [
        ("inner", 0, "SUCCESS", [{"a": [1]}, 6]),
        ("task-1b", 1, "SUCCESS", 7),
    ]


def test_groups_in_groups_of_a_saved_header_keep_their_nesting(backend, server, group):
    inner = tuple_of("inner", [tuple_of("task-1b"), tuple_of("task-0")])
    outer = tuple_of("outer", [inner, tuple_of("empty", [])])
    saved = tuple_of(group, [tuple_of("task-1"), outer])

    assert shaped_by(backend, server, group, saved, *nested_parts(group)) == [
        ("task-1", 0, "SUCCESS", 6),
        ("outer", 1, "SUCCESS", [[7, {"a": [1]}], []]),
    ]


@pytest.mark.parametrize("state", ["FAILURE", "REVOKED"])
def test_group_in_a_saved_header_fails_as_its_part_did(backend, server, group, state):
    inner = tuple_of("inner", [tuple_of("task-1"), tuple_of("task-1b")])
    saved = tuple_of(group, [tuple_of("task-0"), tuple_of("outer", [inner])])
    parts = nested_parts(group, state=state, result=b'{"exc_type": "ValueError"}')

    assert shaped_by(backend, server, group, saved, *parts) == [
        ("task-0", 0, "SUCCESS", {"a": [1]}),
        ("task-1b", 1, state, {"exc_type": "ValueError"}),
    ]


def test_part_that_was_added_after_the_header_was_saved_stands_behind(backend, server, group):
    saved = tuple_of(group, [tuple_of("inner", [tuple_of("task-1b"), tuple_of("task-1")])])

    assert shaped_by(backend, server, group, saved, *nested_parts(group)) == [
        ("inner", 0, "SUCCESS", [7, 6]),
        ("task-0", None, "SUCCESS", {"a": [1]}),
    ]


def test_saved_header_shapes_a_chord_that_keeps_no_order(redis_server, open_backend, server, group):
    backend = open_backend(redis_server.url, result_chord_ordered=False)
    inner = tuple_of("inner", [tuple_of("task-1"), tuple_of("task-1b")])
    saved = tuple_of(group, [tuple_of("task-0"), inner])
    parts = reversed(nested_parts(group))

    assert shaped_by(backend, server, group, saved, *parts) == [
        ("task-0", 0, "SUCCESS", {"a": [1]}),
        ("inner", 1, "SUCCESS", [6, 7]),
    ]


@pytest.mark.parametrize(
    "saved",
    [
        b"",
        b"\x80\x04pickled",
        b'{"result": null}',
        b'{"result": [["gid", null], [7]]}',
        b'{"result": [["gid", null], [["task-0", null]]]}',
        b'{"result": ' + b'[["gid", null], [' * 100_000,
        json.dumps({"result": tuple_of("gid", [tuple_of("task-0"), tuple_of("lost")])}).encode(),
    ],
    ids=["empty", "pickled", "null", "number", "no-children", "too-deep", "unknown-task"],
)
def test_saved_header_that_is_of_no_use_is_logged_and_passed_over(
    backend, server, group, saved, caplog
):
    tasks = [one[0] for one in shaped_by(backend, server, group, saved, *nested_parts(group))]

    assert tasks == ["task-0", "task-1", "task-1b"]
    [record] = caplog.records
    assert record.levelname == "WARNING"
    assert group in record.getMessage()


def test_key_of_a_saved_header_that_is_no_text_is_logged_and_passed_over(
    backend, server, group, caplog
):
    server.rpush(key(group), "x")
    backend.open_chord(group, 1, ttl_s=3600.0)

    assert len(backend.join_chord([part(group, 0)])[group]) == 1
    assert [record.levelname for record in caplog.records] == ["WARNING"]


def test_part_that_nobody_can_read_has_failed(backend, server, group):
    backend.open_chord(group, 2, ttl_s=3600.0)
    server.zadd(key(group, ".j"), {b"\x80\x04pickled": 1})

    _, unreadable = backend.join_chord([part(group, 0)])[group]

    assert (unreadable.index, unreadable.state) == (1, "FAILURE")
    assert "pickled" in json.loads(unreadable.result)["exc_message"][0]


def test_keys_of_a_chord_are_in_one_slot_of_a_cluster(redis_cluster, open_backend, group):
    backend = open_backend(redis_cluster.url)
    backend.open_chord(group, 2, ttl_s=3600.0)
    backend.join_chord([part(group, 0), part(group, 0, result=None)])
    names = [name.decode() for node in redis_cluster.nodes for name in node.run("KEYS", "*")]

    assert sorted(names) == [f"celery-taskset-meta-{{{group}}}.{suffix}" for suffix in "djnsu"]
