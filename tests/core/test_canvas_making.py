"""What an app makes: signatures that it sends, and results that it reads."""

from __future__ import annotations

import pytest

from umbel import GroupResult, ResultSet, Signature, Umbel, chain, chord, group
from umbel.errors import NoCurrentAppError


@pytest.fixture
def two(make_app):
    """Two apps, none of which is the current one, and a task's name."""
    return make_app("one", backend="memory://"), make_app("two", backend="memory://")


def test_what_an_app_makes_is_sent_by_it(two, waiting):
    app, other = two
    step = Signature("t", (1,))
    made = [
        app.signature("t", (1,)),
        app.signature(step),
        app.signature(step.to_dict()),
        app.maybe_signature(step.to_dict()),
        app.chain(step, step),
        app.group(step),
        app.chord([step], step),
        app.xmap(step, [1]),
        app.xstarmap(step, [(1,)]),
        app.chunks(step, [(1,)], 1).group(),
    ]

    for each in made:
        each.apply_async()

    assert len(waiting(app)) == len(made)
    assert waiting(other) == []


def test_maybe_signature_of_nothing_is_nothing(app):
    assert app.maybe_signature(None) is None


def test_a_copy_is_sent_by_the_same_app(two, waiting):
    app, _ = two
    made = app.signature("t", (1,))

    for each in (
        made.set(priority=1),
        made.clone((2,)),
        made.link(made),
        made | made,
        made.freeze(),
    ):
        each.apply_async()

    assert len(waiting(app)) == 5


def test_what_belongs_to_no_app_is_sent_by_the_current_one(two, waiting):
    app, other = two
    with pytest.raises(NoCurrentAppError):
        chain(Signature("t"), Signature("t")).apply_async()
    other.set_current()

    (Signature("t") | Signature("t")).apply_async()
    group(Signature("t"), Signature("t")).delay()

    assert (len(waiting(other)), waiting(app)) == (3, [])


def test_workflow_of_tasks_is_sent_by_their_app(two, waiting):
    app, other = two
    add = app.task(name="add")(lambda *numbers: sum(numbers))
    other.set_current()

    chord([add.s(1), add.s(2)], add.s()).apply_async()
    (add.s(1) | add.s(2)).apply_async()

    assert (len(waiting(app)), waiting(other)) == (3, [])


def test_groups_are_saved_and_restored_by_the_app(two):
    app, other = two
    result = group(Signature("t", app=app), Signature("t", app=app)).apply_async()
    result.save()

    restored = app.GroupResult.restore(result.id)
    assert isinstance(restored, GroupResult)
    assert restored.as_tuple() == result.as_tuple()
    assert app.GroupResult("g", []).ready()
    restored.delete()
    assert app.GroupResult.restore(result.id) is None
    assert app.GroupResult is app.GroupResult
    assert app.GroupResult is not other.GroupResult


def test_result_set_is_read_by_the_app(two):
    app, _ = two
    found = app.ResultSet([])
    found.add(app.AsyncResult("a"))

    assert isinstance(found, ResultSet)
    assert (found.ready(), len(found)) == (False, 1)
    assert app.ResultSet().get() == []


def test_call_by_name_takes_what_comes_after_it(app, waiting):
    after = Signature("t.body", (1,))
    app.send_task(
        "t", (1,), link=[after], link_error=after, chain=[after], chord=after, group_id="g"
    )

    [message] = waiting(app)
    embed = app.serializer("json").loads(message.body)[2]
    assert embed == {
        "callbacks": [after.to_dict()],
        "errbacks": [after.to_dict()],
        "chain": [after.to_dict()],
        "chord": after.to_dict(),
    }


def test_settings_of_workflows_hold_from_when_they_are_changed():
    with Umbel("own", broker="memory://", backend="memory://") as app:
        assert app.workflow_store.max_inline == 32
        app.conf.canvas_max_inline = 2

        assert app.workflow_store.max_inline == 2


# -- tasks that call another for many items -------------------------------------------------------


@pytest.fixture
def routed(make_app):
    """An app with a task that has a route, and one that has a queue."""
    app = make_app(backend="memory://", task_routes={"proj.routed": {"queue": "by-route"}})
    app.task(name="proj.routed")(lambda x: x)
    app.task(name="proj.declared", queue="declared", priority=3)(lambda x: x)
    return app


@pytest.mark.parametrize(
    "name, queue", [("proj.routed", "by-route"), ("proj.declared", "declared")]
)
def test_items_go_to_the_queue_of_their_task(routed, waiting, name, queue):
    task = routed.tasks[name]
    task.map([1]).apply_async()
    task.starmap([(1,)]).apply_async()
    task.chunks([(1,), (2,)], 1)()
    chain(task.s(1), task.map([1])).apply_async()

    assert {message.task for message in waiting(routed, queue)} == {
        "celery.map",
        "celery.starmap",
        name,
    }
    assert waiting(routed) == []


def test_items_go_where_the_call_says(routed, waiting):
    routed.tasks["proj.declared"].map([1]).set(queue="here").apply_async()

    assert [message.task for message in waiting(routed, "here")] == ["celery.map"]


# -- results of what keeps none -------------------------------------------------------------------


def test_nobody_waits_for_what_is_not_kept(app):
    app.task(name="one")(lambda *_: 1)
    app.task(name="none", ignore_result=True)(lambda *_: 1)
    one, none = app.signature("one"), app.signature("none")

    assert chain(one, none).apply_async().get(timeout=0) is None
    assert chain(one, one.set(ignore_result=True)).apply_async().get(timeout=0) is None
    assert group(none, one.set(ignore_result=True)).apply_async().get(timeout=0) == [None, None]
    assert chord([one], none).apply_async().get(timeout=0) is None
    assert chord([one], one.set(ignore_result=True)).apply_async().ignored
    assert not chain(none, none.set(ignore_result=False)).apply_async().ignored
