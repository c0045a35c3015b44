from __future__ import annotations

import msgspec
import pytest

from umbel.control import CHANNEL, REVOKED_TTL_S
from umbel.errors import CapabilityError, ConfigError, InvalidTaskError


@pytest.fixture
def orders(app):
    """Returns the orders published since the fixture was asked for."""
    subscription = app.coordinator.subscribe([CHANNEL])
    yield lambda: [msgspec.json.decode(raw) for _, raw in subscription.poll(timeout_s=0)]
    subscription.close()


def test_revoke_is_kept_and_published(app, orders):
    app.control.revoke("1")

    assert app.coordinator.get(["revoked/1"]) == {"revoked/1": b"revoked"}
    assert orders() == [
        {
            "method": "revoke",
            "arguments": {"task_id": ["1"], "terminate": False, "signal": "SIGTERM"},
            "destination": None,
        }
    ]


def test_many_are_revoked_by_one_order(app, orders):
    app.control.revoke(["1", "2"], reason="no longer wanted")

    assert app.coordinator.scan("revoked/") == {
        "revoked/1": b"no longer wanted",
        "revoked/2": b"no longer wanted",
    }
    assert [order["arguments"]["task_id"] for order in orders()] == [["1", "2"]]


def test_revoke_is_remembered_for_its_time(app, clock):
    app.control.revoke("short", ttl_s=60)
    app.control.revoke("usual")

    clock.advance(61)
    assert set(app.coordinator.scan("revoked/")) == {"revoked/usual"}
    clock.advance(REVOKED_TTL_S)
    assert app.coordinator.scan("revoked/") == {}


@pytest.mark.parametrize("signal", ["SIGKILL", "KILL", "kill", "9"])
def test_terminate_says_by_which_signal(app, orders, signal):
    app.control.terminate("1", signal=signal)

    (order,) = orders()
    assert order["arguments"] == {"task_id": ["1"], "terminate": True, "signal": "SIGKILL"}


def test_order_may_be_for_some_nodes_only(app, orders):
    app.control.revoke("1", destination=["w1@host"])

    assert orders()[0]["destination"] == ["w1@host"]


@pytest.mark.parametrize("signal", ["SIGTREM", "999"])
def test_unknown_signal_is_an_error(app, orders, signal):
    with pytest.raises(ConfigError, match="there is no signal"):
        app.control.revoke("1", terminate=True, signal=signal)

    assert orders() == []


def test_empty_id_is_an_error(app):
    with pytest.raises(InvalidTaskError, match="id to revoke is empty"):
        app.control.revoke(["1", ""])


def test_without_a_coordinator_nothing_can_be_revoked(app, monkeypatch):
    monkeypatch.setattr(app._handles, "open_coordinator", lambda: None)

    with pytest.raises(ConfigError, match=r"revoke\(\) needs a coordinator.*coordinator_url"):
        app.control.revoke("1")


def test_purge_empties_the_apps_queues(make_app):
    app = make_app(task_queues=["a", "b"])
    for queue in ("a", "a", "b", "other"):
        app.send_task("t", queue=queue)
    app.send_task("t", queue="b", countdown=60)

    assert app.control.purge() == 4
    assert app.broker.stats("other").ready == 1


def test_purge_of_the_default_queue_where_none_are_declared(app):
    app.send_task("t")

    assert app.control.queue_names() == ["celery"]
    assert app.control.purge() == 1


def test_purge_of_named_queues(app):
    app.send_task("t", queue="a")
    app.send_task("t", queue="b")

    assert app.control.purge(["b"]) == 1
    assert app.broker.stats("a").ready == 1


def test_broker_that_cant_purge_says_so(app, flaky_broker, monkeypatch):
    monkeypatch.setattr(app._handles, "open_broker", flaky_broker)

    with pytest.raises(CapabilityError, match="'purge'"):
        app.control.purge()


def test_revoked_task_isnt_run(make_app):
    app, ran = make_app(), []
    task = app.task(name="t")(lambda: ran.append(1))
    result = task.delay()

    app.control.revoke(result.id)
    with app.worker(pool="solo"):
        assert task.apply_async(countdown=0).get(timeout=10) is None
        assert result.get(timeout=10, propagate=False).args == ("revoked",)

    assert (ran, result.state) == ([1], "REVOKED")


# -- rate limits and pools ----------------------------------------------------------------------


def test_rate_limit_is_kept_and_published(app, orders):
    assert app.control.rate_limit("t", "10/s") is None

    assert app.coordinator.get(["rate_limit/t"]) == {"rate_limit/t": b"10/s"}
    (order,) = orders()
    assert order["method"] == "rate_limit"
    assert order["arguments"] == {"task_name": "t", "rate_limit": "10/s"}


@pytest.mark.parametrize("reset", [None, "reset"])
def test_rate_limit_can_be_taken_back(app, orders, reset):
    app.control.rate_limit("t", 5)
    app.control.rate_limit("t", reset)

    assert app.coordinator.scan("rate_limit/") == {}
    assert orders()[-1]["arguments"] == {"task_name": "t", "rate_limit": None}


def test_rate_limit_for_some_nodes_is_not_kept(app, orders):
    app.control.rate_limit("t", "10/s", ["a@h"])

    assert app.coordinator.scan("rate_limit/") == {}
    assert orders()[0]["destination"] == ["a@h"]


@pytest.mark.parametrize("rate", ["x", -1, "5/d"])
def test_wrong_rate_limit_is_an_error(app, orders, rate):
    with pytest.raises(ConfigError, match="is no rate"):
        app.control.rate_limit("t", rate)

    assert app.coordinator.scan("rate_limit/") == {}
    assert orders() == []


def test_rate_limit_without_a_task_is_an_error(app):
    with pytest.raises(InvalidTaskError, match="needs the name of a task"):
        app.control.rate_limit("", "1/s")


def test_pools_are_resized_by_order(app, orders):
    app.control.pool_grow(2)
    app.control.pool_shrink(destination=["a@h"])
    app.control.autoscale(8, 2)
    app.control.shutdown()

    assert [(each["method"], each["arguments"], each["destination"]) for each in orders()] == [
        ("pool_grow", {"n": 2}, None),
        ("pool_shrink", {"n": 1}, ["a@h"]),
        ("autoscale", {"max": 8, "min": 2}, None),
        ("shutdown", {}, None),
    ]


def test_order_may_wait_for_answers(app):
    assert app.control.pool_grow(reply=True, timeout=0.05) == []
