from __future__ import annotations

import inspect

import msgspec
import pytest

from umbel import hookspecs
from umbel.events import EVENTS, Events, notify, transform_message
from umbel.messages import Message

OFFERS = {
    "umbel_backends",
    "umbel_brokers",
    "umbel_coordinators",
    "umbel_pools",
    "umbel_schedulers",
    "umbel_serializers",
    "umbel_settings",
}
MESSAGE = Message(id="1", task="t", headers={}, body=b"")


def test_each_event_hook_has_its_attribute():
    hooks = {
        name
        for name, value in vars(hookspecs).items()
        if name.startswith("umbel_") and inspect.isfunction(value)
    }

    assert {f"umbel_{event}" for event in EVENTS} == hooks - OFFERS


def test_nobody_listens_at_first():
    events = Events()

    assert [getattr(events, event) for event in EVENTS] == [()] * len(EVENTS)


def test_listeners_are_called_in_the_order_they_were_added():
    events, heard = Events(), []
    events.add("worker_ready", lambda worker: heard.append(("one", worker)))
    events.add("worker_ready", lambda worker: heard.append(("two", worker)))

    notify(events.worker_ready, "w")

    assert heard == [("one", "w"), ("two", "w")]


def test_listener_is_added_once():
    events = Events()
    events.add("worker_ready", print)
    events.add("worker_ready", print)

    assert events.worker_ready == (print,)


def test_removed_listener_is_gone():
    events = Events()
    events.add("worker_ready", print, repr)

    events.remove("worker_ready", print)

    assert events.worker_ready == (repr,)


def test_tuple_that_is_being_read_never_changes():
    events = Events()
    events.add("worker_ready", print)
    seen = events.worker_ready

    events.add("worker_ready", repr)

    assert seen == (print,)


def test_apps_events_are_their_own():
    one, other = Events(), Events()

    one.add("worker_ready", print)

    assert other.worker_ready == ()


@pytest.mark.parametrize("call", ["add", "remove"])
def test_unknown_event_is_an_error(call):
    with pytest.raises(ValueError, match="there is no event 'task_strated'"):
        getattr(Events(), call)("task_strated", print)


def test_failing_listener_is_logged_and_stops_nobody(caplog):
    heard = []

    def broken(worker):
        raise RuntimeError("broken listener")

    notify((broken, heard.append), "w")

    assert heard == ["w"]
    (record,) = caplog.records
    assert "broken failed" in record.message
    assert "broken listener" in record.exc_text


def test_listener_may_replace_the_message():
    other = msgspec.structs.replace(MESSAGE, queue="other")
    listeners = (lambda task, message: None, lambda task, message: other)

    assert transform_message(listeners, "t", MESSAGE) is other


def test_failing_listener_leaves_the_message_as_it_is(caplog):
    def broken(task, message):
        raise RuntimeError("broken listener")

    assert transform_message((broken,), "t", MESSAGE) is MESSAGE
    assert "broken failed" in caplog.text
