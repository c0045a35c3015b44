"""Result tuples: a result as Celery writes it, and made a result again."""

from __future__ import annotations

import json

import pytest

from umbel.errors import DecodeError
from umbel.results import AsyncResult, EagerResult, GroupResult, result_from_tuple


def chain_of(source, count: int) -> AsyncResult[object]:
    result = None
    for number in range(count):
        result = AsyncResult(f"s{number}", source, parent=result)
    return result


def test_group_with_a_parent_has_celerys_form(source):
    group = GroupResult(
        "g", [AsyncResult("a", source), AsyncResult("b", source)], AsyncResult("p", source)
    )

    assert group.as_tuple() == (
        ("g", (("p", None), None)),
        [(("a", None), None), (("b", None), None)],
    )


@pytest.mark.parametrize(
    "raw",
    [
        [["a", None], None],
        [["a", [["p", [["q", None], None]], None]], None],
        [["g", None], []],
        [["g", None], [[["a", None], None], [["b", [["p", None], None]], None]]],
        [["t", [["g", [["p", None], None]], [[["a", None], None]]]], None],
        [["g", None], [[["h", None], [[["i", None], [[["a", None], None]]]]]]],
    ],
    ids=["task", "chain", "empty", "group", "chord", "groups"],
)
def test_every_nesting_round_trips(source, raw):
    result = result_from_tuple(raw, source)

    assert json.loads(json.dumps(result.as_tuple())) == raw


def test_short_forms_are_read(source):
    assert result_from_tuple("a", source) == "a"
    assert result_from_tuple(["a", None], source) == "a"
    group = result_from_tuple(("g", ["a", ("b", None)]), source)
    assert (group.id, group.results, group.parent) == ("g", ["a", "b"], None)


def test_result_is_returned_as_it_is(source):
    result = AsyncResult("a", source)

    assert result_from_tuple(result) is result
    assert result_from_tuple([["g", None], [result]], source)[0] is result


def test_member_that_is_shared_is_shared_again(source):
    parent = [["p", None], None]
    group = result_from_tuple([["g", None], [[["a", parent], None], [["b", parent], None]]], source)

    assert group[0].parent is group[1].parent


def test_results_are_made_as_the_caller_says(source):
    result = result_from_tuple(
        [["t", [["p", None], None]], None],
        source,
        make=lambda task_id: AsyncResult(task_id, source, name=f"proj.{task_id}"),
    )

    assert (result.name, result.parent.name) == ("proj.t", "proj.p")


@pytest.mark.parametrize(
    "raw", [None, 7, "", [], ["a"], [["a", None]], [["a"], None], {"id": "a"}, [["a", None], "b"]]
)
def test_what_is_no_result_tuple_is_an_error(source, raw):
    with pytest.raises(DecodeError, match="must be a result tuple or an id, not"):
        result_from_tuple(raw, source)


def test_cfp_07_parents_are_walked_back_from_the_last_step_to_the_first(source):
    last = result_from_tuple(
        [["body", [["header", [["first", None], None]], [[["a", None], None]]]], None], source
    )

    assert last.id == "body"
    assert isinstance(last.parent, GroupResult)
    assert (last.parent.id, last.parent.results) == ("header", ["a"])
    assert (last.parent.parent.id, last.parent.parent.parent) == ("first", None)


def test_list_has_the_ids_of_all_that_came_before(source):
    header = GroupResult(
        "g", [AsyncResult("a", source), AsyncResult("b", source)], AsyncResult("p", source)
    )
    body = AsyncResult("t", source, parent=header)

    assert body.as_list() == ["t", "a", "b", "p"]
    assert header.as_list() == ["a", "b", "p"]


def test_eager_result_has_a_tuple(source):
    result = EagerResult("t", 1, "SUCCESS", source=source)

    assert result.as_tuple() == (("t", None), None)


def test_ten_thousand_parents_are_no_recursion(source):
    last = chain_of(source, 10_000)

    raw = last.as_tuple()
    again = result_from_tuple(raw, source)

    assert len(again.as_list()) == 10_000
    assert again.as_list() == last.as_list()


def test_ten_thousand_parents_are_forgotten(source, store):
    ids = [f"s{number}" for number in range(10_000)]
    store.many(ids)

    chain_of(source, 10_000).forget()

    assert source.load(ids) == {}


def test_end_of_ten_thousand_steps_is_waited_for(source, store):
    last = chain_of(source, 10_000)
    store("s9999", "end")

    assert last.get(timeout=30) == "end"
