"""Stamps of one client as workers of the other see them, and hand them on."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from project import wait_for

from umbel import Signature, chain, chord, group
from umbel.canvas import StampingVisitor

PATIENCE_S = 30
STAMPS = {"tag": "x", "many": [1, 2]}


@pytest.fixture
def tasks(fleet):
    """Calls of tasks of the fleet that go to one of the queues."""

    def call(name):
        return lambda queue: Signature(
            f"tasks.{name}", options={"queue": queue}, immutable=True, app=fleet.app
        )

    names = ("stamps", "note_stamps", "fail")
    return SimpleNamespace(**{name: call(name) for name in names})


def seen(runner, stamps=STAMPS):
    return [runner, sorted(stamps), stamps]


def test_celerys_worker_sees_what_umbels_client_stamps(tasks):
    result = tasks.stamps("celery").stamp(**STAMPS).apply_async()

    assert result.get(timeout=PATIENCE_S) == seen("celery")


def test_umbels_worker_sees_what_celerys_client_stamps(celery):
    found = celery("""
        result = tasks.stamps.s().set(queue="umbel").stamp(tag="x", many=[1, 2]).apply_async()
        result.get(timeout=15)
    """)

    assert found == seen("umbel")


@pytest.mark.parametrize("first, second", [("umbel", "celery"), ("celery", "umbel")])
def test_stamps_of_umbels_workflow_cross_from_worker_to_worker(tasks, first, second):
    header = group(tasks.stamps(first), chain(tasks.stamps(second), tasks.stamps(first)))
    steps = [tasks.stamps(first), tasks.stamps(second), chord(header, tasks.stamps(second))]
    result = chain(*steps).stamp(**STAMPS).apply_async()

    assert result.get(timeout=PATIENCE_S) == seen(second)
    assert result.parent.get(timeout=PATIENCE_S) == [seen(first), seen(first)]
    before = result.parent.parent
    assert [before.get(), before.parent.get()] == [seen(second), seen(first)]


@pytest.mark.parametrize("first, second", [("umbel", "celery"), ("celery", "umbel")])
def test_stamps_of_celerys_workflow_cross_from_worker_to_worker(celery, first, second):
    found = celery(f"""
        here = lambda: tasks.stamps.si().set(queue={first!r})
        there = lambda: tasks.stamps.si().set(queue={second!r})
        made = chain(here(), there(), chord([here(), chain(there(), here())], there()))
        class Same(StampingVisitor):  # without one Celery passes over bodies
            def on_signature(self, sig, **headers):
                return {{"tag": "x", "many": [1, 2]}}
        made.stamp(Same())
        result = made.apply_async()
        last = result.get(timeout=15)
        before = result.parent.parent
        [last, result.parent.get(timeout=15), before.get(timeout=15), before.parent.get(timeout=15)]
    """)

    assert found == [seen(second), [seen(first)] * 2, seen(second), seen(first)]


def test_what_visitors_of_both_say_is_the_same(celery, tasks):
    class ByTask(StampingVisitor):
        def on_signature(self, sig, **headers):
            return {"task": sig.task}

        def on_chain_start(self, chain, **headers):
            return {"in_chain": 1}

        def on_group_start(self, group, **headers):
            return {"in_group": 2}

        def on_chord_body(self, sig, **header):
            return {"in_body": 3}

    here = tasks.stamps("celery")
    ours = chain(here, chord([here, here], here)).stamp(ByTask(), who="me").apply_async()
    theirs = celery("""
        class ByTask(StampingVisitor):
            def on_signature(self, sig, **headers):
                return {"task": sig.task}
            def on_chain_start(self, chain, **headers):
                return {"in_chain": 1}
            def on_group_start(self, group, **headers):
                return {"in_group": 2}
            def on_chord_body(self, sig, **header):
                return {"in_body": 3}
        here = lambda: tasks.stamps.si().set(queue="umbel")
        made = chain(here(), chord([here(), here()], here()))
        made.stamp(ByTask(), who="me")
        result = made.apply_async()
        last = result.get(timeout=15)
        [each[1:] for each in (last, *result.parent.get(), result.parent.parent.get())]
    """)

    values = [ours.get(timeout=PATIENCE_S), *ours.parent.get(), ours.parent.parent.get()]
    assert [each[1:] for each in values] == theirs


@pytest.mark.parametrize("queue, other", [("umbel", "celery"), ("celery", "umbel")])
def test_callbacks_and_errbacks_have_stamps_of_their_own(fleet, tasks, queue, other):
    keys = [f"link-{queue}", f"errback-{queue}"]
    callback, errback = (tasks.note_stamps(other).stamp(key=key) for key in keys)
    tasks.stamps(queue).link(callback).stamp(tag="x").apply_async()
    tasks.fail(queue).link_error(errback).stamp(tag="x").apply_async()

    expected = [f"{key}-['key','tag']" for key in keys]
    wait_for(lambda: all(fleet.ledger()[each] for each in expected), PATIENCE_S, fleet.tell)


@pytest.mark.parametrize("queue", ["umbel", "celery"])
def test_retry_keeps_the_stamps_of_the_other_client(celery, tasks, queue):
    ours = tasks.stamps(queue).replace(kwargs={"runs": 2}).stamp(**STAMPS).apply_async()
    theirs = celery(f"""
        sig = tasks.stamps.s(runs=2).set(queue={queue!r})
        sig.stamp(tag="x", many=[1, 2]).apply_async().get(timeout=15)
    """)

    assert ours.get(timeout=PATIENCE_S) == theirs == seen(queue)
