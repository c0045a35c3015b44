"""A workflow that can't be sent as a whole ends all the same, for what of it was sent."""

from __future__ import annotations

import pytest
from workflow_tasks import define, sig

from umbel import chain, chord, group
from umbel.errors import (
    AlreadySentError,
    BackendUnavailableError,
    BrokerUnavailableError,
    ChordError,
    EncodeError,
)

#: More than go to the broker at first.
SIZE, BAD = 130, 120


@pytest.fixture
def app(umbel_app):
    define(umbel_app)
    return umbel_app


def members(bad=BAD):
    """Return the members of a header, one of which can't be encoded."""
    return [
        sig("same", object() if index == bad else index, task_id=f"m{index}")
        for index in range(SIZE)
    ]


def send(app, canvas, error=EncodeError):
    with pytest.raises(error) as found:
        canvas.bound_to(app).apply_async()
    return found.value


def test_body_fails_at_once_and_so_do_the_members_that_were_not_sent(app, umbel_queue):
    body = sig("same", task_id="body", link_error=[sig("told")])
    error = send(app, chain(chord(members(), body), sig("same", task_id="next")))

    assert error.__notes__ == ["100 calls before these were sent"]
    with pytest.raises(ChordError, match="Dependency m100 raised EncodeError"):
        app.AsyncResult("body").get(timeout=0)
    assert app.AsyncResult("next").failed()
    with pytest.raises(EncodeError):
        app.AsyncResult(f"m{SIZE - 1}").get(timeout=0)
    runs = umbel_queue.drain()
    assert [each.args for each in runs if each.name == "told"] == [["body"]]
    assert len(runs) == 101
    assert app.AsyncResult("m99").get(timeout=0) == [99]
    assert app.AsyncResult("body").failed()


def test_body_that_collects_runs_with_what_was_sent(app, umbel_queue):
    send(app, chord(members(), sig("same", task_id="body"), on_failure="ignore"))
    umbel_queue.drain()

    [values] = app.AsyncResult("body").get(timeout=0)
    assert values == [[index] for index in range(100)]


def test_group_that_was_frozen_has_failed_members(app, umbel_queue):
    frozen = group(members()).bound_to(app).freeze()
    send(app, frozen)
    umbel_queue.drain()

    result = frozen.result
    assert (result.ready(), result.failed(), result.completed_count()) == (True, True, 100)


def test_broker_that_is_gone_meanwhile_fails_the_body(app, umbel_faults):
    app.conf.task_publish_retry = False
    umbel_faults.broker.fail("send_once", skip=1, times=9)
    send(app, chord(members(None), sig("same", task_id="body")), BrokerUnavailableError)

    with pytest.raises(ChordError, match="raised BrokerUnavailableError"):
        app.AsyncResult("body").get(timeout=0)


def test_nothing_fails_where_nothing_was_sent(app):
    send(app, chord(members(0), sig("same", task_id="body")))

    assert app.AsyncResult("body").state == "PENDING"
    assert app.AsyncResult("m1").state == "PENDING"


def test_task_that_has_the_id_of_a_member_fails_the_body_and_has_its_own_end(app, umbel_queue):
    sig("same", 1, task_id=f"m{BAD}").bound_to(app).apply_async()
    send(app, chord(members(None), sig("same", task_id="body")), AlreadySentError)

    assert app.AsyncResult("body").failed()
    assert app.AsyncResult(f"m{BAD}").state == "PENDING"
    umbel_queue.drain()
    assert app.AsyncResult(f"m{BAD}").get(timeout=0) == [1]


def test_workflow_that_was_sent_before_goes_on(app, umbel_queue):
    frozen = chord(members(None), sig("same")).bound_to(app).freeze()
    frozen.apply_async()
    send(app, frozen, AlreadySentError)
    umbel_queue.drain()

    assert len(frozen.result.get(timeout=0)[0]) == SIZE


@pytest.mark.umbel(result_backend=None)
def test_group_without_a_backend_raises_what_it_raised(app):
    send(app, group(members()))


def test_backend_that_is_gone_is_told_of_and_the_first_error_raised(app, umbel_faults, caplog):
    umbel_faults.backend.fail("join_chord", error=BackendUnavailableError("gone"))
    send(app, chord(members(), sig("same", task_id="body")))

    assert "30 calls weren't sent, and nobody can be told so: gone" in caplog.text
