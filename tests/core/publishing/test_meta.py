"""``meta=``: what is said of a call, and of all that descends from it."""

from __future__ import annotations

import pytest
from project import wait_for

from umbel import chain, chord, group
from umbel.errors import InvalidTaskError

TIMEOUT_S = 20


@pytest.fixture
def app(make_app):
    return make_app(backend="memory://")


@pytest.fixture
def seen(app):
    """What each task saw as its ``request.meta``."""
    found = {}

    @app.task(name="look", bind=True)
    def look(self, *args):
        found[args[-1] if args else ""] = self.request.meta

    @app.task(name="send", bind=True)
    def send(self, *_):
        app.send_task("look", ("child",))
        app.send_task("look", ("own",), meta={"k": 2, "more": True})
        inner()

    @app.task(name="inner")
    def inner():
        app.send_task("look", ("inner",))

    @app.task(name="again", bind=True)
    def again(self):
        if not self.request.retries:
            self.retry(countdown=0)
        found["again"] = self.request.meta

    @app.task(name="fail")
    def fail():
        raise ValueError

    return found


def look(app, name, **options):
    return app.signature("look", (name,), immutable=True, **options)


def test_can_23_a_task_sees_its_meta(app, seen):
    with app.worker():
        app.send_task("look", ("",), meta={"k": [1]})
        wait_for(lambda: seen, TIMEOUT_S)

    assert seen == {"": {"k": [1]}}


def test_can_23_a_task_without_meta_has_none(app, seen):
    app.send_task("look")
    assert "umbel_meta" not in app.broker.peek("celery", limit=1)[0].headers
    with app.worker():
        wait_for(lambda: seen, TIMEOUT_S)

    assert seen == {"": {}}


def test_can_23_meta_is_inherited_by_what_a_task_sends_and_can_be_added_to(app, seen):
    with app.worker():
        app.send_task("send", meta={"k": 1})
        wait_for(lambda: len(seen) == 3, TIMEOUT_S)

    assert seen == {"child": {"k": 1}, "own": {"k": 2, "more": True}, "inner": {"k": 1}}


def test_can_23_meta_is_inherited_by_all_of_a_workflow(app, seen):
    made = chain(look(app, "a"), group(look(app, "b"), look(app, "c")), look(app, "d"))
    with app.worker():
        made.link(look(app, "e")).apply_async(meta={"k": 1})
        wait_for(lambda: len(seen) == 5, TIMEOUT_S)

    assert seen == {name: {"k": 1} for name in "abcde"}


def test_can_23_meta_of_a_group_or_chord_is_that_of_all_members(app, seen):
    with app.worker():
        group(look(app, "a"), look(app, "b")).apply_async(meta={"k": 1})
        chord([look(app, "c"), look(app, "d")], look(app, "e")).apply_async(meta={"k": 1})
        wait_for(lambda: len(seen) == 5, TIMEOUT_S)

    assert seen == {name: {"k": 1} for name in "abcde"}


def test_can_23_meta_is_kept_by_a_retry_and_told_to_errbacks(app, seen):
    with app.worker():
        app.send_task("again", meta={"k": 1})
        app.send_task("fail", meta={"k": 2}, link_error=look(app, "errback"))
        wait_for(lambda: len(seen) == 2, TIMEOUT_S)

    assert seen == {"again": {"k": 1}, "errback": {"k": 2}}


def test_can_23_meta_travels_in_a_signature(app, seen):
    with app.worker():
        app.signature(look(app, "", meta={"k": 1}).to_dict()).apply_async()
        wait_for(lambda: seen, TIMEOUT_S)

    assert seen == {"": {"k": 1}}


@pytest.mark.parametrize("wrong", ["text", 5, {1: 2}, [("k", "v")]])
def test_meta_is_a_dict_with_keys_of_text(app, wrong):
    with pytest.raises(InvalidTaskError, match="meta must be a dict"):
        app.send_task("look", meta=wrong)


def test_meta_has_a_header_of_its_own(app):
    with pytest.raises(InvalidTaskError, match="the protocol's own"):
        app.send_task("look", headers={"umbel_meta": {}})


def test_malformed_meta_of_a_stranger_is_a_dead_letter(app, umbel_queue_of):
    message = app.message_for(app.signature("look", ("",)))
    message.headers["umbel_meta"] = "text"
    app.broker.send([message])
    umbel_queue_of(app).drain()

    [dead] = app.broker.dead_letters()
    assert "malformed headers" in dead.reason


@pytest.fixture
def umbel_queue_of():
    from umbel_testing import TaskQueue

    return TaskQueue
