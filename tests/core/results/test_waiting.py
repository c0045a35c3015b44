"""The thread behind all awaiting."""

from __future__ import annotations

import asyncio
import threading
import time

import pytest

from umbel.errors import BackendError
from umbel.results.waiting import ResultWaiter, outage_pause

LONG = 30.0


@pytest.fixture
def waiter(backend):
    waiter = ResultWaiter(backend, idle_s=0.05)
    yield waiter
    waiter.stop()


def waiter_threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "umbel-results"]


def wait_until(condition) -> None:
    deadline = time.monotonic() + LONG
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.005)


def test_thread_ends_when_nobody_waits_for_a_while(waiter, store):
    arrived = []
    waiter.add("t1", arrived.append)
    store("t1", 1)

    wait_until(lambda: arrived)
    wait_until(lambda: not waiter_threads())


def test_thread_begins_anew_for_the_next_who_waits(waiter, store):
    arrived = []
    store("t1", 1)
    waiter.add("t1", arrived.append)
    wait_until(lambda: arrived and not waiter_threads())

    waiter.add("t1", arrived.append)

    wait_until(lambda: len(arrived) == 2)


def test_what_arrives_is_delivered_once(waiter, store):
    arrived = []
    waiter.add("t1", arrived.append)
    store("t1", 1)
    wait_until(lambda: arrived)

    store("t1", 2)
    waiter.add("t2", arrived.append)
    store("t2", 1)

    wait_until(lambda: len(arrived) == 2)
    assert [each.task_id for each in arrived] == ["t1", "t2"]


def test_discarded_is_not_delivered(waiter, store):
    arrived = []
    ticket = waiter.add("t1", lambda _: arrived.append("discarded"))
    waiter.add("t1", lambda _: arrived.append("kept"))

    waiter.discard(ticket)
    store("t1", 1)

    wait_until(lambda: arrived == ["kept"])


def test_state_that_was_seen_last_is_on_the_ticket(waiter, store):
    store("t1", state="STARTED", meta={})

    ticket = waiter.add("t1", lambda _: None)

    wait_until(lambda: ticket.state == "STARTED")


def test_stopped_waiter_takes_nobody(waiter):
    waiter.stop()

    with pytest.raises(BackendError, match="'t1' failed: the app was closed"):
        waiter.add("t1", lambda _: None)


def test_stop_ends_the_thread(waiter):
    ended = []
    waiter.add("t1", ended.append)

    waiter.stop()

    assert [str(each) for each in ended] == ["the app was closed meanwhile"]
    assert waiter_threads() == []


def test_pauses_grow_with_failures_up_to_a_bound():
    pauses = [outage_pause(failures) for failures in (1, 4, 20)]

    assert 0.05 <= pauses[0] <= 0.1
    assert 0.4 <= pauses[1] <= 0.8
    assert 2.5 <= pauses[2] <= 5.0


def test_callback_that_raises_no_exception_but_worse_stops_nobody(waiter, store, caplog):
    def cancelled(arrival):
        raise asyncio.CancelledError

    arrived = []
    waiter.add("t1", cancelled)
    store("t1", 1)
    wait_until(lambda: "a callback on the result of task 't1' failed" in caplog.text)
    waiter.add("t2", arrived.append)
    store("t2", 2)

    wait_until(lambda: arrived)


def test_thread_that_cannot_start_is_tried_again(waiter, store, monkeypatch):
    def refuse(thread):
        raise RuntimeError("can't start new thread")

    arrived = []
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refuse)
        with pytest.raises(RuntimeError):
            waiter.add("t1", arrived.append)
    assert len(waiter) == 0

    waiter.add("t2", arrived.append)
    store("t2", 2)
    wait_until(lambda: arrived)
