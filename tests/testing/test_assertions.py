"""What a test can say of the calls that wait."""

from __future__ import annotations

from datetime import UTC, datetime
from unittest.mock import ANY

import pytest

from umbel_testing import assert_enqueued, enqueued, refute_enqueued


@pytest.fixture
def welcome(umbel_app):
    @umbel_app.task(name="mail.welcome")
    def welcome(user, *, locale="en"):
        return user

    return welcome


def test_call_is_found_by_task_name_arguments_and_queue(umbel_app, umbel_queue, welcome):
    welcome.apply_async((7,), {"locale": "de"}, queue="mail")
    umbel_app.send_task("other", ((1, 2),))

    [found] = umbel_queue.assert_enqueued(welcome, args=(7,), kwargs={"locale": "de"})
    assert (found.name, found.queue, found.args, found.retries) == ("mail.welcome", "mail", [7], 0)
    umbel_queue.assert_enqueued("mail.welcome", queue="mail", count=1)
    umbel_queue.assert_enqueued("other", args=[(1, 2)])
    umbel_queue.assert_enqueued(args=[ANY], kwargs={}, count=1)
    umbel_queue.refute_enqueued(welcome, args=(8,))
    umbel_queue.refute_enqueued(welcome, queue="celery")


def test_countdown_and_eta_may_be_off_by_a_little(umbel_app, umbel_clock, umbel_queue, welcome):
    welcome.apply_async((7,), countdown=60)
    eta = datetime.fromtimestamp(umbel_clock.time() + 62, UTC)

    umbel_queue.assert_enqueued(welcome, countdown=60.5)
    umbel_queue.assert_enqueued(welcome, eta=eta, within=2)
    with pytest.raises(AssertionError, match=r"due in 60 s \(countdown differs\)"):
        umbel_queue.assert_enqueued(welcome, eta=eta)
    with pytest.raises(AssertionError, match="countdown=0"):
        umbel_queue.assert_enqueued(welcome, countdown=0)


def test_failure_shows_what_is_there_and_what_comes_nearest(umbel_app, umbel_queue, welcome):
    umbel_app.send_task("other", (7,))
    welcome.apply_async((8,), {"locale": "de"})

    with pytest.raises(AssertionError) as raised:
        umbel_queue.assert_enqueued(welcome, args=(7,), queue="celery")
    assert str(raised.value) == (
        "not enqueued: mail.welcome args=[7] queue='celery'\n"
        "  nearest: mail.welcome(8, locale='de') in 'celery' (args differ)\n"
        "  enqueued (2):\n"
        "    other(7) in 'celery'\n"
        "    mail.welcome(8, locale='de') in 'celery'"
    )


def test_failure_says_that_nothing_is_enqueued(umbel_queue):
    with pytest.raises(AssertionError, match="not enqueued: any task\n  nothing is enqueued"):
        umbel_queue.assert_enqueued()


def test_count_must_be_met(umbel_queue, welcome):
    welcome.delay(1)
    welcome.delay(2)

    assert len(umbel_queue.assert_enqueued(welcome, count=2)) == 2
    umbel_queue.assert_enqueued("other", count=0)
    with pytest.raises(AssertionError, match=r"enqueued 2 times, not 1: mail\.welcome"):
        umbel_queue.assert_enqueued(welcome, count=1)


def test_refusal_shows_which_calls_there_are(umbel_queue, welcome):
    welcome.delay(1)
    with pytest.raises(AssertionError, match=r"should not be: mail\.welcome\n.*\n +mail.welcome"):
        umbel_queue.refute_enqueued(welcome)


def test_what_has_run_is_not_enqueued_and_its_retry_is(umbel_app, umbel_clock, umbel_queue):
    @umbel_app.task(bind=True)
    def flaky(self):
        raise self.retry(countdown=60)

    flaky.delay()
    umbel_queue.drain()

    [found] = umbel_queue.assert_enqueued(flaky, countdown=60)
    assert found.retries == 1


def test_enqueued_lists_calls_of_a_task_or_a_queue(umbel_queue, welcome):
    welcome.delay(1)
    welcome.apply_async((2,), queue="mail", compression="gzip")

    assert [call.args for call in umbel_queue.enqueued(welcome)] == [[1], [2]]
    assert [call.args for call in umbel_queue.enqueued(queue="mail")] == [[2]]
    assert umbel_queue.enqueued("nothing") == []


@pytest.mark.umbel(broker_url="sqlite:///calls.db", result_backend="sqlite:///calls.db")
def test_functions_take_the_app_on_any_broker_that_shows_its_queues(umbel_app, welcome):
    welcome.delay(1)

    assert [str(call) for call in enqueued(umbel_app)] == ["mail.welcome(1) in 'celery'"]
    assert_enqueued(umbel_app, welcome, args=(1,))
    refute_enqueued(umbel_app, welcome, args=(2,))


def test_message_that_cannot_be_read_is_shown_by_its_bytes(umbel_app, umbel_queue):
    from umbel_testing.samples import message

    umbel_app.broker.send([message("celery", body=b"\xff")])

    assert [call.args for call in umbel_queue.enqueued()] == [[b"\xff"]]


def test_faults_are_not_met_by_assertions(umbel_app, umbel_queue, umbel_faults, welcome):
    welcome.delay(1)
    with umbel_faults.broker.outage():
        umbel_queue.assert_enqueued(welcome)
