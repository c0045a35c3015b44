"""To revoke a node of a workflow stops what has not begun in all that descends from it."""

from __future__ import annotations

import asyncio
import logging

import pytest
from workflow_tasks import define, sig

from umbel import Umbel, chain, chord, group
from umbel.errors import BackendUnavailableError, ChordError, TaskRevokedError
from umbel.signatures import Signature
from umbel.worker.board import Board, slot_key
from umbel.worker.recovery import running_among


@pytest.fixture
def app(umbel_app):
    define(umbel_app)

    @umbel_app.task(name="spawn", bind=True)
    def spawn(self, *raw):
        for each in raw:
            Signature.from_dict(each).bound_to(umbel_app).apply_async()

    return umbel_app


def later(name="add", *args, **options):
    """A call that waits in a queue which nobody drains until it is named."""
    return Signature(name, args, options={"queue": "later", **options})


def spawning(*signatures, **options):
    return sig("spawn", *(each.to_dict() for each in signatures), **options)


@pytest.fixture
def now(app, umbel_queue):
    """Run what is in the first queue; return what ran."""
    return lambda: [each.id for each in umbel_queue.drain(queues=["celery"]) if each.has_run]


@pytest.fixture
def then(app, umbel_queue):
    """Run what waits in the other queue, and all that comes of it; return the ids of what ran."""
    return lambda: [
        each.id for each in umbel_queue.drain(queues=["later", "celery"]) if each.has_run
    ]


def send(app, canvas):
    return canvas.bound_to(app).apply_async()


def test_what_a_task_has_sent_does_not_begin(app, now, then):
    result = send(app, spawning(later(task_id="sent"), group([later(task_id="member")])))
    now()
    result.revoke()

    assert then() == []
    for task_id in ("sent", "member"):
        assert app.AsyncResult(task_id).state == "REVOKED"


def test_what_descendants_have_sent_does_not_begin(app, now, then):
    inner = spawning(chain(later(task_id="first"), later(task_id="last")))
    result = send(app, spawning(group([spawning(inner), later(task_id="second")])))
    now()
    result.revoke()

    assert then() == []
    assert app.AsyncResult("last").failed() or app.AsyncResult("last").state == "REVOKED"


def test_callback_of_a_task_that_is_over_does_not_begin(app, now, then):
    result = send(app, sig("add", link=[later(task_id="callback")]))
    now()
    result.revoke()

    assert then() == []


def test_rest_of_the_chain_fails_with_the_step_that_was_revoked(app, now, then):
    steps = [later(task_id="next"), sig("same", task_id="end")]
    result = send(app, chain(sig("add", task_id="first"), *steps))
    now()
    app.AsyncResult("first").revoke()

    assert then() == []
    with pytest.raises(TaskRevokedError):
        result.get(timeout=0)


def test_members_of_a_group_do_not_begin(app, then):
    result = send(app, group(later(), chain(later(), later())))
    app.control.revoke(result.id)

    assert len(then()) == 1  # a chain's first step is of no group: its end is
    assert {each.state for each in result} == {"REVOKED"}


def test_group_is_revoked_by_its_result(app, then):
    result = send(app, group(later(), chain(later(), later())))
    result.revoke()

    assert then() == []


@pytest.mark.parametrize("how", ["member", "group"])
def test_body_does_not_begin_where_what_it_follows_from_was_revoked(app, now, then, how):
    header = [sig("add", task_id="over"), later()]
    result = send(app, chord(header, sig("same", link_error=[sig("told", task_id="heard")])))
    now()
    (app.AsyncResult("over") if how == "member" else result.parent).revoke()
    ran = then()

    with pytest.raises(ChordError, match="TaskRevokedError"):
        result.get(timeout=0)
    assert result.id not in ran
    assert "heard" in ran


def test_body_of_a_chord_that_collects_errors_does_not_begin_either(app, now, then):
    header = [sig("add", task_id="over"), later()]
    result = send(app, chord(header, sig("same"), on_failure="collect"))
    now()
    app.AsyncResult("over").revoke()
    then()

    with pytest.raises(ChordError, match=r"Dependency over raised TaskRevokedError"):
        result.get(timeout=0)


def test_body_that_waits_in_a_queue_does_not_begin(app, now, then):
    result = send(app, chord([sig("add"), sig("add")], later("same")))
    now()
    result.parent.revoke()

    assert then() == []
    assert result.state == "REVOKED"


def test_what_replaces_a_task_does_not_begin(app, now, then):
    @app.task(name="replaced", bind=True)
    def replaced(self):
        self.replace(chain(later(), sig("add")))

    result = replaced.delay()
    now()
    result.revoke()

    assert then() == []
    assert result.state in ("REVOKED", "FAILURE")


def test_errbacks_of_what_was_revoked_are_called(app, then):
    sent = later(task_id="gone", link_error=[sig("told", task_id="heard"), sig("told")])
    result = send(app, sent)
    result.revoke()

    assert len(then()) == 2
    assert app.AsyncResult("heard").get(timeout=0) == ["gone"]


def test_siblings_and_parents_go_on(app, now, then):
    send(app, spawning(spawning(later(task_id="below"), task_id="one"), later(task_id="two")))
    now()
    app.AsyncResult("one").revoke()

    assert then() == ["two"]


def test_without_descendants_only_the_task_is_revoked(app, now, then):
    result = send(app, spawning(later(task_id="sent")))
    now()
    app.control.revoke(result.id, descendants=False)

    assert then() == ["sent"]
    assert app.control.is_revoked(result.id)


def test_what_runs_is_not_disturbed_and_what_it_sends_does_not_begin(app, umbel_queue):
    @app.task(name="long")
    def long():
        app.AsyncResult("top").revoke()
        return send(app, sig("add", task_id="sent late")).id

    send(app, spawning(sig("long", task_id="runs"), task_id="top"))
    runs = {each.id: each.state for each in umbel_queue.drain()}

    assert runs == {"top": "SUCCESS", "runs": "SUCCESS", "sent late": "REVOKED"}


def test_ids_are_recorded_before_anything_is_read(app, now, fault):
    result = send(app, spawning(later(task_id="sent")))
    now()
    broken = fault(app.backend, "load")

    with pytest.raises(BackendUnavailableError):
        app.control.revoke(result.id)
    broken.is_on = False
    assert app.control.is_revoked(result.id)


def test_many_are_read_a_thousand_at_a_time(app, now, monkeypatch):
    result = send(app, spawning(group([later() for _ in range(1500)])))
    now()
    asked = []
    load = app.backend.load
    monkeypatch.setattr(app.backend, "load", lambda ids: asked.append(len(ids)) or load(ids))
    app.control.revoke(result.id)

    assert asked == [1, 1000, 500]
    assert len(app.coordinator.scan("revoked/")) == 1502


def test_child_that_cannot_be_read_is_passed_over(app, now, then, caplog):
    caplog.set_level(logging.CRITICAL)
    result = send(app, spawning(later(task_id="one"), later(task_id="two")))
    now()
    stored = app.backend.load([result.id])[result.id]
    body = stored.body.replace(b'[["one",null],null]', b'"", 7, [["one",null],null]')
    assert body != stored.body
    app.backend.forget([result.id])
    app.backend.store([type(stored)(task_id=result.id, state="SUCCESS", body=body)])
    result.revoke()

    assert then() == []


def test_app_without_results_revokes_by_parents(umbel_clock):
    with Umbel("tests", broker="memory://", backend=None, clock=umbel_clock) as app:
        app.control.revoke("alone")

        assert app.control.is_revoked("alone")


def test_async_twin_descends_too(app, now, then):
    result = send(app, spawning(later(task_id="sent")))
    now()
    asyncio.run(result.arevoke())

    assert then() == []


@pytest.mark.parametrize("descendants", [True, False])
def test_terminate_finds_what_descends_from_the_ids(app, consumer, descendants):
    ids = {
        "itself": sig("add", task_id="a"),
        "a child": sig("add", task_id="b", parent_id="a"),
        "a member": sig("add", task_id="c", group_id="a"),
        "an errback": sig("told", task_id="d", parent_id="a", headers={"umbel_errback": False}),
        "another": sig("add", task_id="e"),
    }
    app.broker.send([app.message_for(each) for each in ids.values()])
    held = consumer.source.receive(max_messages=5, wait_s=0)
    board = Board.create(len(held))
    for slot, delivery in enumerate(held):
        board.begin(slot, slot_key(delivery.receipt), 1.0, None)
    found = running_among(["a"], app.broker, "node/0", board, descendants=descendants)
    board.close()

    assert set(found.values()) == ({"a", "b", "c"} if descendants else {"a"})
