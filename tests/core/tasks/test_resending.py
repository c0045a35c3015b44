from __future__ import annotations

import dataclasses
import json
from datetime import UTC, datetime, timedelta

import pytest

from umbel.errors import Ignore, MaxRetriesExceededError, Retry
from umbel.requests import Request, reset_current_request, set_current_request


@dataclasses.dataclass
class Point:
    x: int


@pytest.fixture
def task(app):
    """A task with three retries, five seconds apart."""
    return app.task(name="proj.fetch", default_retry_delay=5)(lambda *args, **kwargs: None)


@pytest.fixture
def running():
    """Makes a run of ``proj.fetch`` the current one for the rest of the test."""
    tokens = []

    def enter(**fields):
        request = Request(id="1", task="proj.fetch", called_directly=False, **fields)
        tokens.append(set_current_request(request))

    yield enter
    for each in reversed(tokens):
        reset_current_request(each)


def test_retry_raises_the_signal(task, running):
    running()

    with pytest.raises(Retry) as caught:
        task.retry()

    assert (caught.value.when, caught.value.exc, caught.value.override) == (5, None, {})


@pytest.mark.parametrize(
    "given, when",
    [
        ({"countdown": 3}, 3),
        ({"countdown": 0}, 0),
        ({"countdown": timedelta(minutes=1)}, 60),
        (
            {"eta": datetime(2031, 1, 1, tzinfo=UTC)},
            datetime(2031, 1, 1, tzinfo=UTC),
        ),
        ({"countdown": 3, "eta": datetime(2031, 1, 1, tzinfo=UTC)}, 3),
    ],
)
def test_retry_says_when(task, running, given, when):
    running()

    with pytest.raises(Retry) as caught:
        task.retry(**given)

    assert caught.value.when == when


def test_cause_travels_with_the_signal(task, running):
    running()
    cause = OSError("down")

    with pytest.raises(Retry) as caught:
        task.retry(exc=cause)

    assert caught.value.exc is cause
    assert caught.value.__cause__ is cause


def test_next_run_may_get_other_arguments_and_options(task, running):
    running(args=[1], kwargs={"x": 1})

    with pytest.raises(Retry) as caught:
        task.retry(args=(2,), kwargs={"x": 2}, queue="slow", priority=None, time_limit=9)

    assert caught.value.override == {
        "args": [2],
        "kwargs": {"x": 2},
        "queue": "slow",
        "time_limit": 9,
    }


def test_last_retry_used_raises_the_cause(task, running):
    running(retries=3)

    with pytest.raises(OSError, match="down"):
        task.retry(exc=OSError("down"))


def test_last_retry_used_without_cause_says_what_cant_be_retried(task, running):
    running(retries=3, argsrepr="(1,)", kwargsrepr="{}")

    with pytest.raises(
        MaxRetriesExceededError,
        match=r"can't retry proj\.fetch\[1\] args: \(1,\) kwargs: {}: its 3 retries are used up",
    ):
        task.retry()
    assert task.MaxRetriesExceededError is MaxRetriesExceededError


def test_call_may_set_another_limit(task, running):
    running(retries=3)

    with pytest.raises(Retry):
        task.retry(max_retries=4)
    with pytest.raises(MaxRetriesExceededError):
        task.retry(max_retries=0)


def test_no_limit_retries_for_ever(app, running):
    task = app.task(name="proj.fetch", max_retries=None)(lambda: None)
    running(retries=10_000)

    with pytest.raises(Retry):
        task.retry()


def test_task_called_as_a_function_raises_the_cause(task):
    with pytest.raises(OSError, match="down"):
        task.retry(exc=OSError("down"))


def test_task_called_as_a_function_raises_what_is_being_handled(task):
    with pytest.raises(KeyError, match="k"):
        try:
            raise KeyError("k")
        except KeyError:
            task.retry()


def test_task_called_as_a_function_without_an_error_says_so(task):
    with pytest.raises(Retry, match="called directly"):
        task.retry()


def test_retry_without_throw_sends_the_next_run_and_goes_on(app, task, running, waiting, clock):
    running(
        args=[1],
        kwargs={"x": 2},
        root_id="r",
        group="g",
        group_index=2,
        retries=1,
        timelimit=(30, 20),
        callbacks=[{"task": "proj.log", "args": [], "kwargs": {}}],
        headers={"my": "hdr", "task": "proj.fetch"},
        delivery_info={"routing_key": "slow", "priority": 4},
        stamped_headers=["tag"],
        stamps={"tag": "x"},
    )

    returned = task.retry(throw=False, countdown=10)

    clock.advance(10)
    (message,) = waiting(app, "slow")
    assert (message.id, message.priority, message.due_at) == ("1", 4, clock.time())
    headers = message.headers
    assert (headers["retries"], headers["root_id"], headers["parent_id"]) == (2, "r", "1")
    assert (headers["group"], headers["group_index"], headers["timelimit"]) == ("g", 2, [30, 20])
    assert (headers["my"], headers["stamps"]) == ("hdr", {"tag": "x"})
    body = json.loads(message.body)
    assert body[:2] == [[1], {"x": 2}]
    assert body[2]["callbacks"][0]["task"] == "proj.log"
    # Raised, it ends the run and stores nothing: the next run's result is the one.
    assert isinstance(returned, Ignore)


def test_retry_without_throw_takes_other_arguments(app, task, running, waiting, clock):
    running(args=[1])

    task.retry(throw=False, args=[7], eta=datetime(2031, 1, 1, tzinfo=UTC), queue="other")

    clock.advance("400d")
    (message,) = waiting(app, "other")
    assert json.loads(message.body)[0] == [7]
    assert message.headers["eta"] == "2031-01-01T00:00:00+00:00"


def test_task_that_retries_runs_again_until_it_succeeds(make_app):
    app = make_app()

    @app.task(bind=True)
    def flaky(self, x):
        if self.request.retries < 2:
            raise self.retry(countdown=0.01, args=(x + 1,))
        return x

    with app.worker(pool="solo"):
        assert flaky.delay(1).get(timeout=10) == 3


def test_typed_arguments_of_the_next_run_are_sent_plain(make_app):
    app = make_app()

    @app.task(bind=True)
    def walk(self, point: Point, steps: int = 0) -> Point:
        if point.x < 3:
            raise self.retry(args=(Point(point.x + 1),), kwargs={"steps": steps + 1}, countdown=0)
        return point

    with app.worker(pool="solo"):
        assert walk.delay(Point(1)).get(timeout=10) == Point(3)


def test_run_as_a_signature_keeps_its_id_and_all_that_follows_from_it(task, running):
    after = {"task": "proj.log", "args": [], "kwargs": {}}
    running(
        args=[1],
        kwargs={"x": 2},
        root_id="r",
        parent_id="p",
        group="g",
        group_index=2,
        retries=1,
        timelimit=(30, 20),
        callbacks=[after],
        errbacks=[after],
        chain=[after],
        chord=after,
        headers={"my": "hdr", "task": "proj.fetch"},
        delivery_info={"routing_key": "slow", "priority": 4},
        stamped_headers=["tag"],
        stamps={"tag": "x"},
    )

    found = task.signature_from_request()
    assert (found.task, found.args, found.kwargs) == ("proj.fetch", (1,), {"x": 2})
    expected = {
        "task_id": "1",
        "root_id": "r",
        "parent_id": "p",
        "group_id": "g",
        "group_index": 2,
        "retries": 1,
        "time_limit": 30,
        "soft_time_limit": 20,
        "link": [after],
        "link_error": [after],
        "chain": [after],
        "chord": after,
        "headers": {"my": "hdr"},
        "queue": "slow",
        "priority": 4,
        "stamped_headers": ["tag"],
        "stamps": {"tag": "x"},
    }
    assert expected.items() <= found.options.items()


def test_run_as_a_signature_takes_what_is_given(task, running):
    running(args=[1], delivery_info={"routing_key": "slow"})
    request = Request(id="2", args=[5])

    found = task.subtask_from_request(request, kwargs={"y": 1}, queue="fast", countdown=3)
    assert (found.args, found.kwargs, found.id) == ((5,), {"y": 1}, "2")
    assert (found.options["queue"], found.options["countdown"]) == ("fast", 3)
    assert task.signature_from_request(args=(7,)).args == (7,)
