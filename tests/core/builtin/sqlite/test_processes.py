"""Several real processes on one file."""

from __future__ import annotations

import time

import pytest
from sqlite_process import Process, message, open_broker, read_ledger

from umbel.ids import new_id

PATIENCE_S = 30.0


@pytest.fixture
def start(url):
    """Start processes that are killed after the test, if they still run."""
    started = []

    def begin(*command, until="ready"):
        started.append(Process(url, *command))
        if until:
            assert started[-1].line() == until
        return started[-1]

    yield begin
    for process in started:
        process.kill()


@pytest.fixture
def broker(url):
    made = open_broker(url)
    yield made
    made.close()


def test_first_starters_at_once_make_one_file(start, broker):
    processes = [start("check") for _ in range(5)]
    for process in processes:
        process.tell("go")

    assert [process.line() for process in processes] == ["done"] * 5
    assert broker.stats("celery").ready == 5


def test_processes_never_take_the_same_message(start, broker, tmp_path):
    sent = [new_id() for _ in range(2000)]
    processes = [start("drain", tmp_path / "ledger", batch, 1.5) for batch in (1, 7, 40)]
    for at in range(0, len(sent), 100):
        broker.send([message(one) for one in sent[at : at + 100]])
    assert [process.join() for process in processes] == [0] * 3

    assert sorted(read_ledger(tmp_path / "ledger")) == sorted(sent)
    assert broker.stats("celery").held == 0


def test_message_reaches_a_waiting_process_within_20_ms(start, broker):
    listener = start("listen", "celery")
    took_s = []
    deadline = time.monotonic() + PATIENCE_S
    # The best of some: what the machine does beside is not ours to test.
    while (not took_s or min(took_s) >= 0.02) and time.monotonic() < deadline:
        broker.send([message(new_id(), headers={"sent_at": time.time()})])
        took_s.append(float(listener.line()))

    assert min(took_s) < 0.02


def test_delayed_message_reaches_a_waiting_process_at_its_time(start, broker):
    listener = start("listen", "celery")
    late_s = []
    deadline = time.monotonic() + PATIENCE_S
    while (not late_s or min(late_s) >= 0.02) and time.monotonic() < deadline:
        due_at = time.time() + 0.3
        broker.send([message(new_id(), due_at=due_at, headers={"sent_at": due_at})])
        late_s.append(float(listener.line()))

    assert 0 <= min(late_s) < 0.02


def test_urgent_delay_shortens_a_wait_for_a_later_one(start, broker):
    broker.send([message("later", due_at=time.time() + 3600)])
    listener = start("listen", "celery")
    sent_at = time.time()
    broker.send([message("soon", due_at=sent_at + 0.1, headers={"sent_at": sent_at})])

    assert 0.1 <= float(listener.line()) < PATIENCE_S


def test_what_a_dead_node_held_comes_back_when_its_lease_is_over(start, broker):
    sent = [new_id() for _ in range(10)]
    broker.send([message(one) for one in sent])
    holder = start("hold", "node")
    assert broker.stats("celery").held == 10
    holder.kill()
    deadline = time.monotonic() + PATIENCE_S
    while not (recovered := broker.recover_expired()) and time.monotonic() < deadline:
        time.sleep(0.01)

    assert recovered == 10
    taken = broker.receive(["celery"], max_messages=20, wait_s=0)
    assert [one.message.id for one in taken] == sent
    assert {one.token for one in taken} == {2}
