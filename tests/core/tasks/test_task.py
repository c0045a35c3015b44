from __future__ import annotations

import asyncio
import dataclasses
import json
import subprocess
import sys
import threading
from enum import Enum

import pytest

from umbel import Signature, Task, current_request
from umbel.errors import InvalidTaskError, TaskArgumentsError
from umbel.requests import Request, reset_current_request, set_current_request


class Color(Enum):
    RED = "red"


@dataclasses.dataclass
class Point:
    x: int


@pytest.fixture
def add(app):
    """The task proj.add."""

    @app.task(name="proj.add")
    def add(x: int, y: int = 2) -> int:
        return x + y

    return add


@pytest.fixture
def inside():
    """Makes a request the current one for the rest of the test."""
    tokens = []

    def enter(children=None, **fields):
        fields.setdefault("called_directly", False)
        tokens.append(set_current_request(Request(**fields), children))

    yield enter
    for each in reversed(tokens):
        reset_current_request(each)


# -- calling ----------------------------------------------------------------------------------


def test_call_runs_the_function_here(app, add, waiting):
    assert add(2, 3) == 5
    assert waiting(app) == []


def test_call_of_an_async_task_is_a_coroutine(app):
    @app.task
    async def double(x):
        return x * 2

    assert asyncio.run(double(4)) == 8


def test_delay_sends_its_arguments(app, add, waiting):
    result = add.delay(2, y=3)

    (message,) = waiting(app)
    assert (message.task, message.id) == ("proj.add", result.id)
    assert json.loads(message.body)[:2] == [[2], {"y": 3}]


def test_apply_async_takes_options_beside_the_arguments(app, add, waiting, clock):
    add.apply_async(
        (2,), {"y": 3}, queue="slow", priority=5, task_id="mine", countdown=60, headers={"my": 1}
    )

    clock.advance(60)
    (message,) = waiting(app, "slow")
    assert (message.id, message.priority, message.due_at) == ("mine", 5, clock.time())
    assert message.headers["my"] == 1


def test_apply_async_needs_no_arguments(app, waiting):
    app.task(name="proj.ping")(lambda: "pong").apply_async()

    assert json.loads(waiting(app)[0].body)[:2] == [[], {}]


def test_arguments_may_come_from_any_iterable(app, add, waiting):
    add.apply_async(iter([2, 3]))

    assert json.loads(waiting(app)[0].body)[0] == [2, 3]


@pytest.mark.parametrize("args", ["abc", b"abc", {"x": 1}])
def test_text_in_the_place_of_arguments_is_refused(add, args):
    with pytest.raises(InvalidTaskError, match="args must be a list or tuple"):
        add.apply_async(args)


def test_wrong_arguments_are_refused_at_the_call(app, add, waiting):
    with pytest.raises(TaskArgumentsError, match=r"'proj\.add' is missing argument 'x'"):
        add.delay()

    assert waiting(app) == []


def test_check_of_arguments_can_be_switched_off(app, waiting):
    app.task(name="proj.free", typing=False)(lambda x: x).delay(1, 2, 3)

    assert len(waiting(app)) == 1


def test_unknown_option_is_refused_with_the_near_one(add):
    with pytest.raises(InvalidTaskError, match="no option 'countdwon'; did you mean 'countdown'"):
        add.apply_async((1,), countdwon=3)


def test_options_of_the_task_travel_with_each_send(app, waiting, clock):
    @app.task(
        queue="slow", priority=4, expires=60, time_limit=30, soft_time_limit=20, shadow="short"
    )
    def work():
        return 1

    work.delay()

    (message,) = waiting(app, "slow")
    assert (message.priority, message.expires_at) == (4, clock.time() + 60)
    assert message.headers["timelimit"] == [30, 20]
    assert message.headers["shadow"] == "short"


def test_limits_of_the_settings_stay_with_the_worker(make_app, waiting):
    app = make_app(task_time_limit=30)
    app.task(name="t")(lambda: 1).delay()

    assert waiting(app)[0].headers["timelimit"] == [None, None]


def test_option_of_the_call_wins_over_the_tasks(app, waiting):
    app.task(name="t", queue="slow", priority=4)(lambda: 1).apply_async(queue="quick", priority=1)

    assert waiting(app, "quick")[0].priority == 1


def test_typed_arguments_are_sent_plain(app, waiting):
    @app.task(typing=True)
    def paint(point: Point, color: Color) -> None:
        return None

    paint.delay(Point(1), color=Color.RED)

    assert json.loads(waiting(app)[0].body)[:2] == [[{"x": 1}], {"color": "red"}]


def test_map_sends_one_call_for_each_item(app, add, waiting):
    results = add.map_async([(1, 2), (3,), 5])

    sent = waiting(app)
    assert [message.id for message in sent] == [result.id for result in results]
    assert [json.loads(message.body)[0] for message in sent] == [[1, 2], [3], [5]]


def test_map_takes_a_generator_batch_by_batch(app, add, flaky_broker):
    taken, taken_at_send = [], []

    class Watching(flaky_broker):
        def send(self, messages):
            taken_at_send.append(len(taken))

    items = (taken.append(number) or number for number in range(7))

    add.map_async(items, batch=3, producer=Watching())

    assert taken_at_send == [3, 6, 7]


def test_map_of_nothing_sends_nothing(add):
    assert add.map_async([]) == []


def test_map_refuses_a_batch_below_one(add):
    with pytest.raises(InvalidTaskError, match="batch must be 1 or more, not 0"):
        add.map_async([1], batch=0)


def test_async_twins_send_too(app, add, waiting):
    async def send():
        return [
            await add.adelay(1),
            await add.aapply_async((2,), queue="slow"),
            *await add.amap_async([3, 4]),
        ]

    results = asyncio.run(send())

    assert [m.id for m in waiting(app)] == [results[0].id, results[2].id, results[3].id]
    assert [m.id for m in waiting(app, "slow")] == [results[1].id]


def test_async_twin_sends_off_the_event_loop(app, add, flaky_broker):
    threads = []

    class Watching(flaky_broker):
        def send(self, messages):
            threads.append(threading.current_thread())

    asyncio.run(add.aapply_async((1,), producer=Watching()))

    assert threads != [threading.main_thread()]


# -- signatures -------------------------------------------------------------------------------


def test_signatures_hold_the_call(add):
    assert add.s(1, y=2) == Signature(task="proj.add", args=(1,), kwargs={"y": 2})
    assert add.si(1, 2) == Signature(task="proj.add", args=(1, 2), immutable=True)
    assert add.signature((1,), {"y": 2}, queue="q", immutable=True) == Signature(
        task="proj.add", args=(1,), kwargs={"y": 2}, options={"queue": "q"}, immutable=True
    )
    assert add.subtask((1,)) == add.s(1)


def test_typed_arguments_are_plain_in_a_signature(app):
    @app.task
    def paint(point: Point, color: Color) -> None:
        return None

    assert paint.s(Color.RED).args == ("red",)
    assert paint.si(Point(1), color=Color.RED).args == ({"x": 1},)
    assert paint.signature((Point(1),), {"color": Color.RED}).kwargs == {"color": "red"}


# -- inside a run -----------------------------------------------------------------------------


def test_request_is_empty_outside_of_tasks(add):
    assert add.request.id is None
    assert add.request.called_directly is True


def test_request_is_that_of_the_run(add, inside):
    inside(id="1", task="proj.add")

    assert add.request.id == "1"


def test_task_called_as_a_function_inside_another_has_a_request_of_its_own(app, inside):
    @app.task(name="proj.inner")
    def inner(x):
        return current_request()

    inside(id="outer", task="proj.outer", root_id="root")

    request = inner(3)

    assert (request.id, request.task, request.args) == (None, "proj.inner", (3,))
    assert (request.called_directly, request.parent_id, request.root_id) == (True, "outer", "root")
    assert current_request().id == "outer"


def test_async_task_called_inside_another_has_a_request_of_its_own(app, inside):
    @app.task(name="proj.inner")
    async def inner():
        await asyncio.sleep(0)
        return current_request().task

    inside(id="outer", task="proj.outer")

    assert asyncio.run(inner()) == "proj.inner"


def test_overridden_call_keeps_the_request_of_the_run(app, inside):
    class Wrapping(Task):
        def __call__(self, *args, **kwargs):
            return super().__call__(*args, **kwargs)

    task = app.task(name="proj.wrapped", base=Wrapping)(lambda: current_request().id)
    inside(id="1", task="proj.wrapped")

    assert task() == "1"


def test_what_a_task_sends_is_noted_as_its_child(app, add, inside, waiting):
    children = []
    inside(children, id="p1", task="proj.parent", root_id="r1")

    result = add.delay(1)

    headers = waiting(app)[0].headers
    assert children == [[[result.id, None], None]]
    assert (headers["root_id"], headers["parent_id"]) == ("r1", "p1")


def test_child_is_noted_from_a_task_called_as_a_function_too(app, add, inside, waiting):
    @app.task(name="proj.middle")
    def middle():
        return add.delay(1)

    children = []
    inside(children, id="p1", task="proj.parent", root_id="r1")

    result = middle()

    assert children == [[[result.id, None], None]]
    assert waiting(app)[0].headers["parent_id"] == "p1"


def test_call_may_stay_out_of_the_trail(add, inside):
    children = []
    inside(children, id="p1", task="proj.parent")

    add.apply_async((1,), add_to_parent=False)

    assert children == []


def test_task_without_trail_notes_no_children(app, add, inside):
    app.task(name="proj.parent", trail=False)(lambda: 1)
    children = []
    inside(children, id="p1", task="proj.parent")

    add.delay(1)

    assert children == []


def test_priority_of_the_parent_is_inherited_where_the_settings_say_so(make_app, inside, waiting):
    app = make_app(task_inherit_parent_priority=True)
    plain = app.task(name="plain")(lambda: 1)
    urgent = app.task(name="urgent", priority=9)(lambda: 1)
    inside(id="p1", task="proj.parent", delivery_info={"priority": 6})

    plain.delay()
    plain.apply_async(priority=3)
    urgent.delay()

    assert {m.task + str(m.priority) for m in waiting(app)} == {"plain6", "plain3", "urgent9"}


def test_update_state_stores_the_state_of_the_run(app, add, inside):
    inside(id="1", task="proj.add")

    add.update_state(state="PROGRESS", meta={"done": 3})

    result = add.AsyncResult("1")
    assert (result.state, result.info) == ("PROGRESS", {"done": 3})


def test_update_state_takes_another_tasks_id(app, add):
    add.update_state("other", meta=[1])

    assert app.AsyncResult("other").state == "PROGRESS"


def test_update_state_outside_a_run_needs_an_id(add):
    with pytest.raises(InvalidTaskError, match=r"update_state\(\) of 'proj\.add' needs a task_id"):
        add.update_state(state="PROGRESS")


def test_update_state_without_a_backend_does_nothing(make_app, inside):
    task = make_app(result_backend="disabled").task(name="t")(lambda: 1)
    inside(id="1", task="t")

    task.update_state(state="PROGRESS")

    assert task.backend is None


def test_task_is_told_that_it_was_revoked_while_it_runs(app, add, inside):
    inside(id="1", task="proj.add")
    assert not add.is_aborted()

    app.control.revoke("1")

    assert add.is_aborted()
    assert not add.is_aborted("2")


def test_nothing_is_revoked_outside_of_a_run(add):
    assert add.is_aborted() is False


# -- around -----------------------------------------------------------------------------------


def test_task_knows_its_app_and_backend(app, add):
    assert add.app is app
    assert add.backend is app.backend


def test_result_of_an_annotated_task_has_its_type(app):
    @app.task
    def locate() -> Point:
        return Point(3)

    with app.worker(pool="solo"):
        result = locate.delay()

        assert result.get(timeout=10) == Point(3)
        assert locate.AsyncResult(result.id).result == Point(3)


def test_sending_doesnt_import_asyncio():
    code = (
        "import sys\n"
        "from umbel import Umbel\n"
        "app = Umbel('x', broker='memory://')\n"
        "@app.task\n"
        "def add(x, y): return x + y\n"
        "add.delay(1, 2); add.map_async([(1, 2)]); app.send_task('x.y')\n"
        "print([m for m in ('asyncio', 'sqlite3', 'multiprocessing', 'pydantic', 'umbel.worker')"
        " if m in sys.modules])\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert done.stdout.strip() == "[]"
