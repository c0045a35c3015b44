"""What a broker refuses for good fails, and what depends on it: nobody waits for it."""

from __future__ import annotations

import logging

import pytest
from workflow_tasks import define, sig

from umbel import chain, chord, group
from umbel.builtin.memory.broker import MemoryBroker
from umbel.errors import BrokerError, ChordError


@pytest.fixture
def app(umbel_app):
    define(umbel_app)
    return umbel_app


@pytest.fixture
def refuse(monkeypatch, caplog):
    """Names tasks whose messages are too large for the broker."""
    caplog.set_level(logging.CRITICAL)
    refused = set()
    settle = MemoryBroker.settle

    def picky(self, deliveries, follow_ups):
        if found := [each.task for each in follow_ups if {each.task, each.id} & refused]:
            raise BrokerError(f"a message to {found[0]!r} is too large")
        return settle(self, deliveries, follow_ups)

    monkeypatch.setattr(MemoryBroker, "settle", picky)
    return lambda *names: refused.update(names)


@pytest.fixture
def run(app, umbel_queue):
    """Send a canvas and run all that comes of it; return its result and what ran."""

    def run(canvas):
        result = canvas.bound_to(app).apply_async()
        return result, umbel_queue.drain(queues=["celery"])

    return run


def ran(runs):
    return sorted(each.name for each in runs)


def held_or_waiting(app):
    stats = app.broker.stats("celery")
    return stats.ready + stats.held + stats.delayed


def test_body_that_is_refused_fails_with_the_steps_after_it_and_no_member(app, run, refuse):
    refuse("same")
    header = [sig("add", 1, task_id="one"), sig("add", 2, task_id="two")]
    body = sig("same", task_id="body", link_error=[sig("told")])
    result, runs = run(chain(chord(header, body), sig("add", task_id="next")))

    assert ran(runs) == ["add", "add", "told"]
    assert [app.AsyncResult(each).get(timeout=0) for each in ("one", "two")] == [1, 2]
    for each in (app.AsyncResult("body"), result):
        with pytest.raises(ChordError, match="Callback error: a message to 'same' is too large"):
            each.get(timeout=0)
    assert (list(app.broker.dead_letters()), held_or_waiting(app)) == ([], 0)


def test_chord_around_one_whose_body_is_refused_goes_by_its_policy(run, refuse):
    refuse("inner")
    inner = chord([sig("add", 1), sig("add", 2)], sig("same", task_id="inner"))
    result, _ = run(chord([inner, sig("add", 3)], sig("same"), on_failure="collect"))

    [[error, value]] = result.get(timeout=0)
    assert (error["exc_type"], value) == ("ChordError", 3)


def test_group_as_a_body_that_is_refused_fails_as_a_whole(run, refuse):
    refuse("two")
    ends = group(sig("same", task_id="one"), sig("same", task_id="two"))
    result, _ = run(chord([sig("add", 1), sig("add", 2)], ends))

    for each in result:
        with pytest.raises(ChordError, match="Callback error"):
            each.get(timeout=0)


def test_body_and_errback_that_are_refused_hold_up_nobody(app, run, refuse):
    refuse("same", "told")
    body = sig("same", link_error=[sig("told")])
    result, _ = run(chord([sig("add", 1), sig("add", 2)], body))

    with pytest.raises(ChordError, match="a message to 'same' is too large"):
        result.get(timeout=0)
    assert held_or_waiting(app) == 0


def test_next_step_that_is_refused_fails_with_all_after_it(app, run, refuse):
    refuse("same")
    steps = [sig("same", task_id="next"), sig("add", task_id="last")]
    first = sig("add", 1, task_id="first", link_error=[sig("told")])
    result, runs = run(chain(first, *steps))

    assert ran(runs) == ["add", "told"]
    for each in ("first", "next", "last"):
        assert "a message to 'same' is too large" in str(app.AsyncResult(each).result)
    assert (result.failed(), held_or_waiting(app)) == (True, 0)


def test_step_whose_errback_is_refused_too_fails_with_all_after_it(app, run, refuse):
    refuse("told")
    first = sig("fail", link_error=[sig("told")])
    result, _ = run(chain(first, sig("same", task_id="next"), sig("same")))

    assert app.AsyncResult("next").failed()
    assert (result.failed(), held_or_waiting(app)) == (True, 0)


def test_member_whose_next_step_is_refused_fails_its_chord(run, refuse):
    refuse("same")
    member = chain(sig("add", 1), sig("same", task_id="end"))
    result, _ = run(chord([member, sig("add", 2)], sig("add")))

    with pytest.raises(ChordError, match="Dependency end raised"):
        result.get(timeout=0)


def test_member_whose_callback_is_refused_fails_its_chord_be_it_complete_or_not(run, refuse):
    refuse("told")
    member = sig("add", 1, task_id="one", link=[sig("told")])
    for others in ([], [sig("add", queue="late")]):
        result, runs = run(chord([member.set(task_id=f"one {len(others)}"), *others], sig("same")))

        assert ran(runs) == ["add"]
        with pytest.raises(ChordError, match="told' is too large"):
            result.get(timeout=0)


def test_members_of_a_chord_that_are_refused_fail_with_its_body(app, run, refuse):
    refuse("same")
    begun = chord([sig("same"), sig("add")], sig("add", task_id="body"))
    result, _ = run(chain(sig("add", 1), begun, sig("add")))

    assert "a message to 'same' is too large" in str(app.AsyncResult("body").result)
    assert (result.failed(), held_or_waiting(app)) == (True, 0)
