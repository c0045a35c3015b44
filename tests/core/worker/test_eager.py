"""`task.apply()`: here and now, by the code that a worker runs."""

from __future__ import annotations

import asyncio
import contextvars
import time
from typing import Any

import pytest

from umbel import Umbel
from umbel.errors import (
    Ignore,
    InvalidTaskError,
    MaxRetriesExceededError,
    Reject,
    SoftTimeLimitExceeded,
)
from umbel.worker.eager_workflows import EagerWorkflow


def test_retries_run_at_once_until_there_are_no_more(app: Umbel) -> None:
    seen: list[int] = []

    @app.task(bind=True, max_retries=3, default_retry_delay=3600)
    def flaky(self: Any, failures: int) -> str:
        seen.append(self.request.retries)
        if len(seen) <= failures:
            raise self.retry(exc=ValueError("again"))
        return "at last"

    assert flaky.apply((2,)).get() == "at last"
    assert seen == [0, 1, 2]
    seen.clear()
    result = flaky.apply((99,))
    assert (result.state, seen) == ("FAILURE", [0, 1, 2, 3])
    with pytest.raises(ValueError, match="again"):
        result.get()


def test_a_task_out_of_retries_without_a_cause_says_so(app: Umbel) -> None:
    @app.task(bind=True, max_retries=0)
    def never(self: Any) -> None:
        self.retry()

    with pytest.raises(MaxRetriesExceededError):
        never.apply().get()


def test_a_retry_with_new_arguments_gets_them(app: Umbel) -> None:
    @app.task(bind=True, max_retries=None)
    def grows(self: Any, x: int) -> int:
        if x < 5:
            self.retry(args=(x + 1,), countdown=60)
        return x

    assert grows.apply((0,)).get() == 5


def test_callbacks_and_errbacks_run_after_it(app: Umbel) -> None:
    seen: list[Any] = []
    note = app.task(name="note")(lambda *args: seen.append(args))

    @app.task(name="work")
    def work(fails: bool) -> str:
        seen.append("work")
        if fails:
            raise ValueError("no")
        return "value"

    done = work.apply((False,), link=note.s("called"), link_error=note.s("errored"))
    failed = work.apply((True,), link=note.s("called"), link_error=note.s("errored"))

    assert seen == ["work", ("value", "called"), "work", (failed.id, "errored")]
    assert done.get() == "value"


def test_a_chain_runs_to_its_end(app: Umbel) -> None:
    seen: list[int] = []

    @app.task(name="add")
    def add(x: int, y: int) -> int:
        seen.append(x + y)
        return x + y

    result = add.apply((1, 1), chain=[add.s(100).to_dict(), add.s(10).to_dict()])

    assert result.get() == 2
    assert seen == [2, 12, 112]


@pytest.mark.parametrize("in_loop", [False, True])
def test_an_async_task_runs_also_where_a_loop_is_running(app: Umbel, in_loop: bool) -> None:
    variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable", default="unset")

    @app.task(bind=True)
    async def nap(self: Any) -> tuple[str, bool, str]:
        await asyncio.sleep(0)
        return variable.get(), self.request.is_eager, self.request.task

    async def main() -> Any:
        return nap.apply().get(disable_sync_subtasks=False)

    token = variable.set("seen")
    try:
        value = asyncio.run(main()) if in_loop else nap.apply().get()
    finally:
        variable.reset(token)
    assert tuple(value) == ("seen", True, nap.name)


def test_an_async_task_leaves_nothing_running(app: Umbel) -> None:
    ended: list[str] = []

    async def background() -> None:
        try:
            await asyncio.sleep(60)
        finally:
            ended.append("cancelled")

    @app.task()
    async def starts() -> None:
        starts.waste = asyncio.ensure_future(background())  # type: ignore[attr-defined]
        await asyncio.sleep(0)

    starts.apply().get()

    assert ended == ["cancelled"]


def test_a_time_limit_is_raised_in_it(app: Umbel) -> None:
    @app.task(soft_time_limit=0.05)
    def spins() -> None:
        ends_at = time.monotonic() + 60
        while time.monotonic() < ends_at:
            pass

    @app.task(time_limit=0.05)
    async def sleeps() -> None:
        await asyncio.sleep(60)

    for task in (spins, sleeps):
        with pytest.raises(SoftTimeLimitExceeded):
            task.apply().get()


def test_a_value_that_cannot_be_encoded_is_a_failure_as_in_a_worker(app: Umbel) -> None:
    result = app.task(name="bad")(object).apply()

    assert result.state == "FAILURE"
    assert result.traceback


@pytest.mark.parametrize("error, state", [(Ignore(), "IGNORED"), (Reject("no"), "IGNORED")])
def test_a_task_that_steers_its_outcome_has_no_value(
    app: Umbel, error: Exception, state: str
) -> None:
    @app.task(name="steers", acks_late=False)
    def steers() -> None:
        raise error

    assert steers.apply().state == state


def test_ctrl_c_is_for_the_program_and_not_for_the_task(app: Umbel) -> None:
    @app.task(name="plain")
    def plain() -> None:
        raise KeyboardInterrupt

    @app.task(name="async")
    async def coroutine() -> None:
        raise KeyboardInterrupt

    for task in (plain, coroutine):
        with pytest.raises(KeyboardInterrupt):
            task.apply()


def test_a_task_that_exits_has_failed(app: Umbel) -> None:
    @app.task(name="leaves")
    def leaves() -> None:
        raise SystemExit(3)

    assert leaves.apply().state == "FAILURE"


def test_an_async_task_that_cancels_itself_as_it_returns_has_its_value(app: Umbel) -> None:
    @app.task(name="odd")
    async def odd() -> str:
        task = asyncio.current_task()
        assert task is not None
        task.cancel()
        return "done"

    assert odd.apply().get() == "done"


def test_a_message_that_cannot_be_run_says_why(app: Umbel, message: Any) -> None:
    app.task(name="t")(lambda: 1)

    with pytest.raises(InvalidTaskError, match="keyword arguments"):
        EagerWorkflow(app, app.results, lambda: None).run([message("t", body=b"[[], [], {}]")])


def test_results_are_stored_where_that_is_wanted(app: Umbel, message: Any) -> None:
    app.task(name="t", store_eager_result=True)(lambda: "stored")
    app.task(name="u")(lambda: "kept nowhere")
    sent, other = message("t"), message("u")

    EagerWorkflow(app, app.results, lambda: app.backend).run([sent, other])

    assert app.AsyncResult(sent.id).get(timeout=1) == "stored"
    assert not app.AsyncResult(other.id).exists()
