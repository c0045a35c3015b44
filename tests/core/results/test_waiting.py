"""The thread behind all awaiting."""

from __future__ import annotations

import asyncio
import threading
import time

import pytest

from umbel.errors import BackendError
from umbel.results.waiting import (
    ResultWaiter,
    gather_pause,
    outage_pause,
    sweep_pause,
    told_of,
)

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


def test_what_is_added_aside_is_looked_at_and_not_waited_for(make_source, counting, store):
    waiter = make_source(counting).waiter()
    arrived = []
    waiter.add("t1", arrived.append)
    store("p1", 1)

    waiter.add_all(("p1", "p2"), arrived.append, aside=True)

    wait_until(lambda: arrived)
    assert [each.task_id for each in arrived] == ["p1"]
    assert ("load", 2) in counting.calls
    assert {count for call, count in counting.calls if call == "wait"} <= {1}


def test_what_is_aside_does_not_keep_the_thread(backend, store):
    waiter = ResultWaiter(backend, idle_s=0.02)
    tickets = waiter.add_all(("p1",), lambda _: None, aside=True)
    waiter.add("t1", lambda _: None)
    store("t1", 1)
    for ticket in tickets:
        waiter.discard(ticket)

    wait_until(lambda: waiter_threads() == [])


def test_many_are_added_in_one_go(waiter, store):
    arrived = []
    tickets = waiter.add_all(["t1", "t2"], arrived.append)
    waiter.discard(tickets[0])
    store.many(["t1", "t2"])

    wait_until(lambda: arrived)
    assert [each.task_id for each in arrived] == ["t2"]
    assert waiter.add_all([], arrived.append) == []


def test_arrivals_are_gathered_for_a_bounded_time():
    assert gather_pause(0.0) == 0.005
    assert gather_pause(0.01) == 0.02
    assert gather_pause(10.0) == 0.05


def test_first_and_last_of_thousands_are_waited_for():
    ids = [f"t{number}" for number in range(3_000)]

    assert told_of(ids) == ids[:500] + ids[-500:]
    assert told_of(ids[:1000]) == ids[:1000]


def test_more_than_a_call_takes_are_swept_as_often_as_that_is_cheap():
    assert sweep_pause(1000, 0.5) == 1.0
    assert sweep_pause(1001, 0.0) == 0.05
    assert sweep_pause(1001, 0.02) == 0.2
    assert sweep_pause(1001, 5.0) == 1.0
