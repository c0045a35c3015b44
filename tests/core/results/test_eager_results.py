"""EagerResult: the same interface over an outcome that is known."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime

import pytest

from umbel.requests import Request, reset_current_request, set_current_request
from umbel.results import AsyncResult, EagerResult


def test_value_is_had_as_it_was_returned():
    value = object()
    result = EagerResult("t1", value, "SUCCESS")

    assert result.get() is result.result is value


def test_state_is_known():
    result = EagerResult("t1", 3, "SUCCESS", name="proj.add")

    assert (result.state, result.ready(), result.successful()) == ("SUCCESS", True, True)
    assert (result.exists(), result.name, result.as_list()) == (True, "proj.add", ["t1"])


def test_error_is_raised_as_it_was():
    error = ValueError("bad")
    result = EagerResult("t1", error, "FAILURE", "Traceback …")

    with pytest.raises(ValueError, match="bad") as info:
        result.get()
    assert info.value is error
    assert result.get(propagate=False) is error
    assert result.traceback == "Traceback …"


def test_unready_state_is_returned_without_waiting():
    error = KeyError("again")

    assert EagerResult("t1", error, "RETRY").get() is error


def test_eager_result_can_be_awaited():
    assert asyncio.run(EagerResult("t1", 3, "SUCCESS").aget()) == 3


def test_eager_result_calls_back_at_once():
    seen = []
    result = EagerResult("t1", 3, "SUCCESS").then(seen.append)

    assert seen == [result]


def test_eager_result_can_be_had_inside_a_task():
    tokens = set_current_request(Request(id="outer", called_directly=False))
    try:
        assert EagerResult("t1", 3, "SUCCESS").get() == 3
    finally:
        reset_current_request(tokens)


def test_nothing_is_there_to_forget_or_revoke():
    result = EagerResult("t1", 3, "SUCCESS")

    result.forget()
    result.revoke(terminate=True)
    asyncio.run(result.aforget())
    asyncio.run(result.arevoke())

    assert result.get() == 3


def test_details_are_there():
    result = EagerResult("t1", 3, "SUCCESS", args=(1,), kwargs={"b": 2}, retries=1, date_done=0.0)

    assert (result.args, result.kwargs, result.retries) == ((1,), {"b": 2}, 1)
    assert result.date_done == datetime(1970, 1, 1, tzinfo=UTC)


def test_children_are_read_where_results_are_kept(source, store):
    store("c1", 5)
    result = EagerResult("t1", 3, "SUCCESS", children=[[["c1", None], None]], source=source)

    assert [child.get() for child in result.children] == [5]


def test_eager_result_is_a_result():
    assert isinstance(EagerResult("t1", 3, "SUCCESS"), AsyncResult)
    assert repr(EagerResult("t1", 3, "SUCCESS")) == "<EagerResult: t1>"
