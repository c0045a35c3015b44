"""AsyncResult on the caller's thread."""

from __future__ import annotations

import gc
import sqlite3
import subprocess
import sys
import time
import weakref
from datetime import UTC, datetime

import pytest

from umbel import Umbel
from umbel.errors import (
    BackendError,
    BackendUnavailableError,
    DecodeError,
    RemoteTaskError,
    ResultTimeoutError,
    StateError,
    SyncSubtaskError,
    TaskError,
    TaskRevokedError,
)
from umbel.interfaces.backend import Backend
from umbel.requests import Request, reset_current_request, set_current_request
from umbel.results import AsyncResult, GroupResult, allow_join_result, denied_join_result

LONG = 30.0


class Wrapper(Backend):
    """Passes all on to another backend."""

    def __init__(self, backend: Backend) -> None:
        super().__init__()
        self.backend = backend

    def store(self, results):
        return self.backend.store(results)

    def load(self, task_ids):
        return self.backend.load(task_ids)

    def forget(self, task_ids):
        self.backend.forget(task_ids)


class DeafBackend(Wrapper):
    """Never hears of a result: each wait ends with nothing."""

    def wait(self, task_ids, *, timeout_s):
        self._interrupted.wait(timeout_s)
        self._interrupted.clear()
        return {}


class AbsentBackend(Wrapper):
    """Can't be reached for its first `failures` calls."""

    def __init__(self, backend: Backend, failures: float) -> None:
        super().__init__(backend)
        self.failures = failures

    def load(self, task_ids):
        if self.failures > 0:
            self.failures -= 1
            raise BackendUnavailableError("no route to store 'x'")
        return super().load(task_ids)


class BrokenBackend(Wrapper):
    """Is there, and is of no use."""

    def load(self, task_ids):
        raise BackendError("the file isn't a database")


class RunningTask:
    """Makes this context that of a task that a worker runs."""

    def __init__(self, **fields) -> None:
        self._request = Request(id="outer", task="proj.outer", called_directly=False, **fields)

    def __enter__(self):
        self._tokens = set_current_request(self._request)

    def __exit__(self, *exc):
        reset_current_request(self._tokens)


# -- waiting ----------------------------------------------------------------------------------


def test_get_returns_what_is_stored_already(result, store):
    store("t1", {"a": [1, 2]})

    assert result.get(timeout=LONG) == {"a": [1, 2]}


def test_get_returns_what_is_stored_while_it_waits(result, store, soon):
    soon(store, "t1", 42)

    assert result.get(timeout=LONG) == 42


def test_wait_is_get(result, store):
    store("t1", 42)

    assert result.wait(timeout=LONG) == 42


def test_timeout_names_id_state_and_seconds(result, store):
    store("t1", state="STARTED", meta={"pid": 1})

    with pytest.raises(ResultTimeoutError, match=r"'t1' has no result after 0\.05 s .*STARTED"):
        result.get(timeout=0.05)


def test_timeout_without_anything_stored_says_what_to_look_at(result):
    with pytest.raises(TimeoutError, match=r"PENDING.*check that a worker consumes"):
        result.get(timeout=0.01)


def test_get_with_timeout_zero_looks_once(result, store):
    store("t1", 5)

    assert result.get(timeout=0) == 5


def test_missed_notification_costs_a_second_and_not_the_answer(make_source, backend, store, soon):
    result = AsyncResult("t1", make_source(DeafBackend(backend)))
    soon(store, "t1", "heard")

    assert result.get(timeout=LONG) == "heard"


def test_shorter_interval_finds_a_missed_result_sooner(make_source, backend, store, soon):
    result = AsyncResult("t1", make_source(DeafBackend(backend)))
    looks = []
    soon(store, "t1", "heard", delay_s=0.2)

    assert result.get(timeout=LONG, interval=0.01, on_interval=lambda: looks.append(1)) == "heard"
    assert len(looks) >= 2


def test_on_interval_may_end_the_waiting(result):
    def stop():
        raise KeyError("enough")

    with pytest.raises(KeyError, match="enough"):
        result.get(interval=0.01, on_interval=stop)


def test_outage_is_waited_out(make_source, backend, store):
    store("t1", "back")
    result = AsyncResult("t1", make_source(AbsentBackend(backend, failures=3)))

    assert result.get(timeout=LONG) == "back"


def test_outage_that_lasts_is_named_at_the_timeout(make_source, backend):
    result = AsyncResult("t1", make_source(AbsentBackend(backend, failures=float("inf"))))

    with pytest.raises(ResultTimeoutError, match="can't be reached: no route to store 'x'") as info:
        result.get(timeout=0.1)
    assert isinstance(info.value.__cause__, BackendUnavailableError)


def test_useless_backend_is_an_error_at_once(make_source, backend):
    result = AsyncResult("t1", make_source(BrokenBackend(backend)))

    with pytest.raises(BackendError, match="isn't a database"):
        result.get(timeout=LONG)


def test_app_without_backend_says_so(make_source):
    result = AsyncResult("t1", make_source(None))

    with pytest.raises(BackendError, match="set result_backend"):
        result.get(timeout=LONG)


def test_ignored_result_is_none_at_once(make_source):
    result = AsyncResult("t1", make_source(None), ignored=True)

    assert result.get() is None


def test_ignored_can_be_set_later(result):
    result.ignored = True

    assert result.get() is None


def test_callback_is_given_id_and_value(result, store):
    store("t1", 3)
    seen = []

    result.get(timeout=LONG, callback=lambda *args: seen.append(args))

    assert seen == [("t1", 3)]


def test_on_message_is_given_each_state_that_is_seen(result, store, soon):
    store("t1", state="PROGRESS", meta={"done": 1})
    soon(store, "t1", 3)
    seen = []

    result.get(timeout=LONG, on_message=seen.append)

    assert [(each["status"], each["result"]) for each in seen] == [
        ("PROGRESS", {"done": 1}),
        ("SUCCESS", 3),
    ]


# -- errors -----------------------------------------------------------------------------------


def test_error_of_the_task_is_raised(result, store):
    store("t1", state="FAILURE", error=KeyError("k", 2))

    with pytest.raises(KeyError) as info:
        result.get(timeout=LONG)
    assert info.value.args == ("k", 2)


def test_error_carries_the_traceback_of_the_worker(result, store):
    def run_far_away():
        raise ValueError("bad")

    try:
        run_far_away()
    except ValueError as exc:
        store("t1", state="FAILURE", error=exc)

    with pytest.raises(ValueError, match="bad") as info:
        result.get(timeout=LONG)
    assert "in run_far_away" in info.value.__notes__[0]
    assert "in run_far_away" in result.traceback


def test_error_is_returned_without_propagate(result, store):
    store("t1", state="FAILURE", error=ValueError("bad"))

    assert repr(result.get(timeout=LONG, propagate=False)) == "ValueError('bad')"


def test_states_that_propagate_can_be_chosen(result, store):
    store("t1", state="REVOKED", error=TaskRevokedError("revoked"))

    assert isinstance(
        result.get(timeout=LONG, PROPAGATE_STATES=frozenset({"FAILURE"})), TaskRevokedError
    )


def test_states_whose_value_is_an_error_can_be_chosen(result, store):
    store("t1", state="FAILURE", error=ValueError("bad"))

    value = result.get(timeout=LONG, EXCEPTION_STATES=(), PROPAGATE_STATES=())

    assert value["exc_type"] == "ValueError"


def test_class_that_is_not_known_here_is_stood_for(result, store):
    store("t1", state="FAILURE", error=RemoteTaskError("Odd", "far.away", ["x"]))

    with pytest.raises(RemoteTaskError, match=r"Odd\('x'\)"):
        result.get(timeout=LONG)


def test_class_that_is_not_allowed_is_stood_for(make_source, backend, store):
    store("t1", state="FAILURE", error=subprocess.SubprocessError("x"))
    result = AsyncResult("t1", make_source(backend, allowed=["proj.*"]))

    with pytest.raises(RemoteTaskError, match="SubprocessError"):
        result.get(timeout=LONG)


def test_revoked_task_raises(result, store):
    store("t1", state="REVOKED", error=TaskRevokedError("expired"))

    with pytest.raises(TaskRevokedError, match="expired"):
        result.get(timeout=LONG)


def test_rejected_task_raises_rather_than_being_waited_for(result, store):
    store("t1", state="REJECTED", error=ValueError("no"))

    with pytest.raises(ValueError, match="no"):
        result.get(timeout=LONG)
    assert result.ready()


def test_failure_without_a_readable_error_raises(result, store):
    store("t1", state="FAILURE", meta="boom")

    with pytest.raises(TaskError, match=r"'t1' ended as FAILURE.*boom"):
        result.get(timeout=LONG)


def test_raised_error_does_not_keep_the_result_alive(source, store):
    store("t1", state="FAILURE", error=ValueError("bad"))
    result = AsyncResult("t1", source)
    gc.disable()
    try:
        with pytest.raises(ValueError, match="bad"):
            result.get(timeout=LONG)
        gone = weakref.ref(result)
        del result

        assert gone() is None
    finally:
        gc.enable()


def test_throw_raises_what_it_is_given(result):
    with pytest.raises(KeyError):
        result.throw(KeyError("k"))


def test_throw_raises_the_error_of_the_task(result, store):
    store("t1", state="FAILURE", error=ValueError("bad"))

    with pytest.raises(ValueError, match="bad"):
        result.throw()


def test_throw_without_an_error_says_so(result):
    with pytest.raises(StateError, match="'t1' is PENDING"):
        result.throw()


def test_maybe_throw_returns_the_value_of_success(result, store):
    store("t1", 7)

    assert result.maybe_throw() == result.maybe_reraise() == 7


def test_maybe_throw_raises_the_error_of_failure(result, store):
    store("t1", state="FAILURE", error=ValueError("bad"))

    with pytest.raises(ValueError, match="bad"):
        result.maybe_throw()
    assert isinstance(result.maybe_throw(propagate=False), ValueError)


def test_maybe_throw_does_not_wait(result):
    assert result.maybe_throw() is None


# -- inside tasks -----------------------------------------------------------------------------


def test_get_inside_a_task_is_refused(result, store):
    store("t1", 1)

    with RunningTask(), pytest.raises(SyncSubtaskError, match=r"inside task 'proj\.outer'"):
        result.get(timeout=LONG)


def test_refusal_inside_a_task_is_a_runtime_error(result):
    with RunningTask(), pytest.raises(RuntimeError):
        result.get(timeout=LONG)


def test_get_inside_a_task_can_be_allowed_for_a_call(result, store):
    store("t1", 1)

    with RunningTask():
        assert result.get(timeout=LONG, disable_sync_subtasks=False) == 1


def test_get_inside_a_task_can_be_allowed_for_a_block(result, store):
    store("t1", 1)

    with RunningTask(), allow_join_result():
        assert result.get(timeout=LONG) == 1


def test_permission_ends_with_its_block(result):
    with RunningTask(), allow_join_result(), denied_join_result(), pytest.raises(SyncSubtaskError):
        result.get(timeout=LONG)


def test_get_inside_an_eager_task_is_no_danger(result, store):
    store("t1", 1)

    with RunningTask(is_eager=True):
        assert result.get(timeout=LONG) == 1


def test_result_that_was_read_already_can_be_had_inside_a_task(result, store):
    store("t1", 1)
    result.get(timeout=LONG)

    with RunningTask():
        assert result.get() == 1


# -- parents ----------------------------------------------------------------------------------


@pytest.fixture
def chained(source) -> AsyncResult[object]:
    first = AsyncResult("p1", source)
    return AsyncResult("t1", source, parent=AsyncResult("p2", source, parent=first))


def test_error_of_a_parent_is_raised(chained, store):
    store("p1", state="FAILURE", error=ValueError("first step"))

    with pytest.raises(ValueError, match="first step"):
        chained.get(timeout=LONG, interval=0.05)


def test_error_of_a_parent_is_raised_at_the_end_of_the_time(chained, store):
    store("p1", state="FAILURE", error=ValueError("first step"))

    with pytest.raises(ValueError, match="first step"):
        chained.get(timeout=0.05)


def test_get_of_a_chain_is_not_woken_by_the_steps_before(make_source, counting, store, soon):
    source = make_source(counting)
    result = None
    for number in range(100):
        result = AsyncResult(f"s{number}", source, parent=result)
    soon(lambda: [store(f"s{number}", number) for number in range(100)])

    assert result.get(timeout=LONG, interval=LONG) == 99
    assert counting.calls == [("wait", 1)]


def test_members_of_a_group_before_are_left_to_the_chord(source, store):
    header = GroupResult("g", [AsyncResult("m", source)])
    store("m", state="FAILURE", error=ValueError("a part"))
    body = AsyncResult("t1", source, parent=header)

    with pytest.raises(ResultTimeoutError):
        body.get(timeout=0.05)


def test_error_of_a_step_before_a_group_is_raised(source, store):
    first = AsyncResult("p1", source)
    header = GroupResult("g", [AsyncResult("m", source)], parent=first)
    store("p1", state="FAILURE", error=ValueError("first step"))

    with pytest.raises(ValueError, match="first step"):
        AsyncResult("t1", source, parent=header).get(timeout=0.05)


def test_error_of_a_parent_is_raised_while_waiting(chained, store, soon):
    store("p1", 1)
    soon(store, "p2", state="FAILURE", error=ValueError("second step"))

    with pytest.raises(ValueError, match="second step"):
        chained.get(timeout=LONG, interval=0.05)


def test_error_of_a_parent_that_was_read_before_is_raised(chained, store):
    store("p2", state="FAILURE", error=ValueError("second step"))
    assert chained.parent.ready()

    with pytest.raises(ValueError, match="second step"):
        chained.get(timeout=LONG)


def test_parents_that_succeed_leave_the_result_to_be_waited_for(chained, store, soon):
    store("p1", 1)
    soon(store, "p2", 2)
    soon(store, "t1", 3, delay_s=0.1)

    assert chained.get(timeout=LONG) == 3


def test_parents_can_be_left_aside(chained, store):
    store("p1", state="FAILURE", error=ValueError("first step"))

    with pytest.raises(ResultTimeoutError):
        chained.get(timeout=0.05, follow_parents=False)


def test_parents_stand_in_tuple_and_list(chained):
    assert chained.as_tuple() == (("t1", (("p2", (("p1", None), None)), None)), None)
    assert chained.as_list() == ["t1", "p2", "p1"]


# -- reading ----------------------------------------------------------------------------------


def test_task_of_which_nothing_is_stored_is_pending(result):
    assert (result.state, result.result, result.ready(), result.exists()) == (
        "PENDING",
        None,
        False,
        False,
    )
    assert (result.traceback, result.date_done, result.name, result.children) == (None,) * 4


def test_success_reads_as_success(result, store):
    store("t1", 1)

    assert (result.state, result.status) == ("SUCCESS", "SUCCESS")
    assert (result.ready(), result.successful(), result.failed()) == (True, True, False)
    assert (result.result, result.info, result.exists()) == (1, 1, True)


def test_failure_reads_as_failure(result, store):
    store("t1", state="FAILURE", error=ValueError("bad"))

    assert (result.ready(), result.successful(), result.failed()) == (True, False, True)
    assert isinstance(result.result, ValueError)


def test_retry_shows_its_cause(result, store):
    store("t1", state="RETRY", error=OSError("again"))

    assert repr(result.result) == "OSError('again')"
    assert not result.ready()


def test_state_of_the_tasks_own_shows_its_meta_data(result, store):
    store("t1", state="PROGRESS", meta={"done": 3})

    assert (result.state, result.info, result.ready()) == ("PROGRESS", {"done": 3}, False)


def test_state_is_read_anew_until_it_is_final(result, store):
    store("t1", state="STARTED", meta={})
    assert result.state == "STARTED"

    store("t1", 1)
    assert result.state == "SUCCESS"


def test_final_result_is_read_once(result, store, backend):
    store("t1", 1)
    assert result.ready()

    backend.forget(["t1"])

    assert (result.get(), result.state) == (1, "SUCCESS")


def test_extended_fields_are_there(result, store):
    store(
        "t1",
        1,
        date_done=1_800_000_000.5,
        extended={
            "name": "proj.add",
            "args": [1],
            "kwargs": {"b": 2},
            "worker": "w@host",
            "retries": 3,
            "queue": "celery",
        },
    )

    assert result.date_done == datetime(2027, 1, 15, 8, 0, 0, 500_000, UTC)
    assert (result.name, result.args, result.kwargs) == ("proj.add", [1], {"b": 2})
    assert (result.worker, result.retries, result.queue) == ("w@host", 3, "celery")


def test_name_that_is_known_is_not_read(make_source):
    assert AsyncResult("t1", make_source(None), name="proj.add").name == "proj.add"


def test_document_is_all_of_it(result, store):
    store("t1", 1, parent_id="p", group_id="g")
    document = result.document()

    assert (document.result, document.parent_id, document.group_id) == (1, "p", "g")


def test_children_are_results(result, store):
    store("t1", 1, children=[[["c1", None], None], [["c2", [["c1", None], None]], None]])

    assert result.children == ["c1", "c2"]
    assert result.children[1].parent == "c1"


def test_group_among_the_children_is_a_group(result, store):
    store("t1", 1, children=[[["g", None], [[["a", None], None], [["b", None], None]]]])

    (child,) = result.children
    assert isinstance(child, GroupResult)
    assert (child.id, child.results) == ("g", ["a", "b"])


def test_child_that_is_no_result_tuple_is_an_error(result, store):
    store("t1", 1, children=[{"id": "c1"}])

    with pytest.raises(DecodeError, match="result tuple"):
        _ = result.children


def test_stored_bytes_of_another_kind_are_an_error(result, backend):
    from umbel.outcomes import StoredResult

    backend.store([StoredResult(task_id="t1", state="SUCCESS", body=b"\x80\x04")])

    with pytest.raises(DecodeError):
        result.get(timeout=LONG)


# -- the handle -------------------------------------------------------------------------------


def test_results_of_one_task_are_equal(source):
    one, other = AsyncResult("t1", source), AsyncResult("t1", source)

    assert one == other
    assert one == "t1"
    assert hash(one) == hash(other)
    assert one != AsyncResult("t2", source)
    assert one != 1


def test_text_of_a_result_is_its_id(result):
    assert (str(result), repr(result)) == ("t1", "<AsyncResult: t1>")
    assert (result.id, result.task_id) == ("t1", "t1")


@pytest.mark.parametrize("id", [None, "", 7])
def test_result_needs_an_id(source, id):
    with pytest.raises(ValueError, match="needs the id of a task"):
        AsyncResult(id, source)


def test_forget_drops_the_result(result, store):
    store("t1", 1)
    assert result.ready()

    result.forget()

    assert result.state == "PENDING"


def test_forget_drops_the_parents(chained, store):
    for key in ("p1", "p2", "t1"):
        store(key, 1)

    chained.forget()

    assert not chained.parent.parent.exists()


def test_revoke_asks_the_control(result, revoked):
    result.revoke(terminate=True, signal="SIGKILL")

    assert revoked == [(("t1",), True, "SIGKILL")]


def test_importing_results_costs_no_asyncio():
    code = (
        "import sys, umbel.results; "
        "print(sorted({'asyncio', 'concurrent.futures', 'random', 'sqlite3', 'multiprocessing'}"
        " & set(sys.modules)))"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert out.stdout.strip() == "[]"


def test_clock_moved_past_the_timeout_ends_the_waiting(make_source, backend, soon):
    class Clock:
        now = 0.0

        def time(self):
            return self.now

        def monotonic(self):
            return self.now

    clock = Clock()
    result = AsyncResult("t1", make_source(backend, clock=clock))
    soon(setattr, clock, "now", 1000.0)
    started = time.monotonic()

    with pytest.raises(ResultTimeoutError):
        result.get(timeout=900, interval=0.01)
    assert time.monotonic() - started < LONG


def test_exception_classes_that_are_not_allowed_are_not_rebuilt() -> None:
    with Umbel("a", broker="memory://", result_allowed_exceptions=["proj.errors.*"]) as app:
        app.task(name="fail")(lambda: (_ for _ in ()).throw(sqlite3.OperationalError("gone")))
        with app.worker(pool="solo"):
            result = app.send_task("fail")
            with pytest.raises(RemoteTaskError, match="OperationalError"):
                result.get(timeout=20)
