from __future__ import annotations

import json
import logging

import pytest

from umbel.errors import BrokerError, BrokerUnavailableError, ConfigError, EncodeError


class Down(BrokerUnavailableError):
    """The broker is down."""


@pytest.fixture
def add(app):
    """The task proj.add."""
    return app.task(name="proj.add")(lambda x=0, y=0: x + y)


@pytest.fixture
def pauses(app, clock, monkeypatch):
    """The pauses that sending makes; each moves the clock."""
    made = []

    def sleep(seconds):
        made.append(seconds)
        clock.advance(seconds)

    monkeypatch.setattr(app.publisher, "_sleep", sleep)
    return made


# -- retrying ---------------------------------------------------------------------------------


def test_send_is_tried_again_while_the_broker_is_away(add, flaky_broker, pauses):
    broker = flaky_broker(Down(), Down())

    result = add.apply_async((1,), producer=broker)

    assert [message.id for message in broker.batches[0]] == [result.id]
    assert pauses == [0.0, pytest.approx(0.2)]


def test_giving_up_says_what_was_not_sent(add, flaky_broker, pauses, caplog):
    broker = flaky_broker(*[Down("no route to host")] * 9)

    with pytest.raises(
        BrokerUnavailableError,
        match=r"task 'proj\.add' \[mine\] was not sent after 4 attempts in 0\.6 s: no route to h",
    ) as caught:
        add.apply_async((1,), task_id="mine", producer=broker)

    assert isinstance(caught.value.__cause__, Down)
    assert [record.levelno for record in caplog.records] == [logging.ERROR]


def test_giving_up_on_many_says_how_many(add, flaky_broker, pauses):
    broker = flaky_broker(*[Down()] * 9)

    with pytest.raises(
        BrokerUnavailableError, match=r"3 tasks, the first 'proj\.add' \[.*\], were"
    ):
        add.map_async([1, 2, 3], producer=broker)


def test_retry_false_tries_once(add, flaky_broker, pauses):
    broker = flaky_broker(Down())

    with pytest.raises(BrokerUnavailableError, match="after 1 attempt in"):
        add.apply_async((1,), retry=False, producer=broker)

    assert broker.attempts == 1


def test_call_may_have_a_policy_of_its_own(add, flaky_broker, pauses):
    broker = flaky_broker(*[Down()] * 9)

    with pytest.raises(BrokerUnavailableError):
        add.apply_async((1,), producer=broker, retry_policy={"max_retries": 1, "interval_start": 3})

    assert (broker.attempts, pauses) == (2, [3])


def test_unknown_key_of_a_policy_is_an_error(add, flaky_broker):
    with pytest.raises(ConfigError, match="max_retires"):
        add.apply_async((1,), producer=flaky_broker(Down()), retry_policy={"max_retires": 1})


def test_settings_switch_retrying_off(make_app, flaky_broker):
    task = make_app(task_publish_retry=False).task(name="t")(lambda: 1)
    broker = flaky_broker(Down())

    with pytest.raises(BrokerUnavailableError):
        task.apply_async(producer=broker)

    assert broker.attempts == 1


def test_deadline_bounds_all_tries_together(make_app, clock, flaky_broker, monkeypatch):
    app = make_app(
        clock=clock,
        task_publish_deadline_s=5,
        task_publish_retry_policy={"max_retries": None, "interval_start": 2, "interval_step": 0},
    )
    task = app.task(name="t")(lambda: 1)
    monkeypatch.setattr(app.publisher, "_sleep", clock.advance)
    broker, began = flaky_broker(*[Down()] * 99), clock.monotonic()

    with pytest.raises(BrokerUnavailableError):
        task.apply_async(producer=broker)

    assert clock.monotonic() - began == 5


def test_refusal_isnt_tried_again(add, flaky_broker, pauses):
    broker = flaky_broker(BrokerError("too large"))

    with pytest.raises(BrokerError, match="too large"):
        add.apply_async((1,), producer=broker)

    assert broker.attempts == 1


def test_nothing_is_noted_as_sent_that_wasnt(app, add, flaky_broker, pauses):
    heard = []
    app.events.add("message_published", lambda task, message: heard.append(message.id))

    with pytest.raises(BrokerUnavailableError):
        add.apply_async((1,), producer=flaky_broker(*[Down()] * 9))

    assert heard == []


# -- which broker -----------------------------------------------------------------------------


@pytest.mark.parametrize("option", ["producer", "connection"])
def test_call_may_bring_its_broker(app, add, flaky_broker, waiting, option):
    broker = flaky_broker()

    add.apply_async((1,), **{option: broker})

    assert len(broker.batches) == 1
    assert waiting(app) == []


def test_calls_for_different_brokers_are_sent_apart(app, add, flaky_broker):
    one, other = flaky_broker(), flaky_broker()

    app.send_many(
        [
            (add, (1,), {}, {"producer": one}),
            (add, (2,), {}, {"producer": one}),
            (add, (3,), {}, {"producer": other}),
        ]
    )

    assert [len(batch) for batch in one.batches] == [2]
    assert [len(batch) for batch in other.batches] == [1]


# -- what a message gets ------------------------------------------------------------------------


def test_settings_give_queue_priority_and_mode(make_app, waiting):
    app = make_app(task_default_queue="mine", task_default_priority=3, task_default_delivery_mode=1)
    app.task(name="t")(lambda: 1).delay()
    app.send_task("unknown")

    assert [(m.priority, m.delivery_mode) for m in waiting(app, "mine")] == [(3, 1), (3, 1)]


def test_routes_say_where_a_task_goes(make_app, waiting):
    app = make_app(task_routes={"mail.*": {"queue": "mail", "priority": 7}, "re.*": "other"})
    task = app.task(name="mail.send")(lambda: 1)

    task.delay()
    task.apply_async(queue="urgent")
    app.send_task("x", route_name="mail.x")

    assert [(m.task, m.priority) for m in waiting(app, "mail")] == [("mail.send", 7), ("x", 7)]
    assert [m.priority for m in waiting(app, "urgent")] == [7]


def test_queue_of_the_task_wins_over_routes(make_app, waiting):
    app = make_app(task_routes={"*": {"queue": "other"}})
    app.task(name="t", queue="own")(lambda: 1).delay()

    assert len(waiting(app, "own")) == 1


def test_queue_that_isnt_declared_is_refused_where_the_settings_say_so(make_app):
    app = make_app(task_queues=["a", "b"], task_create_missing_queues=False, task_default_queue="a")

    with pytest.raises(ConfigError, match="'c'"):
        app.task(name="t")(lambda: 1).apply_async(queue="c")


def test_call_by_name_takes_the_options_of_a_task_known_here(app, waiting):
    app.task(name="t", queue="slow", priority=2)(lambda: 1)

    app.send_task("t")

    assert waiting(app, "slow")[0].priority == 2


def test_serializer_and_compression_come_from_settings_task_or_call(make_app, waiting):
    app = make_app(task_compression="gzip")
    plain = app.task(name="plain")(lambda: 1)
    other = app.task(name="other", compression="bzip2")(lambda: 1)

    plain.delay()
    plain.apply_async(compression="lzma")
    other.delay()

    assert [m.headers["compression"] for m in waiting(app)] == [
        "application/x-gzip",
        "application/x-lzma",
        "application/x-bz2",
    ]


def test_body_over_the_bound_isnt_sent(make_app, waiting):
    app = make_app(task_message_max_bytes=2000)
    task = app.task(name="t")(lambda x: 1)

    with pytest.raises(EncodeError, match=r"'t' take \d+ bytes, which is over task_message_max_"):
        task.delay("x" * 3000)

    assert waiting(app) == []


def test_message_names_a_queue_for_answers(app, add, waiting):
    add.delay()
    add.delay()

    one, other = waiting(app)
    assert one.reply_to is not None
    assert one.reply_to == other.reply_to


def test_task_that_is_replaced_is_sent_with_its_new_options(app, waiting):
    app.task(name="t", queue="old")(lambda: 1).delay()
    app.task(name="t", queue="new", replace=True)(lambda: 2).delay()

    assert len(waiting(app, "new")) == 1


def test_changed_setting_counts_from_then_on(app, add, waiting):
    add.delay()

    app.conf.task_default_queue = "later"
    add.delay()

    assert (len(waiting(app)), len(waiting(app, "later"))) == (1, 1)


# -- listeners ----------------------------------------------------------------------------------


def test_plugin_may_send_another_message_in_its_place(app, add, waiting):
    def redirect(task, message):
        return type(message)(
            **{**{f: getattr(message, f) for f in message.__struct_fields__}, "queue": "elsewhere"}
        )

    app.events.add("message_publishing", redirect)
    add.delay()

    assert len(waiting(app, "elsewhere")) == 1


def test_message_is_told_after_the_broker_has_it(app, add):
    heard = []
    app.events.add(
        "message_published",
        lambda task, message: heard.append((task, app.broker.stats("celery").ready)),
    )

    add.delay()

    assert heard == [("proj.add", 1)]


def test_unserializable_argument_is_named_and_nothing_is_sent(app, add, waiting):
    with pytest.raises(EncodeError, match=r"'proj\.add' can't be sent: args\[0\]"):
        add.delay(object())

    assert waiting(app) == []


def test_bad_call_in_a_batch_sends_nothing_of_it(app, add, waiting):
    with pytest.raises(EncodeError):
        add.map_async([1, 2, object()])

    assert waiting(app) == []


def test_error_in_a_later_batch_tells_what_was_sent(app, add, waiting):
    with pytest.raises(EncodeError) as caught:
        add.map_async([1, 2, 3, object()], batch=2)

    assert caught.value.__notes__ == ["2 calls before these were sent"]
    assert [json.loads(message.body)[0] for message in waiting(app)] == [[1], [2]]
