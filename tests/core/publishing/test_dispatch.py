from __future__ import annotations

import asyncio
import threading

import pytest

from umbel import Queue
from umbel.builtin.memory.broker import MemoryBroker
from umbel.errors import (
    AlreadySentError,
    BrokerUnavailableError,
    CapabilityError,
    InvalidTaskError,
    QueueFullError,
)
from umbel.interfaces.broker import Capability
from umbel.messages import RESENT, OnConflict


@pytest.fixture
def add(app):
    """The task proj.add."""
    return app.task(name="proj.add")(lambda x=0, y=0: x + y)


@pytest.fixture
def bounded(make_app, clock):
    """Makes apps with a queue ``mail`` of three messages."""

    def make(**queue):
        app = make_app(clock=clock, task_queues=[Queue("mail", max_length=3, **queue), "celery"])
        app.task(name="proj.add")(lambda x=0, y=0: x + y)
        return app

    return make


def loses_answers(broker, monkeypatch, name="send", meanwhile=lambda messages: None):
    """Let the first call of `name` store what it is given, and its answer be lost."""
    real, lost = getattr(broker, name), []

    def call(messages, **how):
        answer = real(messages, **how)
        if not lost:
            lost.append(messages)
            meanwhile(messages)
            raise BrokerUnavailableError("the connection broke")
        return answer

    monkeypatch.setattr(broker, name, call)
    return lost


def pausing(app, monkeypatch, do=lambda pauses: None):
    """Move the clock in place of sleeping, and `do` something each time."""
    pauses = []

    def sleep(seconds):
        pauses.append(seconds)
        app.clock.advance(seconds)
        do(pauses)

    monkeypatch.setattr(app.publisher, "_sleep", sleep)
    return pauses


# -- sent once --------------------------------------------------------------------------------


def test_second_call_of_an_id_is_an_error_that_names_it(app, add, waiting):
    add.apply_async((1,), task_id="mine")

    with pytest.raises(AlreadySentError, match="mine") as caught:
        add.apply_async((2,), task_id="mine")

    assert caught.value.task_ids == ("mine",)
    assert len(waiting(app)) == 1


def test_second_call_may_take_the_result_of_the_first(app, add, waiting):
    heard = []
    app.events.add("message_published", lambda task, message: heard.append(message.id))
    first = add.apply_async((1,), task_id="mine")

    second = add.apply_async((2,), task_id="mine", on_conflict="return")

    assert second == first
    assert len(waiting(app)) == len(heard) == 1


def test_second_call_may_take_the_place_of_one_that_waits(app, add, waiting):
    add.apply_async((1,), task_id="mine", countdown=60)

    add.apply_async((2,), task_id="mine", on_conflict=OnConflict.REPLACE)

    [message] = waiting(app)
    assert (message.body[:5], message.due_at) == (b"[[2],", None)


def test_signature_carries_what_happens_on_a_conflict(app, add, waiting):
    call = add.s(1).set(task_id="mine", on_conflict="return")

    assert [app.send(call).id, app.send(call).id] == ["mine", "mine"]
    assert len(waiting(app)) == 1


def test_calls_of_one_batch_may_differ_in_it(app, add, waiting):
    add.apply_async((0,), task_id="known")
    calls = [
        (add, (1,)),
        (add, (2,), {}, {"task_id": "known", "on_conflict": "return"}),
        (add, (3,), {}, {"task_id": "known", "on_conflict": "replace"}),
        (add, (4,), {}, {"task_id": "new"}),
    ]

    results = app.send_many(calls)

    assert [result.id for result in results[1:]] == ["known", "known", "new"]
    assert sorted(message.body[:5] for message in waiting(app)) == [b"[[1],", b"[[3],", b"[[4],"]


def test_batch_with_a_known_id_tells_how_many_were_sent_before(app, add, waiting):
    add.apply_async((0,), task_id="known")

    with pytest.raises(AlreadySentError) as caught:
        app.send_many([(add, (1,)), (add, (2,), {}, {"task_id": "known"})])

    assert caught.value.__notes__ == ["1 calls before these were sent"]
    assert len(waiting(app)) == 2


def test_unknown_word_is_an_error_that_names_the_words(add):
    with pytest.raises(InvalidTaskError, match="'raise', 'return', 'replace', not 'ignore'"):
        add.apply_async((1,), task_id="mine", on_conflict="ignore")


def test_broker_that_cannot_send_once_says_so_when_asked_to(add, flaky_broker):
    with pytest.raises(CapabilityError, match="FlakyBroker has no capability 'unique'"):
        add.apply_async((1,), task_id="mine", on_conflict="return", producer=flaky_broker())


def test_broker_that_cannot_send_once_takes_a_plain_id(add, flaky_broker):
    broker = flaky_broker()

    for _ in range(2):
        add.apply_async((1,), task_id="mine", producer=broker)

    assert [message.id for batch in broker.batches for message in batch] == ["mine", "mine"]


# -- lost answers -----------------------------------------------------------------------------


def test_call_whose_answer_was_lost_is_one_task(app, add, waiting, monkeypatch):
    lost = loses_answers(app.broker, monkeypatch)
    pausing(app, monkeypatch)

    result = add.delay(1)

    assert lost
    assert [message.id for message in waiting(app)] == [result.id]


def test_batch_whose_answer_was_lost_is_sent_once(app, add, waiting, monkeypatch):
    loses_answers(app.broker, monkeypatch)
    pausing(app, monkeypatch)

    results = add.map_async(range(5))

    assert [message.id for message in waiting(app)] == [result.id for result in results]


def test_call_that_was_done_before_its_second_try_is_not_run_again(make_app, monkeypatch):
    app, runs = make_app(), []

    @app.task(name="t")
    def task(x):
        runs.append(x)

    def wait_until_done(messages):
        app.AsyncResult(messages[0].id).get(timeout=30)

    with app.worker(pool="solo"):
        loses_answers(app.broker, monkeypatch, meanwhile=wait_until_done)
        result = task.delay(1)
        task.delay(2).get(timeout=30)

    assert runs == [1, 2]
    assert result.get(timeout=1) is None


def test_message_says_that_it_was_sent_again(add, flaky_broker, app, monkeypatch):
    pausing(app, monkeypatch)
    broker = flaky_broker(BrokerUnavailableError("gone"))

    add.apply_async((1,), producer=broker)

    assert broker.batches[0][0].headers[RESENT] is True


def test_call_of_an_own_id_whose_answer_was_lost_is_told_what_may_have_happened(
    app, add, waiting, monkeypatch
):
    loses_answers(app.broker, monkeypatch, "send_once")
    pausing(app, monkeypatch)

    with pytest.raises(AlreadySentError) as caught:
        add.apply_async((1,), task_id="mine")

    assert "answer was lost" in caught.value.__notes__[0]
    assert len(waiting(app)) == 1


# -- queues with a bound ----------------------------------------------------------------------


def test_full_queue_refuses_a_call(bounded, waiting):
    app = bounded()
    app.send_many([("proj.add", (i,), {}, {"queue": "mail"}) for i in range(3)])

    with pytest.raises(QueueFullError, match=r"'mail'.*max_length is 3") as caught:
        app.send_task("proj.add", (1,), queue="mail")

    assert caught.value.queue == "mail"
    assert len(waiting(app, "mail")) == 3


def test_other_queues_take_calls_when_one_is_full(bounded, waiting):
    app = bounded()
    app.send_many([("proj.add", (i,), {}, {"queue": "mail"}) for i in range(3)])

    app.send_many([("proj.add", (i,)) for i in range(10)])

    assert len(waiting(app)) == 10


def test_sender_to_a_queue_that_blocks_waits_for_room(bounded, waiting, monkeypatch):
    app = bounded(overflow="block")
    app.send_many([("proj.add", (i,), {}, {"queue": "mail"}) for i in range(3)])

    def make_room(pauses):
        if len(pauses) == 4:
            app.broker.ack(app.broker.receive(["mail"], max_messages=1, wait_s=0))

    pauses = pausing(app, monkeypatch, make_room)
    result = app.send_task("proj.add", (3,), queue="mail")

    assert result.id in [message.id for message in waiting(app, "mail")]
    assert len(pauses) == 4
    assert pauses == sorted(pauses)


def test_wait_for_room_ends_with_the_publish_deadline(bounded, monkeypatch):
    app = bounded(overflow="block")
    app.send_many([("proj.add", (i,), {}, {"queue": "mail"}) for i in range(3)])
    pauses = pausing(app, monkeypatch)

    with pytest.raises(QueueFullError, match=r"waited 10\.0 s for room"):
        app.send_task("proj.add", (3,), queue="mail")

    assert sum(pauses) == pytest.approx(10)


def test_clock_that_stands_still_does_not_make_a_sender_wait_for_ever(bounded, monkeypatch):
    app = bounded(overflow="block")
    app.send_many([("proj.add", (i,), {}, {"queue": "mail"}) for i in range(3)])
    pauses = []
    monkeypatch.setattr(app.publisher, "_sleep", pauses.append)

    with pytest.raises(QueueFullError):
        app.send_task("proj.add", (3,), queue="mail")

    assert sum(pauses) == pytest.approx(10)


def test_batch_larger_than_a_queue_that_blocks_comes_in_by_and_by(bounded, monkeypatch):
    app, taken = bounded(overflow="block"), []

    def make_room(pauses):
        deliveries = app.broker.receive(["mail"], max_messages=2, wait_s=0)
        taken.extend(delivery.message.id for delivery in deliveries)
        app.broker.ack(deliveries)

    pausing(app, monkeypatch, make_room)
    results = app.send_many([("proj.add", (i,), {}, {"queue": "mail"}) for i in range(20)])
    make_room([])
    make_room([])

    assert taken == [result.id for result in results]


def test_coroutine_that_waits_for_room_lets_others_run(make_app):
    app = make_app(task_queues={"mail": {"max_length": 1, "overflow": "block"}})
    app.send_task("t", queue="mail")

    async def main():
        sending = asyncio.create_task(app.asend_task("t", queue="mail"))
        turns = 0
        while turns < 50:
            await asyncio.sleep(0.001)
            turns += 1
        waited = not sending.done()
        app.broker.ack(app.broker.receive(["mail"], max_messages=1, wait_s=0))
        await sending
        return waited

    assert asyncio.run(main())


class Unbounded(MemoryBroker):
    """Keeps to no bound, but can count."""

    capabilities = MemoryBroker.capabilities - {Capability.BOUNDED, Capability.UNIQUE}

    def configure(self, *, once_window_s, bounds):
        super().configure(once_window_s=once_window_s, bounds={})


def test_broker_that_can_only_count_is_asked_before_each_send(bounded, clock):
    app = bounded()
    broker = Unbounded.from_url("memory://", options={"_scope": app}, clock=clock)
    for i in range(3):
        app.send_task("proj.add", (i,), queue="mail", producer=broker)

    with pytest.raises(QueueFullError, match="3 messages wait in it"):
        app.send_task("proj.add", (3,), queue="mail", producer=broker)


def test_next_run_of_a_task_is_never_refused(make_app, waiting):
    app = make_app(task_queues={"mail": {"max_length": 1}})

    @app.task(bind=True, name="t", queue="mail", default_retry_delay=3600)
    def again(self):
        if not self.request.retries:
            app.send_task("filler", queue="mail")
            self.retry(throw=False)

    filled = threading.Event()
    app.events.add("task_finished", lambda *_: filled.set())
    with app.worker(pool="solo", queues=["mail"]):
        again.delay()
        assert filled.wait(30)

    assert "t" in [message.task for message in waiting(app, "mail")]
