"""GroupResult and ResultSet: many results as one, read and joined together."""

from __future__ import annotations

import time

import pytest

from umbel.errors import (
    BackendError,
    BackendUnavailableError,
    ResultTimeoutError,
    SyncSubtaskError,
    TaskRevokedError,
)
from umbel.outcomes import ChordPart
from umbel.requests import Request, reset_current_request, set_current_request
from umbel.results import AsyncResult, EagerResult, GroupProgress, GroupResult, ResultSet
from umbel.results.converted import ConvertedResult

LONG = 30.0


def results_of(source, *ids) -> list[AsyncResult[object]]:
    return [AsyncResult(task_id, source) for task_id in ids]


@pytest.fixture
def group(source) -> GroupResult[object]:
    return GroupResult("g", results_of(source, "a", "b", "c"))


@pytest.fixture
def nested(source) -> GroupResult[object]:
    inner = GroupResult("inner", results_of(source, "b", "c"))
    return GroupResult("g", [*results_of(source, "a"), inner, *results_of(source, "d")])


# -- members ----------------------------------------------------------------------------------


def test_members_are_had_by_iteration_and_index(group):
    assert list(group) == group.results == group.children == ["a", "b", "c"]
    assert (len(group), group[0], group[-1], group[1:]) == (3, "a", "c", ["b", "c"])


def test_generator_may_give_the_members(source):
    group = GroupResult("g", (AsyncResult(key, source) for key in "ab"))

    assert group.results == ["a", "b"]


def test_set_takes_each_member_once(source):
    a, b, c = results_of(source, "a", "b", "c")
    results = ResultSet([a])

    results.add(a)
    results.add(b)
    results.update([b, c, c])

    assert results.results == ["a", "b", "c"]


def test_members_can_be_taken_out_by_result_or_id(source):
    a, b, c = results_of(source, "a", "b", "c")
    results = ResultSet([a, b, c])

    results.remove(a)
    results.remove("b")
    results.discard(c)
    results.discard("gone")

    assert len(results) == 0
    with pytest.raises(KeyError):
        results.remove(a)


def test_set_can_be_cleared(group):
    members = group.results
    group.clear()

    assert members == []


def test_sets_of_the_same_members_are_equal(source):
    assert ResultSet(results_of(source, "a", "b")) == ResultSet(results_of(source, "a", "b"))
    assert ResultSet(results_of(source, "a")) != ResultSet(results_of(source, "b"))
    assert ResultSet([]) != "a"
    with pytest.raises(TypeError):
        hash(ResultSet([]))


def test_groups_are_equal_by_id_members_and_parent(source):
    members = results_of(source, "a")
    group = GroupResult("g", members)

    assert group == GroupResult("g", members)
    assert group == "g"
    assert hash(group) == hash("g")
    assert group != GroupResult("h", members)
    assert group != GroupResult("g", [])
    assert group != GroupResult("g", members, parent=members[0])
    assert group != 1


def test_empty_group_is_true_and_an_empty_set_is_not(source):
    assert GroupResult("g", [], source=source)
    assert not ResultSet([], source=source)


def test_text_of_a_group_is_its_id(group):
    assert (str(group), repr(group)) == ("g", "<GroupResult: g [a, b, c]>")
    assert repr(ResultSet(group.results)) == "<ResultSet: [a, b, c]>"


def test_native_join_is_what_results_of_a_backend_have(group):
    assert group.supports_native_join
    assert not GroupResult("g", [EagerResult("a", 1, "SUCCESS")]).supports_native_join


# -- what is stored ---------------------------------------------------------------------------


def test_group_that_waits_is_not_ready(group, store):
    store("a", 1)

    assert (group.ready(), group.waiting()) == (False, True)
    assert (group.successful(), group.failed(), group.completed_count()) == (False, False, 1)


def test_group_that_returned_is_successful(group, store):
    store.many("abc")

    assert (group.ready(), group.waiting()) == (True, False)
    assert (group.successful(), group.failed(), group.completed_count()) == (True, False, 3)


def test_group_of_which_one_failed_has_failed(group, store):
    store.many("ab")
    store("c", state="FAILURE", error=ValueError("bad"))

    assert (group.ready(), group.successful(), group.failed()) == (True, False, True)
    assert group.completed_count() == 2


def test_states_are_read_anew_until_they_are_final(group, store):
    store("a", state="STARTED", meta={})
    assert not group.ready()
    store.many("abc")

    assert group.ready()


def test_thousands_are_read_a_thousand_at_a_time(make_source, counting, store):
    ids = [f"t{number}" for number in range(2_500)]
    group = GroupResult("g", results_of(make_source(counting), *ids))
    store.many(ids)

    assert group.successful()
    assert counting.calls == [("load", 1000), ("load", 1000), ("load", 500)]


def test_what_is_known_is_not_read_again(make_source, counting, store):
    group = GroupResult("g", results_of(make_source(counting), "a", "b"))
    store.many("ab")
    assert group.ready()
    counting.calls.clear()

    assert group.successful()
    assert group.join() == ["a", "b"]
    assert counting.calls == []


def test_last_thousand_tells_that_not_all_are_over(make_source, counting, store):
    ids = [f"t{number}" for number in range(5_000)]
    group = GroupResult("g", results_of(make_source(counting), *ids))
    store.many(ids[:-1])

    assert group.waiting()
    assert counting.calls == [("load", 1000)]


def test_progress_counts_what_is_over(group, store):
    store("a", 1)
    store("b", state="REVOKED", error=TaskRevokedError("revoked"))

    progress = group.progress()

    assert progress == GroupProgress(size=3, done=2, failed=1)
    assert progress.completed == 1
    assert progress.percentage == pytest.approx(66.67, abs=0.01)


def test_progress_of_a_group_that_is_counted_is_one_call(make_source, counting, backend):
    group = GroupResult("g", results_of(make_source(counting), *"abcd"))
    backend.open_chord("g", 4, ttl_s=60)
    parts = [("a", "SUCCESS"), ("b", "FAILURE"), ("c", "SUCCESS")]
    backend.join_chord(
        [
            ChordPart(group_id="g", index=0, task_id=key, state=state, result=None)
            for key, state in parts
        ]
    )

    assert group.progress() == GroupProgress(size=4, done=3, failed=1)
    assert group.completed_count() == 2
    assert counting.calls == [("chord_progress", 1)] * 2


def test_progress_of_nothing_is_complete(source):
    assert GroupResult("g", [], source=source).progress().percentage == 100.0


def test_maybe_throw_raises_the_first_error_in_order(group, store):
    store("c", state="FAILURE", error=ValueError("third"))
    store("b", state="FAILURE", error=ValueError("second"))

    with pytest.raises(ValueError, match="second"):
        group.maybe_throw()


def test_maybe_throw_does_not_wait(group, store):
    store("b", 2)
    seen = []

    group.maybe_reraise(callback=lambda *pair: seen.append(pair))

    assert seen == [("a", None), ("b", 2), ("c", None)]


def test_maybe_throw_passes_errors_on_without_propagate(group, store):
    store("a", state="FAILURE", error=ValueError("bad"))
    seen = []

    group.maybe_throw(callback=lambda _id, value: seen.append(value), propagate=False)

    assert isinstance(seen[0], ValueError)


# -- joining ----------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["join", "join_native", "get"])
def test_values_come_in_order_of_the_members(group, store, soon, method):
    store("c", 3)
    soon(store, "a", 1)
    soon(store, "b", 2, delay_s=0.1)

    assert getattr(group, method)(timeout=LONG) == [1, 2, 3]


def test_values_of_groups_in_a_group_are_lists(nested, store):
    store.many("abcd")

    assert nested.get(timeout=LONG) == ["a", ["b", "c"], "d"]


def test_empty_group_is_joined_at_once(source):
    assert GroupResult("g", [], source=source).get() == []


def test_task_that_is_a_member_twice_is_joined(source, store):
    store("a", 1)

    assert GroupResult("g", results_of(source, "a", "a")).get(timeout=LONG) == [1, 1]


def test_thousands_are_joined_in_few_calls(make_source, counting, store):
    ids = [f"t{number}" for number in range(3_000)]
    group = GroupResult("g", results_of(make_source(counting), *ids))
    store.many(ids)

    assert group.get(timeout=LONG) == ids
    assert len(counting.calls) <= 10


def test_waiting_does_not_look_at_all_for_each_that_arrives(make_source, counting, store, soon):
    ids = [f"t{number}" for number in range(500)]
    group = GroupResult("g", results_of(make_source(counting), *ids))
    soon(lambda: [store(task_id, task_id) for task_id in ids], delay_s=0.02)

    assert group.get(timeout=LONG) == ids
    assert len(counting.calls) < 250


def test_middle_of_thousands_that_is_not_waited_for_is_found(source, store, soon):
    ids = [f"t{number}" for number in range(3_000)]
    group = GroupResult("g", results_of(source, *ids))
    store.many(ids[:100])
    soon(store, "t1500", state="FAILURE", error=ValueError("in the middle"))

    with pytest.raises(ValueError, match="in the middle"):
        group.get(timeout=LONG)


def test_error_is_raised_before_the_others_are_there(group, store):
    store("b", state="FAILURE", error=ValueError("bad"))

    with pytest.raises(ValueError, match="bad"):
        group.get(timeout=LONG)


def test_errors_stand_in_the_place_of_values_without_propagate(group, store):
    store.many("ac")
    store("b", state="FAILURE", error=ValueError("bad"))

    a, b, c = group.join(timeout=LONG, propagate=False)

    assert (a, c) == ("a", "c")
    assert isinstance(b, ValueError)


def test_error_of_a_step_before_a_member_is_raised(source, store):
    first = AsyncResult("p", source)
    group = GroupResult("g", [AsyncResult("a", source, parent=first)])
    store("p", state="FAILURE", error=ValueError("first step"))

    with pytest.raises(ValueError, match="first step"):
        group.get(timeout=LONG, interval=0.02)


def test_error_of_a_step_before_the_group_is_raised(source, store):
    group = GroupResult("g", results_of(source, "a"), parent=AsyncResult("p", source))
    store("p", state="FAILURE", error=ValueError("first step"))

    with pytest.raises(ValueError, match="first step"):
        group.get(timeout=LONG, interval=0.02)


def test_timeout_names_how_many_are_missing(source, store):
    group = GroupResult("g", results_of(source, *"abcdefg"))
    store.many("ace")

    with pytest.raises(ResultTimeoutError) as info:
        group.get(timeout=0.02)

    assert str(info.value) == (
        "4 of 7 results of group 'g' are missing after 0.02 s: 'b', 'd', 'f', …"
    )


def test_join_with_timeout_zero_looks_once(group, store):
    store.many("abc")

    assert group.join(timeout=0) == ["a", "b", "c"]


def test_callback_is_called_as_results_arrive(group, store):
    seen = []
    following = ["a", "b"]

    def callback(*pair):
        seen.append(pair)
        if following:
            store.many(following.pop())

    store("c", "c")
    got = group.join(timeout=LONG, callback=callback)

    assert got == []
    assert seen == [("c", "c"), ("b", "b"), ("a", "a")]


def test_on_message_is_given_each_document(group, store):
    store.many("abc")
    seen = []

    group.get(timeout=LONG, on_message=seen.append)

    assert sorted(each["task_id"] for each in seen) == ["a", "b", "c"]


def test_on_interval_may_end_the_waiting(group):
    def stop():
        raise InterruptedError("enough")

    with pytest.raises(InterruptedError, match="enough"):
        group.get(timeout=LONG, interval=0.01, on_interval=stop)


def test_ignored_member_is_none_and_not_waited_for(source, store):
    ignored = AsyncResult("a", source, ignored=True)
    group = GroupResult("g", [ignored, *results_of(source, "b")])
    store("b", 2)

    assert group.ready()
    assert group.get(timeout=LONG) == [None, 2]


def test_values_are_converted_as_the_tasks_say(source, store):
    group = GroupResult("g", [ConvertedResult("a", source, lambda value: value * 10)])
    store("a", 1)

    assert group.get(timeout=LONG) == [10]


def test_join_inside_a_task_is_refused(group, store):
    tokens = set_current_request(Request(id="outer", task="proj.outer", called_directly=False))
    try:
        with pytest.raises(SyncSubtaskError):
            group.get(timeout=LONG)
        store.many("abc")
        assert group.get(timeout=LONG, disable_sync_subtasks=False) == ["a", "b", "c"]
    finally:
        reset_current_request(tokens)


def test_outage_is_waited_out(make_source, counting, store, monkeypatch):
    group = GroupResult("g", results_of(make_source(counting), "a", "b"))
    store.many("ab")
    failures = [BackendUnavailableError("no route")] * 2
    wait = counting.wait

    def away(*args, **kwargs):
        if failures:
            raise failures.pop()
        return wait(*args, **kwargs)

    monkeypatch.setattr(counting, "wait", away)

    assert group.get(timeout=LONG) == ["a", "b"]


def test_members_are_iterated_as_they_arrive(group, store):
    seen = []
    store("b", 2)
    for task_id, document in group.iterate(timeout=LONG):
        seen.append((task_id, document.status))
        if task_id == "b":
            store("c", 3)
        elif task_id == "c":
            store("a", state="FAILURE", error=ValueError("bad"))

    assert seen == [("b", "SUCCESS"), ("c", "SUCCESS"), ("a", "FAILURE")]


def test_iter_native_yields_the_document_as_celery_has_it(nested, store):
    store.many("abc")
    store("d", state="FAILURE", error=ValueError("bad"))

    seen = dict(nested.iter_native(timeout=LONG))

    assert {key: meta["status"] for key, meta in seen.items()} == {
        "a": "SUCCESS",
        "b": "SUCCESS",
        "c": "SUCCESS",
        "d": "FAILURE",
    }
    assert seen["b"]["result"] == "b"
    assert isinstance(seen["d"]["result"], ValueError)


# -- ending -----------------------------------------------------------------------------------


def test_forget_drops_the_members_and_the_steps_before(source, store):
    chained = AsyncResult("b", source, parent=AsyncResult("b0", source))
    group = GroupResult("g", [*results_of(source, "a"), chained], parent=AsyncResult("p", source))
    store.many(["a", "b", "b0", "p"])
    assert group.ready()

    group.forget()

    assert source.load(["a", "b", "b0", "p"]) == {}
    assert not group.ready()


def test_revoke_is_one_call_for_all_that_are_not_over(source, store, revoked):
    chained = AsyncResult("b", source, parent=AsyncResult("b0", source))
    inner = GroupResult("inner", results_of(source, "c", "d"))
    before = AsyncResult("p", source)
    group = GroupResult("g", [*results_of(source, "a"), chained, inner], parent=before)
    store.many("ac")

    group.revoke(terminate=True, signal="SIGKILL")

    assert revoked == [(("g", "inner", "b", "b0", "d"), True, "SIGKILL")]


def test_revoke_of_what_is_over_is_for_what_comes_after_it(group, store, revoked):
    store.many("abc")
    group.revoke()

    assert revoked == [(("g",), False, "SIGTERM")]


def test_revoke_of_members_that_are_over_is_for_what_they_sent(group, store, revoked):
    store("a", 1, children=[[["sent", None], None]])
    store("b", 2, children=[[["sent too", None], None]])
    assert group[1].get(timeout=LONG) == 2
    group.revoke()

    assert revoked == [(("g", "a", "c", "b"), False, "SIGTERM")]


def test_revoke_needs_no_results(make_source, revoked):
    GroupResult("g", results_of(make_source(None), "a", "b")).revoke()

    assert revoked == [(("g", "a", "b"), False, "SIGTERM")]


# -- kept for later ---------------------------------------------------------------------------


def test_saved_group_is_restored(source, store):
    chained = AsyncResult("b", source, parent=AsyncResult("b0", source))
    inner = GroupResult("inner", results_of(source, "c"))
    group = GroupResult("g", [*results_of(source, "a"), chained, inner], AsyncResult("p", source))
    group.save()

    restored = GroupResult.restore("g", app=source)

    assert restored == group
    assert restored.as_tuple() == group.as_tuple()
    store.many("abc")
    assert restored.get(timeout=LONG) == ["a", "b", ["c"]]


def test_deleted_group_is_not_restored(source, group, store):
    group.save()
    store("a", 1)
    group.delete()

    assert GroupResult.restore("g", app=source) is None
    assert group[0].get(timeout=LONG) == 1


def test_group_that_was_never_saved_is_none(source, backend):
    assert GroupResult.restore("g", backend=backend, app=source) is None


def test_group_is_kept_as_long_as_results(make_source, backend):
    source = make_source(backend, group_ttl_s=0.0)
    GroupResult("g", results_of(source, "a")).save()

    deadline = time.monotonic() + LONG
    while GroupResult.restore("g", app=source) is not None:
        assert time.monotonic() < deadline


def test_group_of_long_chains_can_be_saved(source):
    result = None
    for number in range(3_000):
        result = AsyncResult(f"s{number}", source, parent=result)
    GroupResult("g", [result], parent=result).save()

    (member,) = GroupResult.restore("g", app=source)

    assert member.as_list() == [f"s{number}" for number in range(2_999, 2_898, -1)]


# -- without a backend ------------------------------------------------------------------------


@pytest.fixture
def eager() -> GroupResult[object]:
    return GroupResult("g", [EagerResult("a", 1, "SUCCESS"), EagerResult("b", 2, "SUCCESS")])


def test_eager_members_need_no_backend(eager):
    assert eager.get() == [1, 2]
    assert (eager.ready(), eager.successful(), eager.failed()) == (True, True, False)
    assert (eager.completed_count(), eager.progress().percentage) == (2, 100.0)
    assert [task_id for task_id, _ in eager.iterate()] == ["a", "b"]
    eager.forget()
    eager.revoke()


def test_error_of_an_eager_member_is_raised_as_it_was():
    error = ValueError("bad")
    group = GroupResult("g", [EagerResult("a", error, "FAILURE")])

    with pytest.raises(ValueError, match="bad") as info:
        group.get()
    assert info.value is error
    assert group.get(propagate=False) == [error]


def test_eager_members_may_stand_beside_others(source, store):
    group = GroupResult("g", [EagerResult("a", 1, "SUCCESS"), *results_of(source, "b")])
    store("b", 2)

    assert group.get(timeout=LONG) == [1, 2]


def test_useless_backend_is_an_error_at_once(make_source):
    with pytest.raises(BackendError, match="keeps no results"):
        GroupResult("g", results_of(make_source(None), "a")).get(timeout=LONG)
