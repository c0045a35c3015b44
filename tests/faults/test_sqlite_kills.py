"""kill -9 of processes on an SQLite file, at any instant: nothing is lost, nothing stays locked."""

from __future__ import annotations

import random
import time

import pytest
from sqlite_process import Process, message, open_broker, read_ledger

from umbel.ids import new_id

pytestmark = pytest.mark.faults


@pytest.fixture
def url(tmp_path):
    return f"sqlite:///{tmp_path / 'jobs.db'}?busy_timeout_s=10"


@pytest.fixture
def broker(url):
    made = open_broker(url)
    yield made
    made.close()


def test_killed_consumers_lose_nothing_and_repeat_only_what_they_held(url, broker, tmp_path):
    batch, kills, chance = 20, 15, random.Random(5)
    ledger = tmp_path / "ledger"
    sent = [new_id() for _ in range(3000)]
    broker.send([message(one) for one in sent])
    running = [Process(url, "drain", ledger, batch, 3) for _ in range(3)]
    try:
        for _ in range(kills):
            victim = running.pop(chance.randrange(len(running)))
            if victim.line() == "ready":
                time.sleep(chance.uniform(0, 0.1))  # the random instant
            victim.kill()
            running.append(Process(url, "drain", ledger, batch, 3))
        assert [process.join() for process in running] == [0] * 3
    finally:
        for process in running:
            process.kill()

    taken = read_ledger(ledger)
    assert set(taken) == set(sent)
    assert len(taken) - len(sent) <= kills * batch
    stats = broker.stats("celery")
    assert (stats.ready, stats.delayed, stats.held, stats.dead) == (0, 0, 0, 0)


def test_killed_sender_leaves_each_batch_whole_or_not_at_all(url, broker):
    batch, chance = 50, random.Random(6)
    for _ in range(6):
        sender = Process(url, "send", batch)
        assert sender.line() == "ready"
        accepted = [sender.line() for _ in range(chance.randint(1, 10))]
        sender.kill()
        found = [one.id for one in broker.peek("celery", limit=100_000)]
        numbers = [one.partition("-")[0] for one in found]

        assert all(numbers.count(one) == batch for one in set(numbers))
        assert set(accepted) <= set(numbers)
        broker.purge("celery")


def test_killed_first_starter_leaves_a_file_that_works(tmp_path):
    chance = random.Random(7)
    for attempt in range(8):
        url = f"sqlite:///{tmp_path / f'{attempt}.db'}"
        starter = Process(url, "send", 10)
        deadline = time.monotonic() + 20
        while not (tmp_path / f"{attempt}.db").exists() and time.monotonic() < deadline:
            time.sleep(0.0005)
        time.sleep(chance.uniform(0, 0.004))  # the random instant
        starter.kill()

        broker = open_broker(url)
        broker.check()
        count = broker.stats("celery").ready
        broker.send([message("after")])
        assert count % 10 == 0
        assert broker.stats("celery").ready == count + 1
        broker.close()


def test_holder_of_the_lock_that_is_killed_leaves_none(url, broker):
    broker.check()
    holder = Process(url, "lock")
    assert holder.line() == "ready"
    holder.kill()
    broker.send([message("after")])

    assert broker.stats("celery").ready == 1
