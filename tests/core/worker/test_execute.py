from __future__ import annotations

from collections.abc import Callable
from contextvars import ContextVar
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest

from umbel import Umbel, current_request
from umbel.clock import parse_iso
from umbel.errors import Ignore, Reject
from umbel.messages import Message
from umbel.outcomes import Failure, Ignored, Outcome, Rejected, Retry, Success
from umbel.requests import NO_REQUEST, Request
from umbel.tasks import Task
from umbel.worker.execute import run_sync
from umbel.worker.jobs import Job
from umbel.worker.limits import ShutdownInterrupt

Run = Callable[[Job], Outcome]
MakeJob = Callable[..., Job]


def retry_of(outcome: Outcome) -> Message:
    assert isinstance(outcome, Retry)
    return outcome.message


def test_a_return_value_is_a_success_with_its_bytes(app: Umbel, job: MakeJob, run: Run) -> None:
    app.task(name="add")(lambda x, y: x + y)

    outcome = run(job("add", 2, 3))

    assert isinstance(outcome, Success)
    assert outcome.value == b"5"


def test_a_value_that_cannot_be_encoded_is_a_failure(app: Umbel, job: MakeJob, run: Run) -> None:
    app.task(name="bad")(lambda: {"deep": [object()]})

    outcome = run(job("bad"))

    assert isinstance(outcome, Failure)
    assert outcome.error.exc_type == "EncodeError"
    assert "deep" in outcome.error.summary


def test_an_exception_is_a_failure_with_its_traceback(app: Umbel, job: MakeJob, run: Run) -> None:
    @app.task(name="fail")
    def fail() -> None:
        raise ValueError("no")

    outcome = run(job("fail"))

    assert isinstance(outcome, Failure)
    assert (outcome.error.exc_type, outcome.error.exc_message) == ("ValueError", ["no"])
    assert "in fail" in (outcome.error.traceback or "")
    assert not outcome.expected


def test_an_exception_in_throws_is_expected(app: Umbel, job: MakeJob, run: Run) -> None:
    @app.task(name="fail", throws=(KeyError,))
    def fail() -> None:
        raise KeyError("k")

    outcome = run(job("fail"))

    assert isinstance(outcome, Failure)
    assert outcome.expected


@pytest.mark.parametrize("error", [SystemExit(3), KeyboardInterrupt(), GeneratorExit()])
def test_nothing_that_a_task_raises_ends_the_worker(
    app: Umbel, job: MakeJob, run: Run, error: BaseException
) -> None:
    @app.task(name="leave")
    def leave() -> None:
        raise error

    assert isinstance(run(job("leave")), Failure)


def test_ignore_and_reject_have_outcomes_of_their_own(app: Umbel, job: MakeJob, run: Run) -> None:
    @app.task(name="steer")
    def steer(what: str) -> None:
        if what == "ignore":
            raise Ignore
        raise Reject("not mine", requeue=what == "requeue")

    assert run(job("steer", "ignore")) == Ignored()
    assert run(job("steer", "reject")) == Rejected("not mine")
    assert run(job("steer", "requeue")) == Rejected("not mine", requeue=True)


def test_the_request_is_current_inside_and_gone_after(app: Umbel, job: MakeJob, run: Run) -> None:
    seen: list[Any] = []

    @app.task(name="look", bind=True)
    def look(self: Task[..., Any]) -> None:
        seen.append((self.request.id, current_request().task, self.request.hostname))

    one = job("look")
    run(one)

    assert seen == [(one.request.id, "look", "w@host")]
    assert current_request().id is None


def test_a_retry_is_the_same_message_again(app: Umbel, job: MakeJob, run: Run) -> None:
    @app.task(name="again", bind=True)
    def again(self: Task[..., Any]) -> None:
        raise self.retry(exc=ValueError("why"), countdown=30)

    one = job("again", headers={"unknown": "kept", "x-other": [1]})
    before = app.clock.time()
    outcome = run(one)

    message, original = retry_of(outcome), one.delivery.message
    assert isinstance(original, Message)
    assert isinstance(outcome, Retry)
    assert outcome.error.exc_type == "ValueError"
    assert message.id == original.id
    assert message.body == original.body
    assert message.headers["retries"] == 1
    assert message.headers["parent_id"] == original.id
    assert (message.headers["unknown"], message.headers["x-other"]) == ("kept", [1])
    assert message.due_at is not None
    assert 29.9 < message.due_at - before < 31
    assert parse_iso(message.headers["eta"]) == pytest.approx(message.due_at, abs=0.001)


def test_a_retry_may_change_arguments_and_options(app: Umbel, job: MakeJob, run: Run) -> None:
    at = datetime.now(UTC) + timedelta(hours=1)

    @app.task(name="again", bind=True)
    def again(self: Task[..., Any], x: int) -> None:
        self.retry(args=(x + 1,), kwargs={}, eta=at, queue="slow", priority=3, time_limit=9)

    message = retry_of(run(job("again", 1)))

    assert msgspec.json.decode(message.body)[0] == [2]
    assert (message.queue, message.priority) == ("slow", 3)
    assert message.headers["timelimit"][0] == 9
    assert message.due_at == pytest.approx(at.timestamp())


def test_a_task_that_may_not_retry_any_more_fails_with_the_cause(
    app: Umbel, job: MakeJob, run: Run
) -> None:
    @app.task(name="again", bind=True, max_retries=2)
    def again(self: Task[..., Any]) -> None:
        self.retry(exc=ValueError("the cause"))

    outcome = run(job("again", headers={"retries": 2}))

    assert isinstance(outcome, Failure)
    assert outcome.error.exc_type == "ValueError"


def test_listed_exceptions_are_retried_by_themselves(app: Umbel, job: MakeJob, run: Run) -> None:
    @app.task(
        name="auto",
        autoretry_for=(OSError,),
        dont_autoretry_for=(FileNotFoundError,),
        max_retries=2,
        retry_backoff=True,
        retry_jitter=False,
    )
    def auto(error: str) -> None:
        raise {"os": OSError, "missing": FileNotFoundError, "other": ValueError}[error]("x")

    before = app.clock.time()
    message = retry_of(run(job("auto", "os", headers={"retries": 1})))

    assert message.due_at is not None
    assert 1.9 < message.due_at - before < 3
    assert isinstance(run(job("auto", "missing")), Failure)
    assert isinstance(run(job("auto", "other")), Failure)
    assert isinstance(run(job("auto", "os", headers={"retries": 2})), Failure)


def test_handlers_are_told_in_order(app: Umbel, job: MakeJob, run: Run) -> None:
    told: list[tuple[Any, ...]] = []

    class Told(Task[..., Any]):
        def before_start(self, task_id: str, args: Any, kwargs: Any) -> None:
            told.append(("before_start",))

        def on_success(self, retval: Any, task_id: str, args: Any, kwargs: Any) -> None:
            told.append(("on_success", retval))

        def on_failure(self, exc: Any, task_id: str, args: Any, kwargs: Any, einfo: Any) -> None:
            told.append(("on_failure", type(exc)))

        def on_retry(self, exc: Any, task_id: str, args: Any, kwargs: Any, einfo: Any) -> None:
            told.append(("on_retry", type(exc)))

        def after_return(
            self, status: str, retval: Any, task_id: str, args: Any, kwargs: Any, einfo: Any
        ) -> None:
            told.append(("after_return", status))

    @app.task(name="told", base=Told, bind=True)
    def task(self: Told, what: str) -> str:
        if what == "fail":
            raise ValueError(what)
        if what == "retry":
            self.retry(exc=KeyError(what))
        return what

    for what in ("ok", "fail", "retry"):
        run(job("told", what))

    assert told == [
        ("before_start",),
        ("on_success", "ok"),
        ("after_return", "SUCCESS"),
        ("before_start",),
        ("on_failure", ValueError),
        ("after_return", "FAILURE"),
        ("before_start",),
        ("on_retry", KeyError),
        ("after_return", "RETRY"),
    ]


def test_a_failing_handler_changes_nothing(app: Umbel, job: MakeJob, run: Run) -> None:
    class Broken(Task[..., Any]):
        def on_success(self, retval: Any, task_id: str, args: Any, kwargs: Any) -> None:
            raise RuntimeError("handler")

    app.task(name="ok", base=Broken)(lambda: 1)

    assert isinstance(run(job("ok")), Success)


def test_context_variables_end_with_their_run(app: Umbel, job: MakeJob, run: Run) -> None:
    variable: ContextVar[str] = ContextVar("variable", default="unset")

    @app.task(name="sets")
    def sets() -> str:
        found = variable.get()
        variable.set("set")
        return found

    for _ in range(2):
        outcome = run(job("sets"))
        assert isinstance(outcome, Success)
        assert outcome.value == b'"unset"'
    assert variable.get() == "unset"


@pytest.mark.parametrize("countdown", ["soon", float("inf"), 1e300])
def test_a_retry_that_cannot_be_made_is_a_failure(
    app: Umbel, job: MakeJob, run: Run, countdown: object
) -> None:
    @app.task(name="odd", autoretry_for=(ValueError,), retry_kwargs={"countdown": countdown})
    def odd() -> None:
        raise ValueError("why")

    assert isinstance(run(job("odd")), Failure)


def test_a_handler_that_exits_ends_nothing(app: Umbel, job: MakeJob, run: Run) -> None:
    class Leaves(Task[..., Any]):
        def on_success(self, retval: Any, task_id: str, args: Any, kwargs: Any) -> None:
            raise SystemExit(3)

    app.task(name="leaves", base=Leaves)(lambda: 1)

    assert isinstance(run(job("leaves")), Success)


class Interrupting:
    """A guard in whose own calls an interruption arrives."""

    def __init__(self, at: str):
        self._at = at
        self.is_armed = False

    def begin(self, soft_limit_s: float | None) -> None:
        self.is_armed = True
        if self._at == "begin":
            raise ShutdownInterrupt

    def end(self) -> None:
        if self._at == "end":
            self._at = ""
            raise ShutdownInterrupt
        self.is_armed = False


@pytest.mark.parametrize("at", ["begin", "end"])
def test_an_interruption_at_the_very_edge_of_a_task_leaves_no_guard_armed(
    app: Umbel, job: MakeJob, at: str
) -> None:
    app.task(name="t")(lambda: 1)
    guard = Interrupting(at)

    outcome = run_sync(job("t"), guard, app.clock.time)

    assert isinstance(outcome, Rejected)
    assert outcome.requeue
    assert not guard.is_armed


def test_a_parameter_annotated_as_request_gets_the_running_one(
    app: Umbel, job: MakeJob, run: Run
) -> None:
    seen: list[Any] = []

    @app.task(name="look")
    def look(x: int, request: Request | None = None, other: Request = NO_REQUEST) -> int:
        seen.append((request, other))
        return x

    one = job("look", 5)
    outcome = run(one)

    assert isinstance(outcome, Success)
    assert seen == [(one.request, one.request)]
    assert look(6) == 6
    assert seen[1] == (None, NO_REQUEST)
