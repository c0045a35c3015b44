from __future__ import annotations

import asyncio
import dataclasses
import json

import pytest

from umbel import Ignore, Signature
from umbel.errors import DecodeError, InvalidTaskError, TaskArgumentsError, UnknownTaskError
from umbel.requests import Request


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


# -- by name --------------------------------------------------------------------------------------


def test_task_is_sent_by_name_alone(app, waiting):
    result = app.send_task("elsewhere.t", (1,), {"y": 2}, queue="slow", task_id="mine")

    (message,) = waiting(app, "slow")
    assert (message.task, message.id, result.id, result.name) == (
        "elsewhere.t",
        "mine",
        "mine",
        "elsewhere.t",
    )
    assert json.loads(message.body)[:2] == [[1], {"y": 2}]


def test_arguments_of_a_name_arent_checked(app, add, waiting):
    app.send_task("proj.add", (1, 2, 3, 4))

    assert len(waiting(app)) == 1


def test_async_twins_send_too(app, add, waiting):
    async def send():
        one = await app.asend_task("proj.add", (1,))
        two = await app.asend(add.s(2))
        return [one, two, *await app.asend_many([add.s(3)])]

    results = asyncio.run(send())

    assert [message.id for message in waiting(app)] == [result.id for result in results]


# -- signatures and many ------------------------------------------------------------------------


def test_signature_is_sent_with_its_options(app, add, waiting):
    app.send(add.signature((1,), queue="slow", priority=1), priority=5)

    assert waiting(app, "slow")[0].priority == 5


def test_signature_of_a_known_task_is_checked(app, add):
    with pytest.raises(TaskArgumentsError):
        app.send(add.s())


def test_many_kinds_of_calls_are_sent_together(app, add, flaky_broker):
    broker = flaky_broker()
    how = {"producer": broker}

    results = app.send_many(
        [
            Signature(task="elsewhere.t", args=(1,), options=how),
            add.signature((2,), **how),
            (add, (3,), None, how),
            ("proj.add", [4], {"y": 5}, how),
        ]
    )

    (batch,) = broker.batches
    assert [message.id for message in batch] == [result.id for result in results]
    assert [json.loads(message.body)[:2] for message in batch] == [
        [[1], {}],
        [[2], {}],
        [[3], {}],
        [[4], {"y": 5}],
    ]


def test_call_may_be_a_task_alone(app, add, waiting):
    app.send_many([("elsewhere.t",)])

    assert waiting(app)[0].task == "elsewhere.t"


@pytest.mark.parametrize("call", [(), ("t", (), {}, {}, 5)])
def test_tuple_of_another_length_is_no_call(app, call):
    with pytest.raises(InvalidTaskError, match=r"a call is \(task, args, kwargs, options\)"):
        app.send_many([call])


def test_ten_thousand_go_in_ten_batches(app, add, flaky_broker):
    broker = flaky_broker()

    app.send_many((add, (number,), {}, {"producer": broker}) for number in range(10_000))

    assert [len(batch) for batch in broker.batches] == [1000] * 10


# -- composing ------------------------------------------------------------------------------------


def test_message_of_a_signature_follows_from_its_parent(app, add, waiting):
    parent = Request(id="p1", root_id="r1", called_directly=False)

    message = app.message_for(add.signature((1,), task_id="mine", queue="q"), parent=parent)

    assert (message.id, message.queue) == ("mine", "q")
    assert (message.headers["root_id"], message.headers["parent_id"]) == ("r1", "p1")
    assert waiting(app, "q") == []


def test_message_passes_over_options_that_only_foreign_clients_know(app):
    foreign = Signature(
        task="t",
        options={"interval": 1, "stamped_headers": ["tag"], "tag": "x", "priority": 3},
    )

    message = app.message_for(foreign)

    assert (message.priority, message.headers["stamps"]) == (3, {"tag": "x"})


# -- results ------------------------------------------------------------------------------------


def test_result_of_an_ignored_call_is_there_at_once(app, add):
    assert add.apply_async((1,), ignore_result=True).get() is None


def test_result_may_be_asked_for_although_the_task_ignores_it(make_app):
    app = make_app()

    @app.task(ignore_result=True)
    def quiet():
        return 1

    assert quiet.delay().ignored is True
    assert quiet.apply_async(ignore_result=False).ignored is False


def test_result_is_found_by_id(app, add):
    assert app.AsyncResult("some-id", "proj.add").name == "proj.add"
    assert app.AsyncResult("some-id").state == "PENDING"


def test_revoke_of_a_result_goes_to_the_workers(app, add):
    result = add.delay(1)

    result.revoke()

    assert app.coordinator.get([f"revoked/{result.id}"]) == {f"revoked/{result.id}": b"revoked"}


def test_stored_value_that_isnt_what_was_annotated_is_a_decode_error(make_app):
    app = make_app()

    @app.task(name="t")
    def locate() -> Point:
        return {"x": "one"}

    with app.worker(pool="solo"), pytest.raises(DecodeError, match=r"'t'.*annotated to return"):
        locate.delay().get(timeout=10)


# -- running here ---------------------------------------------------------------------------------


def test_apply_runs_here_and_sends_nothing(app, add, waiting):
    result = add.apply((2, 3))

    assert (result.get(), result.state, result.name) == (5, "SUCCESS", "proj.add")
    assert (result.args, result.kwargs, result.retries) == ((2, 3), {}, 0)
    assert waiting(app) == []


def test_apply_serializes_as_on_the_way_to_a_worker(app):
    seen = []
    app.task(name="t")(seen.append).apply(((1, 2),))

    assert seen == [[1, 2]]


def test_apply_keeps_the_error_for_who_asks(app):
    @app.task
    def fails():
        raise KeyError("k")

    result = fails.apply()

    assert result.state == "FAILURE"
    assert "KeyError" in result.traceback
    with pytest.raises(KeyError):
        result.get()


@pytest.mark.parametrize("how", ["argument", "setting"])
def test_apply_raises_at_once_where_it_is_told_to(make_app, how):
    app = make_app(task_eager_propagates=how == "setting")

    @app.task
    def fails():
        raise KeyError("k")

    with pytest.raises(KeyError):
        fails.apply(throw=True if how == "argument" else None)


def test_apply_retries_at_once(app):
    @app.task(bind=True)
    def flaky(self):
        if self.request.retries < 3:
            raise self.retry(countdown=60)
        return self.request.retries

    result = flaky.apply()

    assert (result.get(), result.retries) == (3, 3)


def test_apply_of_an_async_task(app):
    @app.task
    async def double(x):
        await asyncio.sleep(0)
        return x * 2

    assert double.apply((4,)).get() == 8


def test_apply_of_a_task_that_ignores_itself(app):
    @app.task
    def ignoring():
        raise Ignore

    assert ignoring.apply().state == "IGNORED"


def test_always_eager_runs_at_the_call(make_app, waiting):
    app = make_app(task_always_eager=True)
    add = app.task(name="proj.add")(lambda x, y: x + y)

    assert add.delay(1, 2).get() == 3
    assert app.send_task("proj.add", (1, 2)).get() == 3
    assert [result.get() for result in add.map_async([(1, 2), (3, 4)])] == [3, 7]
    assert waiting(app) == []


def test_always_eager_may_be_switched_on_late(app, add, waiting):
    add.delay(1)
    app.conf.task_always_eager = True

    assert add.delay(1).get() == 3
    assert len(waiting(app)) == 1


def test_eager_results_are_stored_where_the_settings_say_so(make_app):
    app = make_app(task_store_eager_result=True)
    task = app.task(name="t")(lambda: 7)

    result = task.apply()

    assert app.AsyncResult(result.id).get(timeout=10) == 7


def test_unknown_task_cant_run_here(make_app):
    app = make_app(task_always_eager=True)

    with pytest.raises(UnknownTaskError, match="nowhere"):
        app.send_task("nowhere.t")
