"""Faults on demand, in memory and on SQLite."""

from __future__ import annotations

import pytest

from umbel import Umbel
from umbel.errors import BackendUnavailableError, BrokerUnavailableError
from umbel.interfaces.backend import Backend
from umbel.interfaces.broker import Broker, Capability
from umbel.interfaces.coordinator import Coordinator
from umbel_testing import Crash, FakeClock, Faults, faults_in
from umbel_testing.fault_effects import steps_of
from umbel_testing.samples import message


@pytest.fixture(params=["memory://", "sqlite:///faults.db"])
def app(request, umbel_clock):
    url = request.param
    with Umbel("tests", broker=url, backend=url, clock=umbel_clock) as made:

        @made.task(name="add")
        def add(x, y):
            return x + y

        yield made


@pytest.fixture
def faults(app):
    with faults_in(app) as made:
        yield made


def ready(app):
    return app.broker.stats("celery").ready


# -- the faults -----------------------------------------------------------------------------------


def test_outage_lasts_as_long_as_the_clock_says(app, faults, umbel_clock):
    faults.broker.outage("1m")
    with pytest.raises(BrokerUnavailableError, match="outage"):
        app.broker.send([message("celery")])
    umbel_clock.advance(59)
    with pytest.raises(BrokerUnavailableError):
        app.broker.stats("celery")
    umbel_clock.advance(1)

    assert ready(app) == 0


def test_outage_without_a_time_lasts_to_the_end_of_its_block(app, faults):
    with faults.backend.outage(), pytest.raises(BackendUnavailableError):
        app.backend.load(["x"])

    assert app.backend.load(["x"]) == {}


def test_outages_of_broker_and_backend_are_apart(app, faults):
    faults.broker.outage(5)

    assert app.backend.load(["x"]) == {}
    assert app.coordinator.get(["x"]) == {}


def test_failed_step_is_not_done(app, faults):
    faults.broker.fail("send", times=2, skip=1)
    app.broker.send([message("celery")])
    for _ in range(2):
        with pytest.raises(BrokerUnavailableError):
            app.broker.send([message("celery")])
    app.broker.send([message("celery")])

    assert ready(app) == 2


def test_step_fails_with_the_error_that_is_given(app, faults):
    faults.coordinator.fail("put", error=MemoryError("full"))
    with pytest.raises(MemoryError):
        app.coordinator.put("key", b"value")

    assert app.coordinator.get(["key"]) == {}


def test_step_whose_reply_is_lost_is_done(app, faults):
    faults.coordinator.lose_reply("put")
    with pytest.raises(BackendUnavailableError, match="reply"):
        app.coordinator.put("key", b"value")

    assert app.coordinator.get(["key"]) == {"key": b"value"}


def test_send_whose_reply_is_lost_is_one_task(app, faults, umbel_clock, monkeypatch):
    monkeypatch.setattr(app.publisher, "_sleep", lambda _seconds: None)
    faults.broker.lose_reply("send")
    app.send_task("add", (1, 2))

    assert ready(app) == 1


@pytest.mark.parametrize("when, stored", [("before", 0), ("after", 1)])
def test_crash_is_raised_where_no_worker_is_driven_by_hand(app, faults, when, stored):
    faults.broker.crash(when, "send")
    with pytest.raises(Crash, match=rf"{when} broker\.send"):
        app.send_task("add", (1, 2))

    assert ready(app) == stored


@pytest.mark.parametrize("done, left", [(True, 0), (False, 1)])
def test_dropped_ack_was_done_or_not(app, faults, done, left):
    app.broker.send([message("celery")])
    held = app.broker.receive(["celery"], max_messages=1, wait_s=0)
    faults.broker.drop_ack(done=done)
    with pytest.raises(BrokerUnavailableError):
        app.broker.settle(held, [])

    assert app.broker.stats("celery").held == left


def test_what_is_delivered_twice_comes_with_an_old_and_a_new_token(app, faults):
    app.broker.send([message("celery")])
    faults.broker.deliver_twice()
    first, second = app.broker.receive(["celery"], max_messages=5, wait_s=0)

    assert first.message.id == second.message.id
    assert (first.token, second.token) == (1, 2)
    assert app.broker.ack([first]) == [first]
    assert app.broker.ack([second]) == []


# -- naming them ------------------------------------------------------------------------------------


def test_steps_are_those_of_the_contracts():
    faults = Faults(FakeClock())

    assert {"send", "receive", "ack", "nack", "settle", "send_once"} <= set(faults.broker.steps)
    storing = {"store", "load", "forget", "wait", "expire", "check"}
    groups = {"save_group", "load_group", "delete_group"}
    chords = {"open_chord", "grow_chord", "join_chord", "close_chord"}
    told = {"chord_body", "chord_progress"}
    assert set(faults.backend.steps) == storing | groups | chords | told
    for contract in (Broker, Backend, Coordinator):
        methods = {name for name in vars(contract) if not name.startswith("_")}
        assert set(steps_of(contract)) <= methods


@pytest.mark.parametrize("ask", ["fail", "lose_reply"])
def test_wrong_step_is_an_error_with_the_right_ones(ask):
    faults = Faults(FakeClock())
    with pytest.raises(ValueError, match=r"no step 'settel'; did you mean 'settle'\?.*receive"):
        getattr(faults.broker, ask)("settel")

    with pytest.raises(ValueError, match="the backend has no step 'settle'"):
        faults.backend.crash("after", "settle")


def test_crash_of_the_app_finds_the_kind_of_its_step():
    faults = Faults(FakeClock())
    faults.crash("after", "store")
    faults.crash("before", "broker.settle")
    assert faults.pending == ["broker.crash('before', 'settle')", "backend.crash('after', 'store')"]

    with pytest.raises(ValueError, match=r"broker\.check or backend\.check"):
        faults.crash("after", "check")
    with pytest.raises(ValueError, match=r"did you mean 'backend\.store'\?"):
        faults.crash("after", "stor")
    with pytest.raises(ValueError, match="'before' or 'after'"):
        faults.crash("during", "store")


@pytest.mark.parametrize("numbers", [{"times": 0}, {"skip": -1}])
def test_wrong_numbers_are_refused(numbers):
    with pytest.raises(ValueError, match="times"):
        Faults(FakeClock()).broker.fail("send", **numbers)


def test_cleared_faults_do_not_happen(app, faults):
    faults.broker.fail("send")
    faults.backend.outage()
    faults.clear()
    app.send_task("add", (1, 2))

    assert faults.pending == []
    assert app.backend.load(["x"]) == {}


def test_calls_are_counted(app, faults):
    app.send_task("add", (1, 2))
    app.send_task("add", (1, 2))

    assert faults.broker.calls["send"] == 2


# -- in an app --------------------------------------------------------------------------------------


def test_handle_with_faults_is_what_it_wraps_but_for_them(app, faults):
    broker = app.open_broker()

    assert isinstance(broker, Broker)
    assert Capability.UNIQUE in broker.capabilities
    assert broker.once_window_s == app.conf.task_once_window_s
    broker.configure(once_window_s=5.0, bounds={"q": 1})
    assert broker.bounds == {"q": 1}
    broker.close()


def test_pausing_and_promoting_pass_through_faults(app, faults):
    app.tasks["add"].apply_async((1, 2), countdown=60)
    app.queues.pause("celery")
    faults.broker.fail("resume")

    assert app.queues.paused() == ["celery"]
    assert app.delayed.promote() == 1
    with pytest.raises(BrokerUnavailableError):
        app.queues.resume("celery")
    app.queues.resume("celery")
    assert len(app.broker.receive(["celery"], max_messages=1, wait_s=0)) == 1


def test_app_is_as_it_was_after_the_block(app):
    with faults_in(app) as faults, faults_in(app) as same:
        assert same is faults
        faults.broker.outage()

    assert ready(app) == 0
    assert type(app.broker).__name__ in ("MemoryBroker", "SqliteBroker")


def test_worker_in_threads_meets_faults_too(umbel_app, umbel_worker, umbel_faults):
    @umbel_app.task
    def add(x, y):
        return x + y

    umbel_faults.backend.lose_reply("store")
    umbel_faults.broker.drop_ack(done=False)

    assert add.delay(2, 3).get(timeout=20) == 5
    assert umbel_faults.backend.calls["store"] >= 1
