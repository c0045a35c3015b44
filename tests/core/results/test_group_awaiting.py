"""Groups awaited in coroutines, and calling back when all of a group is over."""

from __future__ import annotations

import asyncio
import threading
import time

import pytest

from umbel.errors import BackendError, ResultTimeoutError
from umbel.outcomes import StoredResult
from umbel.requests import Request, reset_current_request, set_current_request
from umbel.results import AsyncResult, EagerResult, GroupProgress, GroupResult

LONG = 30.0


@pytest.fixture
def group(source) -> GroupResult[object]:
    return GroupResult("g", [AsyncResult(task_id, source) for task_id in "abc"])


def wait_until(condition) -> None:
    deadline = time.monotonic() + LONG
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.002)


# -- awaiting ---------------------------------------------------------------------------------


def test_await_returns_the_values(group, store, soon):
    store("b", 2)
    soon(store, "c", 3)
    soon(store, "a", 1)

    async def main():
        return await group

    assert asyncio.run(main()) == [1, 2, 3]


def test_values_of_groups_in_a_group_are_lists(source, store):
    inner = GroupResult("inner", [AsyncResult("b", source)])
    group = GroupResult("g", [AsyncResult("a", source), inner])
    store.many("ab")

    assert asyncio.run(group.aget(timeout=LONG)) == ["a", ["b"]]


def test_error_is_raised_before_the_others_are_there(group, store, soon):
    soon(store, "b", state="FAILURE", error=ValueError("bad"))

    with pytest.raises(ValueError, match="bad"):
        asyncio.run(group.aget(timeout=LONG))


def test_errors_stand_in_the_place_of_values_without_propagate(group, store):
    store.many("ac")
    store("b", state="FAILURE", error=ValueError("bad"))

    a, b, c = asyncio.run(group.ajoin(timeout=LONG, propagate=False))

    assert (a, c) == ("a", "c")
    assert isinstance(b, ValueError)


def test_thousands_are_awaited_in_few_calls(make_source, counting, store, soon):
    ids = [f"t{number}" for number in range(3_000)]
    source = make_source(counting)
    group = GroupResult("g", [AsyncResult(task_id, source) for task_id in ids])
    soon(store.many, ids)

    assert asyncio.run(group.aget(timeout=LONG)) == ids
    assert len(counting.calls) < 100


def test_timeout_names_how_many_are_missing(group, store):
    store("b", 2)
    assert group[1].ready()

    with pytest.raises(ResultTimeoutError, match="2 of 3 results of group 'g' are missing"):
        asyncio.run(group.aget(timeout=0.02))


@pytest.mark.parametrize("timeout", [0, -1])
def test_await_without_time_looks_once(group, store, timeout):
    with pytest.raises(ResultTimeoutError, match="3 of 3"):
        asyncio.run(group.aget(timeout))
    store.many("abc")

    assert asyncio.run(group.aget(timeout)) == ["a", "b", "c"]


def test_error_of_a_step_before_the_group_is_raised(source, store):
    group = GroupResult("g", [AsyncResult("a", source)], parent=AsyncResult("p", source))
    store("p", state="FAILURE", error=ValueError("first step"))

    with pytest.raises(ValueError, match="first step"):
        asyncio.run(group.aget(timeout=0.5))


def test_await_inside_a_task_is_no_danger(group, store):
    tokens = set_current_request(Request(id="outer", task="proj.outer", called_directly=False))
    store.many("abc")
    try:
        assert asyncio.run(group.aget(timeout=LONG)) == ["a", "b", "c"]
    finally:
        reset_current_request(tokens)


def test_cancelled_await_is_forgotten(group, source, store):
    async def main():
        waiting = asyncio.ensure_future(group.aget())
        while len(source.waiter()) < 3:
            await asyncio.sleep(0.002)
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)
        store("z", 1)
        await AsyncResult("z", source).aget(timeout=LONG)

    asyncio.run(main())

    wait_until(lambda: len(source.waiter()) == 0)


def test_closing_ends_the_awaiting(group, source):
    async def main():
        waiting = asyncio.ensure_future(group.aget())
        while len(source.waiter()) < 3:
            await asyncio.sleep(0.002)
        await asyncio.to_thread(source.close)
        await waiting

    with pytest.raises(BackendError, match="results of group 'g' failed: the app was closed"):
        asyncio.run(main())


def test_members_are_iterated_as_they_arrive(group, store):
    async def main():
        seen = []
        store("b", 2)
        async for task_id, document in group.aiterate(timeout=LONG):
            seen.append((task_id, document.result))
            if task_id == "b":
                store("c", 3)
            elif task_id == "c":
                store("a", 1)
        return seen

    assert asyncio.run(main()) == [("b", 2), ("c", 3), ("a", 1)]


def test_callback_of_ajoin_is_called_as_results_arrive(group, store):
    store.many("abc")
    seen = []

    got = asyncio.run(group.ajoin(timeout=LONG, callback=lambda *pair: seen.append(pair)))

    assert got == []
    assert sorted(seen) == [("a", "a"), ("b", "b"), ("c", "c")]


def test_eager_members_need_no_backend():
    group = GroupResult("g", [EagerResult("a", 1, "SUCCESS")])

    assert asyncio.run(group.aget()) == [1]


def test_twins_of_what_reads(group, store):
    store.many("ab")
    store("c", state="FAILURE", error=ValueError("bad"))

    async def read():
        with pytest.raises(ValueError, match="bad"):
            await group.amaybe_throw()
        return (
            await group.aready(),
            await group.awaiting(),
            await group.asuccessful(),
            await group.afailed(),
            await group.acompleted_count(),
            await group.aprogress(),
        )

    assert asyncio.run(read()) == (True, False, False, True, 2, GroupProgress(3, 3, 1))


def test_twins_of_what_changes(group, store, source, revoked):
    store("a", 1)

    async def change():
        await group.arevoke()
        await group.asave()
        restored = await GroupResult.arestore("g", app=source)
        await group.adelete()
        await group.aforget()
        return restored, await GroupResult.arestore("g", app=source)

    assert asyncio.run(change()) == (group, None)
    assert revoked == [(("g", "b", "c"), False, "SIGTERM")]
    assert source.load(["a"]) == {}


# -- calling back -----------------------------------------------------------------------------


class Calls:
    """Notes what it is called with."""

    def __init__(self) -> None:
        self.seen: list[object] = []
        self._called = threading.Event()

    def __call__(self, value: object) -> None:
        self.seen.append(value)
        self._called.set()

    def wait(self) -> list[object]:
        assert self._called.wait(LONG)
        return self.seen


def test_then_calls_back_when_all_are_over(group, store, soon):
    called = Calls()
    store("b", state="FAILURE", error=ValueError("bad"))
    assert group.then(called) is group
    soon(store.many, "ac")

    assert called.wait() == [group]
    assert group[0].get() == "a"


def test_then_calls_back_at_once_where_all_were_read(group, store):
    store.many("abc")
    assert group.ready()
    called = Calls()

    group.then(called)

    assert called.seen == [group]


def test_on_error_takes_the_first_failure_alone(group, source, store):
    called, failed = Calls(), Calls()
    group.then(called, on_error=failed)
    store("b", state="FAILURE", error=ValueError("bad"))
    (error,) = failed.wait()
    store("c", state="FAILURE", error=KeyError("later"))
    store("a", 1)
    AsyncResult("c", source).then(after := Calls())
    after.wait()

    assert isinstance(error, ValueError)
    assert (called.seen, len(failed.seen)) == ([], 1)


def test_on_error_is_told_that_the_waiting_ended(group, source):
    failed = Calls()
    group.then(Calls(), on_error=failed)
    source.close()

    (error,) = failed.wait()
    assert isinstance(error, BackendError)


def test_ended_waiting_without_on_error_is_logged(group, source, caplog):
    group.then(called := Calls())
    source.close()

    assert called.seen == []
    assert "no callback for group 'g': waiting for the results of group 'g' failed" in caplog.text


def test_result_that_cannot_be_read_is_told(group, backend):
    failed = Calls()
    group.then(Calls(), on_error=failed)
    backend.store([StoredResult(task_id="a", state="SUCCESS", body=b"\x80\x04")])

    assert "JSON" in str(failed.wait()[0]) or "decod" in str(failed.wait()[0])


def test_callback_that_raises_is_logged(group, store, caplog):
    store.many("abc")
    assert group.ready()

    group.then(lambda _result: 1 / 0)

    assert "a callback on the results of group 'g' failed" in caplog.text


def test_then_of_an_eager_group_calls_back_at_once():
    group = GroupResult("g", [EagerResult("a", 1, "SUCCESS")])
    called = Calls()

    group.then(called)

    assert called.seen == [group]
