from __future__ import annotations

import asyncio
import gc
import os
import time

import pytest

from umbel import Ignore, signals
from umbel.events import EVENTS, notify
from umbel.messages import Delivery, Malformed, Message
from umbel.outcomes import ErrorInfo, Ignored, Rejected, Revoked
from umbel.requests import Request
from umbel.signal_bridge import _FROM_EVENTS
from umbel.signals import SIGNALS

REQUEST = Request(
    id="1", task="proj.t", args=[1], kwargs={"x": 2}, hostname="w1@host", called_directly=False
)
ERROR = ErrorInfo("KeyError", "builtins", ["k"])
MESSAGE = Message(id="1", task="proj.t", headers={}, body=b"")
DELIVERY = Delivery(message=MESSAGE, queue="q", receipt="r")


class Worker:
    """What listeners see of a worker."""

    def __init__(self, app):
        self.hostname, self.app = "w1@host", app


@pytest.fixture
def hear(app):
    """Returns the list of what a signal of the app says from now on."""
    kept = []

    def hear(name, source=None):
        heard = []

        def receiver(sender, signal, **named):
            heard.append((sender, named))

        kept.append(receiver)
        getattr(app.signals if source is None else source, name).connect(receiver)
        return heard

    return hear


@pytest.fixture
def tell(app):
    """Tells an event of the app."""
    return lambda event, *args: notify(getattr(app.events, event), *args)


@pytest.fixture
def task(app):
    """The task proj.t."""
    return app.task(name="proj.t")(lambda *args, **kwargs: args[0])


def test_every_signal_is_told_by_something():
    of_publishing = {"before_task_publish", "after_task_publish"}

    assert set(SIGNALS) - set(_FROM_EVENTS) == of_publishing | {"on_configure"}
    assert {event for event, _ in _FROM_EVENTS.values()} <= EVENTS


def test_nobody_connected_costs_no_listener(app):
    assert [event for event in EVENTS if getattr(app.events, event)] == []


def test_signal_that_lost_its_receivers_is_harmless(app, tell, task):
    app.signals.task_success.connect(lambda **named: 1)
    gc.collect()

    tell("task_succeeded", task, REQUEST, 5)


def test_prerun_and_postrun(hear, tell, task):
    before, after = hear("task_prerun"), hear("task_postrun")
    call = {"task_id": "1", "task": task, "args": [1], "kwargs": {"x": 2}}

    tell("task_started", task, REQUEST)
    tell("task_finished", task, REQUEST, Ignored(), None)

    assert before == [(task, call)]
    assert after == [(task, {**call, "retval": None, "state": "IGNORED"})]


@pytest.mark.parametrize(
    "outcome, state", [(Rejected("no"), "REJECTED"), (Revoked("expired"), "REVOKED")]
)
def test_postrun_tells_the_state(hear, tell, task, outcome, state):
    heard = hear("task_postrun")

    tell("task_finished", task, REQUEST, outcome, None)

    assert heard[0][1]["state"] == state


def test_success(hear, tell, task):
    heard = hear("task_success")

    tell("task_succeeded", task, REQUEST, 5)

    assert heard == [(task, {"result": 5})]


def test_failure(hear, tell, task):
    heard = hear("task_failure")
    error = KeyError("k")

    tell("task_failed", task, REQUEST, ERROR, error)

    assert heard == [
        (
            task,
            {
                "task_id": "1",
                "exception": error,
                "args": [1],
                "kwargs": {"x": 2},
                "traceback": None,
                "einfo": ERROR,
            },
        )
    ]


def test_retry(hear, tell, task):
    heard = hear("task_retry")

    tell("task_retried", task, REQUEST, ERROR, "why")

    assert heard == [(task, {"request": REQUEST, "reason": "why", "einfo": ERROR})]


def test_internal_error(hear, tell, task):
    heard = hear("task_internal_error")
    error = KeyError("k")

    tell("task_internal_error", task, REQUEST, error)

    assert heard[0][1].keys() == set(SIGNALS["task_internal_error"])
    assert (heard[0][1]["exception"], heard[0][1]["request"]) == (error, REQUEST)


@pytest.mark.parametrize(
    "reason, terminated, expired",
    [("revoked", False, False), ("terminated", True, False), ("expired", False, True)],
)
def test_revoked(hear, tell, reason, terminated, expired):
    heard = hear("task_revoked")

    tell("task_revoked", REQUEST, reason)

    named = {"request": REQUEST, "terminated": terminated, "signum": None, "expired": expired}
    assert heard == [("proj.t", named)]


def test_received_rejected_and_unknown(hear, tell):
    received, rejected, unknown = hear("task_received"), hear("task_rejected"), hear("task_unknown")

    tell("task_received", REQUEST)
    tell("task_rejected", DELIVERY, "malformed")
    tell("task_unknown", DELIVERY, "proj.t")

    assert received == [("w1@host", {"request": REQUEST})]
    assert rejected == [(None, {"message": MESSAGE, "exc": "malformed"})]
    assert unknown[0][1] == {**unknown[0][1], "message": MESSAGE, "name": "proj.t", "id": "1"}


def test_unknown_task_of_an_unreadable_message(hear, tell):
    heard = hear("task_unknown")
    malformed = Delivery(message=Malformed(raw=b"", reason="x"), queue="q", receipt="r")

    tell("task_unknown", malformed, "?")

    assert heard[0][1]["id"] is None


def test_worker_signals(app, hear, tell):
    worker = Worker(app)
    names = ["celeryd_init", "celeryd_after_setup", "worker_init", "worker_ready"]
    names += ["worker_shutting_down", "worker_shutdown", "worker_before_create_process"]
    heard = {name: hear(name) for name in names}

    tell("worker_starting", worker)
    tell("worker_ready", worker)
    tell("worker_stopping", worker, "warm")
    tell("worker_stopped", worker)
    tell("process_starting", worker)

    init = {"instance": worker, "conf": app.conf}
    assert heard == {
        "celeryd_init": [("w1@host", {**init, "options": {}})],
        "celeryd_after_setup": [("w1@host", init)],
        "worker_init": [(worker, {})],
        "worker_ready": [(worker, {})],
        "worker_shutting_down": [("w1@host", {"sig": None, "how": "warm", "exitcode": None})],
        "worker_shutdown": [(worker, {})],
        "worker_before_create_process": [(worker, {})],
    }


def test_process_signals_are_the_childs_own(hear, tell):
    begun, ended = hear("worker_process_init"), hear("worker_process_shutdown")

    tell("process_started", 0)
    tell("process_stopped", 0, -9)
    tell("process_stopped", 0, None)

    assert begun == [(None, {})]
    assert ended == [(None, {"pid": os.getpid(), "exitcode": None})]


def test_import_modules(app, hear):
    heard = hear("import_modules")

    app.import_tasks()

    assert heard == [(app, {})]


def test_signals_of_the_app_itself(make_app):
    app, told = make_app(task_acks_late=False), []
    app.on_configure.connect(
        lambda sender, **named: told.append(("configure", sender.conf.finalized)), weak=False
    )
    app.on_after_configure.connect(
        lambda sender, source, **named: told.append(("after", source.task_acks_late)), weak=False
    )
    app.on_after_finalize.connect(
        lambda sender, **named: told.append(("finalize", sender.finalized)), weak=False
    )

    app.finalize()
    app.finalize()

    assert told == [("configure", False), ("after", False), ("finalize", True)]


def test_receiver_of_on_configure_may_give_settings(make_app):
    app = make_app()

    def give(sender, **named):
        sender.conf.update(task_default_queue="given")

    app.on_configure.connect(give)

    assert app.conf.task_default_queue == "given"


# -- publishing -----------------------------------------------------------------------------------


def test_before_publish_tells_all_and_may_change_it(app, task, waiting):
    seen = []

    def change(
        sender, body, exchange, routing_key, headers, properties, declare, retry_policy, **_
    ):
        seen.append((sender, exchange, routing_key, declare, retry_policy.max_retries))
        headers["tenant"] = "acme"
        body[0].append("more")
        body[1]["z"] = 3
        properties["app_id"] = "x"

    app.signals.before_task_publish.connect(change)
    task.delay(1)

    (message,) = waiting(app)
    assert seen == [("proj.t", "", "celery", [], 3)]
    assert message.headers["tenant"] == "acme"
    assert app.serializer("json").loads(message.body)[:2] == [[1, "more"], {"z": 3}]
    assert message.properties == {"app_id": "x"}


def test_what_a_receiver_changes_isnt_the_callers(app, task):
    args, kwargs = [1], {"x": 2}
    app.signals.before_task_publish.connect(
        lambda body, **_: (body[0].append(9), body[1].clear()), weak=False
    )

    task.apply_async(args, kwargs)

    assert (args, kwargs) == ([1], {"x": 2})


def test_after_publish_tells_when_the_broker_has_it(app, task):
    heard = []

    def receiver(sender, headers, body, **named):
        heard.append((sender, headers["id"], body[0], app.broker.stats("celery").ready))

    app.signals.after_task_publish.connect(receiver)
    result = task.delay(1)

    assert heard == [("proj.t", result.id, (1,), 1)]


def test_receiver_may_want_one_task_only(app, task):
    other, heard = app.task(name="proj.u")(lambda: 1), []
    app.signals.after_task_publish.connect(
        lambda sender, **_: heard.append(sender), sender="proj.t", weak=False
    )

    task.delay(1)
    other.delay()

    assert heard == ["proj.t"]


# -- every app ------------------------------------------------------------------------------------


def test_signal_of_the_module_hears_every_app(make_app):
    early, heard = make_app("early"), []
    early.send_task("one")

    def receiver(sender, **named):
        heard.append(sender)

    signals.after_task_publish.connect(receiver)
    try:
        early.send_task("two")
        make_app("late").send_task("three")
    finally:
        signals.after_task_publish.disconnect(receiver)

    assert heard == ["two", "three"]


def test_signal_of_an_app_hears_no_other(make_app):
    one, other, heard = make_app("one"), make_app("other"), []
    one.signals.after_task_publish.connect(lambda sender, **_: heard.append(sender), weak=False)

    other.send_task("t")

    assert heard == []


# -- in a worker ----------------------------------------------------------------------------------


def test_signals_of_a_run_come_in_order(make_app):
    app, told = make_app(), []
    for name in ("task_received", "task_prerun", "task_success", "task_postrun"):
        getattr(app.signals, name).connect(
            lambda signal, **_: told.append(signal.name), weak=False, dispatch_uid=name
        )
    task = app.task(name="t")(lambda: 1)

    with app.worker(pool="solo"):
        task.delay().get(timeout=10)
        wait_for(lambda: "task_postrun" in told)

    assert told == ["task_received", "task_prerun", "task_success", "task_postrun"]


def test_postrun_of_an_ignored_run_is_told(make_app):
    app, states = make_app(), []
    app.signals.task_postrun.connect(lambda state, **_: states.append(state), weak=False)

    @app.task
    def ignoring():
        raise Ignore

    with app.worker(pool="solo"):
        ignoring.delay()
        wait_for(lambda: states)

    assert states == ["IGNORED"]


def test_failing_receiver_doesnt_fail_the_task(make_app, caplog):
    app = make_app()

    def broken(**named):
        raise RuntimeError("broken receiver")

    app.signals.task_prerun.connect(broken)
    task = app.task(name="t")(lambda: 1)

    with app.worker(pool="solo"):
        assert task.delay().get(timeout=10) == 1
    assert "broken receiver" in caplog.text


def test_async_receiver_runs_on_the_tasks_loop(make_app):
    app, seen = make_app(), []

    @app.task
    async def work():
        await asyncio.sleep(0.01)
        return 1

    async def receiver(**named):
        seen.append(asyncio.get_running_loop().is_running())

    app.signals.task_prerun.connect(receiver)

    with app.worker(pool="asyncio", concurrency=2):
        assert work.delay().get(timeout=10) == 1
        wait_for(lambda: seen)

    assert seen == [True]


def wait_for(condition, timeout_s=10.0):
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "it didn't happen in time"
        time.sleep(0.005)


def test_heartbeats_are_told(hear, tell):
    heard, worker = hear("heartbeat_sent"), object()

    tell("worker_heartbeat", worker)

    assert heard == [(worker, {})]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
def test_a_forked_process_is_told_that_it_is_one(app, hear):
    heard = hear("on_after_fork")
    reader, writer = os.pipe()

    pid = os.fork()
    if pid == 0:
        os.write(writer, b"told" if heard == [(app, {})] else b"not told")
        os._exit(0)
    os.waitpid(pid, 0)
    told = os.read(reader, 100)
    os.close(reader)
    os.close(writer)

    assert told == b"told"
    assert heard == []
