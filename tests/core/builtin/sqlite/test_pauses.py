"""Paused queues in a file: what the contract doesn't say of every broker."""

from __future__ import annotations

import time

import pytest
from sqlite_process import Process, open_broker
from sqlite_process import message as process_message

from umbel.builtin.sqlite import transactions
from umbel.builtin.sqlite.broker import SqliteBroker
from umbel_testing.samples import message

PATIENCE_S = 30.0


@pytest.fixture
def start(url):
    """Start processes that are killed after the test."""
    started = []

    def begin(*command):
        started.append(Process(url, *command))
        assert started[-1].line() == "ready"
        return started[-1]

    yield begin
    for process in started:
        process.kill()


def receive(broker, *queues, count=100):
    return [one.message.id for one in broker.receive(queues, max_messages=count, wait_s=0)]


def test_process_that_waits_takes_nothing_until_it_is_woken_by_resume(url, start):
    broker = open_broker(url)
    try:
        broker.pause("celery")
        listener = start("listen", "celery")
        late_s = []
        deadline = time.monotonic() + PATIENCE_S
        # The best of some: what the machine does beside is not ours to test.
        while (not late_s or min(late_s) >= 0.1) and time.monotonic() < deadline:
            sent_at = time.time()
            broker.send([process_message(str(sent_at), headers={"sent_at": sent_at})])
            assert broker.stats("celery").ready == 1
            resumed_at = time.time()
            broker.resume("celery")
            late_s.append(sent_at + float(listener.line()) - resumed_at)
            broker.pause("celery")

        assert -0.01 < min(late_s) < 0.1
    finally:
        broker.close()


def test_pause_is_in_the_file_when_all_are_gone(open_handle, query):
    first = open_handle(SqliteBroker)
    first.send([message("q")])
    first.pause("q")
    first.close()

    assert query("SELECT queue FROM paused") == [("q",)]
    assert receive(open_handle(SqliteBroker), "q") == []


def test_full_batch_before_the_pause_brings_no_further_one(broker):
    """The handle expects more then, and doesn't look first whether there is."""
    broker.send([message("q") for _ in range(6)])
    assert len(receive(broker, "q", count=3)) == 3
    broker.pause("q")

    assert receive(broker, "q", count=3) == []


def test_what_is_due_in_a_paused_queue_wakes_nobody(broker, clock):
    """Else who waits would look without end."""
    now = clock.time()
    broker.send([message("q", due_at=now + 5), message("other", due_at=now + 50)])
    broker.pause("q")
    clock.advance(10)
    glance = broker._store.read(transactions.glance, ["q", "other"], clock.time())

    assert glance == ([], now + 50)


def test_name_of_a_paused_queue_may_be_any_text(broker):
    for name in ("", "with 'quotes'", "ümläut", "a" * 1000):
        broker.pause(name)

    assert broker.paused() == sorted(["", "with 'quotes'", "ümläut", "a" * 1000])


def test_look_for_pauses_scans_nothing(broker, query):
    broker.check()
    steps = [step[3] for step in query(f"EXPLAIN QUERY PLAN {transactions._TAKE}", 1, "q", 5)]

    assert any(step.startswith("SEARCH paused USING") for step in steps)
    assert not any(step.startswith("SCAN") for step in steps)
