"""What is no result, id, app or time is refused where it is given, and named."""

from __future__ import annotations

import asyncio

import pytest

from umbel import GroupResult, ResultSet, Signature, group, result_from_tuple
from umbel.errors import WrongTypeError
from umbel.results import AsyncResult

NO_RESULTS = [5, None, [5], object(), 1.5, {}]


@pytest.fixture
def result(source):
    return AsyncResult("a", source)


@pytest.mark.parametrize("wrong", NO_RESULTS)
def test_what_is_no_result_is_refused(result, wrong):
    places = [
        lambda: ResultSet([wrong]),
        lambda: GroupResult("g", [result, wrong]),
        lambda: ResultSet([]).add(wrong),
        lambda: ResultSet([]).update([wrong]),
    ]
    for place in places:
        with pytest.raises(WrongTypeError, match=r"a result is wanted, as task.delay\(\) returns"):
            place()


def test_id_or_call_in_the_place_of_a_result_is_told_what_to_do():
    with pytest.raises(WrongTypeError, match=r"; app.AsyncResult\('abc'\) makes one of an id"):
        ResultSet(["abc"])
    for call in (Signature("a"), group(Signature("a"))):
        with pytest.raises(WrongTypeError, match=r"wasn't sent yet: give what its apply_async"):
            ResultSet([call])


@pytest.mark.parametrize("wrong", [5, "abc", None, {"a": 1}])
def test_results_must_be_several(result, wrong):
    for make in (ResultSet, lambda given: GroupResult("g", given), ResultSet([result]).update):
        with pytest.raises(WrongTypeError, match="a list of results is wanted, as"):
            make(wrong)
    with pytest.raises(WrongTypeError, match="a list of results is wanted"):
        ResultSet(result)


def test_set_may_be_made_of_what_yields_results(result):
    assert ResultSet(each for each in [result]).results == [result]
    assert ResultSet(GroupResult("g", [result])).results == [result]
    assert ResultSet([GroupResult("g", [result]), result]).as_list() == ["a"]


@pytest.mark.parametrize("wrong", [5, None, "", []])
def test_group_has_an_id(source, wrong):
    with pytest.raises(WrongTypeError, match="the id of a group must be text, not"):
        GroupResult(wrong)
    with pytest.raises(WrongTypeError, match="the id of a group must be text, not"):
        GroupResult.restore(wrong, app=source)
    with pytest.raises(WrongTypeError, match="a result needs the id of a task, not"):
        AsyncResult(wrong, source)


def test_parent_of_a_group_is_a_result(result):
    with pytest.raises(WrongTypeError, match="a result is wanted"):
        GroupResult("g", [], parent=5)
    assert GroupResult("g", [], parent=result).parent is result


def test_results_are_read_by_an_app(source):
    for read in (lambda: result_from_tuple("x", 5), lambda: GroupResult.restore("g", app="redis")):
        with pytest.raises(WrongTypeError, match="an app is wanted, or the results of one, not"):
            read()
    with pytest.raises(WrongTypeError, match=r"a result backend is wanted, as app\.backend, not 5"):
        GroupResult.restore("g", 5, source)


@pytest.mark.parametrize("wrong", ["soon", [], float("nan"), object()])
def test_time_to_wait_is_seconds(result, wrong):
    for name in ("timeout", "interval"):
        for each in (result, ResultSet([result])):
            with pytest.raises(WrongTypeError, match=f"{name} must be seconds or None, not"):
                each.get(**{"timeout": 0.01, name: wrong})
    for each in (result, ResultSet([result])):
        with pytest.raises(WrongTypeError, match="timeout must be seconds or None, not"):
            asyncio.run(each.aget(timeout=wrong))


@pytest.mark.parametrize("wrong", [5, None, "print"])
def test_callbacks_are_functions(result, wrong):
    for each in (result, ResultSet([result])):
        with pytest.raises(WrongTypeError, match="callback must be a function, not"):
            each.then(wrong)
        if wrong is not None:
            with pytest.raises(WrongTypeError, match="on_error must be a function, not"):
                each.then(print, wrong)
