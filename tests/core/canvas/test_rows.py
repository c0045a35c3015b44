"""Rows of the feature list that are about what comes of a workflow, each by a test of its name."""

from __future__ import annotations

import json
import logging

import pytest

from umbel.builtin.memory.backend import MemoryBackend
from umbel.builtin.memory.space import Space
from umbel.canvas import chain, chord, group
from umbel.clock import SYSTEM_CLOCK
from umbel.errors import ChordError
from umbel.outcomes import ChordPart
from umbel.results import GroupResult

PATIENCE_S = 30.0


@pytest.fixture
def tasks(flows):
    """The tasks of `flows` by name, while a worker runs."""
    with flows.worker():
        yield flows.tasks


@pytest.fixture
def counting():
    """A backend that counts parts."""
    return MemoryBackend(Space(), SYSTEM_CLOCK)


def part(index, value, *, group_id="g"):
    return ChordPart(
        group_id=group_id,
        index=index,
        task_id=f"task {index}",
        state="SUCCESS",
        result=json.dumps(value).encode(),
    )


def values(joined):
    return {key: [json.loads(each.result) for each in parts] for key, parts in joined.items()}


def test_can_07_chain_has_the_id_of_its_end_and_its_parents_before_it(tasks):
    add = tasks["add"]
    frozen = chain(add.s(1), chain(add.s(2), add.s(3))).freeze()
    result = frozen.apply_async()

    assert result.id == frozen.id == frozen.tasks[-1].id
    assert result.get(timeout=PATIENCE_S) == 6
    assert [result.parent.get(), result.parent.parent.get()] == [3, 1]
    assert result.parent.parent.parent is None


def test_can_12_part_is_counted_once_and_kept_until_the_body_is_sent(counting):
    counting.open_chord("g", 2, ttl_s=60.0)
    for _ in range(3):
        assert values(counting.join_chord([part(0, "a")])) == {}

    assert values(counting.join_chord([part(1, "b")])) == {"g": ["a", "b"]}
    assert values(counting.join_chord([part(1, "b")])) == {"g": ["a", "b"]}
    counting.close_chord(["g"])
    assert values(counting.join_chord([part(1, "b")])) == {}


def test_can_15_results_are_in_the_order_of_the_header(tasks):
    add = tasks["add"]
    header = [add.s(1).set(countdown=0.05), add.s(2), add.s(3)]

    assert chord(header)(tasks["same"].s()).get(timeout=PATIENCE_S) == [[1, 2, 3]]


def test_can_16_failed_part_means_what_the_chord_says(tasks, caplog):
    caplog.set_level(logging.CRITICAL, "umbel")
    header = [tasks["add"].s(1), tasks["fail"].s(), tasks["add"].s(3)]
    results = {
        policy: chord(header, tasks["same"].s(), on_failure=policy).apply_async()
        for policy in ("abort", "collect", "ignore")
    }

    with pytest.raises(ChordError, match=r"Dependency .* raised ValueError\('bad'\)"):
        results["abort"].get(timeout=PATIENCE_S)
    [collected] = results["collect"].get(timeout=PATIENCE_S)
    assert [collected[0], collected[1]["exc_type"], collected[2]] == [1, "ValueError", 3]
    assert results["ignore"].get(timeout=PATIENCE_S) == [[1, 3]]
    assert {each.parent.results[1].state for each in results.values()} == {"FAILURE"}


@pytest.mark.parametrize(
    "name, args, kwargs, value",
    [
        ("celery.accumulate", (1, 2), {}, [1, 2]),
        ("celery.accumulate", ([1, 2],), {"index": 0}, [1, 2]),
        ("celery.map", (), {"task": {"task": "total"}, "it": [[1, 2], [3]]}, [3, 3]),
        ("celery.starmap", (), {"task": {"task": "add"}, "it": [[1, 2], [3, 4]]}, [3, 7]),
        ("celery.backend_cleanup", (), {}, None),
    ],
)
def test_can_19_celerys_own_tasks_are_there(flows, tasks, name, args, kwargs, value):
    assert flows.send_task(name, args, kwargs).get(timeout=PATIENCE_S) == value


def test_can_25_all_that_descends_from_a_task_can_be_walked(tasks):
    add = tasks["add"]
    result = add.s(1).link(add.s(2).link(add.s(3))).apply_async()

    assert [value for _, value in result.collect(timeout=PATIENCE_S)] == [1, 3, 6]
    assert result.get_leaf() == 6
    assert len(list(result.iterdeps())) == 3
    assert result.graph.to_dot().count("->") == 2


def test_can_26_all_primitives_run_here(flows):
    add, total = flows.tasks["add"], flows.tasks["total"]

    assert chain(add.s(1), add.s(2)).apply().get() == 3
    assert group(add.s(1), add.s(2)).apply().get() == [1, 2]
    assert chord([add.s(1), add.s(2)], total.s()).apply().get() == 3
    assert add.starmap([(1, 2), (3, 4)]).apply().get() == [3, 7]


def test_can_27_group_is_saved_and_restored(flows, tasks):
    add = tasks["add"]
    result = group(add.s(1), chain(add.s(2), add.s(3)))()
    result.save()
    restored = flows.GroupResult.restore(result.id)

    assert isinstance(restored, GroupResult)
    assert restored.get(timeout=PATIENCE_S) == [1, 5]
    assert restored.as_tuple() == result.as_tuple()
    result.delete()
    assert flows.GroupResult.restore(result.id) is None


def test_cfp_14_second_report_of_a_part_is_passed_over(counting):
    counting.open_chord("g", 2, ttl_s=60.0)
    counting.join_chord([part(0, "first")])

    assert values(counting.join_chord([part(0, "second")])) == {}
    assert values(counting.join_chord([part(1, "b")])) == {"g": ["first", "b"]}


def test_cfp_15_results_of_a_nested_header_are_those_of_its_parts(tasks):
    add, total, same = tasks["add"], tasks["total"], tasks["same"]
    header = [
        chain(add.s(1), add.s(2)),
        chord([add.s(3), add.s(4)], total.s()),
        chain(add.s(5), group(add.s(1), add.s(2))),
    ]

    assert chord(header)(same.s()).get(timeout=PATIENCE_S) == [[3, 7, [6, 7]]]


def test_cfp_16_parts_beyond_the_size_and_of_unknown_chords_do_no_harm(counting):
    assert values(counting.join_chord([part(0, "a", group_id="unknown")])) == {}
    counting.open_chord("g", 1, ttl_s=60.0)

    found = counting.join_chord([part(0, "a"), part(1, "b")])

    assert values(found) == {"g": ["a", "b"]}


def test_cfp_17_result_is_there_before_what_follows_runs(flows):
    states = []

    @flows.task
    def first():
        return "value"

    @flows.task
    def second(_value, task_id):
        states.append(flows.AsyncResult(task_id).state)

    with flows.worker():
        first.s().set(task_id="first").link(second.s("first").set(task_id="second")).delay()
        flows.AsyncResult("second").get(timeout=PATIENCE_S)

    assert states == ["SUCCESS"]


def test_cfp_18_success_that_comes_again_calls_nobody_again(flows, calls):
    add, told = flows.tasks["add"], flows.tasks["told"]
    callback = told.s().set(task_id="callback")
    message = flows.message_for(add.s(1).set(task_id="once").link(callback))
    with flows.worker():
        flows.broker.send([message])
        flows.AsyncResult("callback").get(timeout=PATIENCE_S)
        flows.broker.send([message])
        for number in (2, 3):  # they come after that
            add.s(number).apply_async().get(timeout=PATIENCE_S)

    assert [call for call in calls if call[0] == "told"] == [("told", (1,))]


def test_cfp_21_eager_chord_is_counted_and_its_errbacks_are_called(flows, calls):
    add, fail, total = (flows.tasks[name] for name in ("add", "fail", "total"))
    body = total.s().on_error(flows.tasks["told"].s())
    result = chord([add.s(1), fail.s()], body).apply()

    with pytest.raises(ChordError, match="bad"):
        result.get()
    assert [name for name, _ in calls] == ["add", "fail", "told"]
