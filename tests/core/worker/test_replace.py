"""A task that is replaced ends as what runs in its place does, as if it had done the work."""

from __future__ import annotations

import logging

import msgspec
import pytest
import workflow_tasks

from umbel import Umbel, chain, chord, group
from umbel.canvas.policies import COLLECT
from umbel.canvas.references import stored
from umbel.errors import ChordError, InvalidTaskError, Replace
from umbel.messages import ATTEMPTS_BEFORE, SENT_AT, Message
from umbel.outcomes import Replaced
from umbel.signatures import Signature
from umbel.worker.board import JournalEntry
from umbel_testing import TaskQueue, faults_in


@pytest.fixture
def app(umbel_app):
    define(umbel_app)
    return umbel_app


def define(app):
    workflow_tasks.define(app)

    @app.task(name="replace", bind=True)
    def replace(self, raw, *_):
        self.replace(raw)

    @app.task(name="after", bind=True)
    def after(self, value, raw):
        self.replace(Signature.from_dict(raw).clone((value,)))


def add(*args, **options):
    return Signature("add", args, options=options)


def same(*args, **options):
    return Signature("same", args, options=options)


def fail(**options):
    return Signature("fail", options=options)


def replaced_by(sig, **options):
    return Signature("replace", (sig.to_dict(),), options=options)


SHAPES = {
    "task": (lambda: add(1, 2), 3),
    "chain": (lambda: chain(add(1, 2), add(10)), 13),
    "group": (lambda: group(add(1), add(2)), [1, 2]),
    "group of one": (lambda: group(add(1)), [1]),
    "chord": (lambda: chord([add(1), add(2)], same("x")), [[1, 2], "x"]),
    "group at the end of a chain": (lambda: chain(add(1), group(add(1), add(2))), [2, 3]),
    "group as the body of a chord": (
        lambda: chord([add(1)], group(same(1), same(2))),
        [[[1], 1], [[1], 2]],
    ),
    "chord in a chain": (
        lambda: chain(add(1), chord([add(1), add(2)], same()), same()),
        [[[2, 3]]],
    ),
    "chain in a group": (lambda: group(chain(add(1), add(1)), group(add(5))), [2, 5]),
    "empty group": (group, []),
    "empty group at the end of a chain": (lambda: chain(add(1), group()), 1),
    "another one that is replaced": (lambda: replaced_by(replaced_by(chain(add(1), add(1)))), 2),
    "one that is replaced at the end": (lambda: chain(add(1), replaced_inside(add(7))), 8),
}


def replaced_inside(sig):
    return Signature("after", (sig.to_dict(),))


def apart(made):
    return made


def in_a_chain(made):
    return chain(add(), made, same("end"))


def in_a_chord(made):
    return chord([made, add(5)], same("body"))


def in_a_group(made):
    return group(made, add(5))


def at_the_end_of_a_chain_in_a_chord(made):
    return chord([chain(add(), made), add(5)], same("body"))


def as_the_body_of_a_chord(made):
    return chord([add(1), add(2)], made)


PLACES = {
    apart: lambda value: value,
    in_a_chain: lambda value: [value, "end"],
    in_a_chord: lambda value: [[value, 5], "body"],
    in_a_group: lambda value: [value, 5],
    at_the_end_of_a_chain_in_a_chord: lambda value: [[value, 5], "body"],
    as_the_body_of_a_chord: lambda value: value,
}


@pytest.mark.parametrize("place", PLACES, ids=lambda place: place.__name__)
@pytest.mark.parametrize("shape", SHAPES)
def test_can_21_replace_works_with_any_signature_in_any_place(app, umbel_queue, shape, place):
    sig, value = SHAPES[shape]
    made = replaced_by(sig()).set_immutable()
    result = place(made).bound_to(app).apply_async()
    umbel_queue.drain()

    assert result.get(timeout=0) == PLACES[place](value)


def test_can_21_replace_keeps_the_id(app, umbel_queue):
    result = replaced_by(chain(add(1), add(2))).bound_to(app).apply_async()
    runs = umbel_queue.drain()

    assert [(each.name, each.state) for each in runs] == [
        ("replace", "REPLACED"),
        ("add", "SUCCESS"),
        ("add", "SUCCESS"),
    ]
    assert (runs[0].id, runs[2].id) == (result.id, result.id)
    assert runs[1].id != result.id
    assert result.get(timeout=0) == 3


def test_can_21_replace_passes_on_root_group_and_chord(app, umbel_queue):
    seen = []

    @app.task(name="look", bind=True)
    def look(self, *_):
        request = self.request
        seen.append(
            (request.id, request.root_id, request.group, request.group_index, bool(request.chord))
        )

    member = replaced_by(Signature("look"), task_id="member")
    result = chord([add(1), member], same()).bound_to(app).apply_async()
    umbel_queue.drain()

    assert seen == [("member", "member", result.parent.id, 1, True)]
    assert result.get(timeout=0) == [[1, None]]


def test_can_21_replace_counts_the_nesting(app, umbel_queue):
    @app.task(name="nested", bind=True)
    def nested(self, left):
        if left:
            self.replace(nested.s(left - 1))
        return self.request.replaced_task_nesting

    result = nested.delay(3)
    umbel_queue.drain()

    assert result.get(timeout=0) == 3


def test_cfp_19_callbacks_follow_the_end_and_errbacks_all_of_it(app, umbel_queue):
    sent = {"link": [same("callback")], "link_error": [same("errback")]}
    replaced_by(chain(add(1), add(2)), **sent).bound_to(app).apply_async()
    runs = umbel_queue.drain()
    assert [each.args for each in runs if each.name == "same"] == [[3, "callback"]]

    replaced_by(chain(fail(task_id="first"), add(2)), **sent).bound_to(app).apply_async()
    runs = umbel_queue.drain()
    assert [each.args for each in runs if each.name == "same"] == [["first", "errback"]]


def test_cfp_19_rest_of_the_chain_keeps_its_ids(app, umbel_queue):
    steps = [replaced_by(group(add(1), add(2))), same(task_id="next"), same(task_id="last")]
    result = chain(*steps).bound_to(app).apply_async()
    umbel_queue.drain()

    assert result.id == "last"
    assert app.AsyncResult("next").get(timeout=0) == [[1, 2]]
    assert result.get(timeout=0) == [[[1, 2]]]


@pytest.mark.parametrize(
    "sig,why",
    [
        (chain(), "empty chain"),
        (chain(group()), "empty chain"),
        (chain(add(1), add(2, quue="slow")), "no option 'quue'"),
        (add(1, chord=same()), "part of a chord already"),
        (chain(add(1), add(1, chord=same())), "part of a chord already"),
    ],
)
def test_cfp_19_what_cannot_replace_a_task_is_refused(app, umbel_queue, sig, why):
    result = replaced_by(sig).bound_to(app).apply_async()
    umbel_queue.drain()

    with pytest.raises(InvalidTaskError, match=why):
        result.get(timeout=0)


def test_task_that_was_called_as_a_function_cannot_be_replaced(app):
    with pytest.raises(InvalidTaskError, match="called as a function"):
        app.tasks["replace"](add(1).to_dict())


def test_failure_in_what_replaces_a_part_fails_its_chord(app, umbel_queue):
    member = replaced_by(chain(fail(), add(1)), task_id="member")
    result = chord([add(1), member], same()).bound_to(app).apply_async()
    umbel_queue.drain()

    with pytest.raises(ChordError, match=r"Dependency member raised ValueError"):
        result.get(timeout=0)


def test_chord_in_the_place_of_a_task_keeps_its_policy(app, umbel_queue):
    made = chord([add(1), fail()], group(same(1)), on_failure=COLLECT)
    result = replaced_by(made).bound_to(app).apply_async()
    umbel_queue.drain()

    (((first, error), one),) = result.get(timeout=0)
    assert (first, error["exc_type"], one) == (1, "ValueError", 1)


def test_what_cannot_be_encoded_fails_the_task(app, umbel_queue):
    @app.task(name="bad", bind=True)
    def bad(self):
        self.replace(add(object()))

    result = bad.delay()
    (run,) = umbel_queue.drain()

    assert run.state == "FAILURE"
    assert "EncodeError" in repr(result.result)


def test_what_cannot_be_sent_fails_the_task_and_its_chord(app, umbel_queue, caplog):
    caplog.set_level(logging.CRITICAL)
    member = replaced_by(add(1, priority=1000), task_id="member")
    result = chord([add(1), member], same()).bound_to(app).apply_async()
    umbel_queue.drain()

    with pytest.raises(ChordError, match=r"Dependency member raised InvalidTaskError"):
        result.get(timeout=0)


def test_hook_is_told_what_replaces_the_task(app, umbel_queue):
    class Hooked(app.Task):
        name = "hooked"
        seen = None

        def run(self):
            self.replace(add(1))

        def on_replace(self, sig):
            self.seen = sig
            return super().on_replace(sig.clone((41,)))

    task = app.register_task(Hooked())
    result = task.delay()
    umbel_queue.drain()

    assert result.get(timeout=0) == 42
    assert (task.seen.task, task.seen.id) == ("add", result.id)


def test_hook_may_return_a_value_instead(app, umbel_queue):
    class Hooked(app.Task):
        name = "hooked"

        def run(self):
            return self.replace(add(1))

        def on_replace(self, sig):
            return f"not {sig.task}"

    result = app.register_task(Hooked()).delay()
    umbel_queue.drain()

    assert result.get(timeout=0) == "not add"


def test_coroutine_is_replaced_too(app, umbel_queue):
    @app.task(name="later", bind=True)
    async def later(self):
        self.replace(chain(add(1), add(2)))

    result = later.delay()
    umbel_queue.drain()

    assert result.get(timeout=0) == 3


def test_handlers_are_told_nothing_of_a_task_that_was_replaced(app, umbel_queue):
    told = []

    @app.task(
        name="handled",
        bind=True,
        on_success=lambda *_: told.append("success"),
        on_failure=lambda *_: told.append("failure"),
        after_return=lambda *_: told.append("return"),
    )
    def handled(self):
        self.replace(add(1))

    handled.delay()
    umbel_queue.drain()

    assert told == []


def test_state_of_the_task_that_was_replaced_gives_way(app, umbel_queue):
    @app.task(name="busy", bind=True)
    def busy(self):
        if not self.request.retries:
            self.retry(countdown=0)
        self.update_state(state="PROGRESS", meta="half")
        self.replace(add(1))

    result = busy.apply_async(task_id="chosen", on_conflict="replace")
    umbel_queue.drain()

    assert result.get(timeout=0) == 1


def test_what_keeps_the_id_is_another_attempt(app, job, run):
    one = job("replace", add(1).to_dict(), headers={SENT_AT: 5, ATTEMPTS_BEFORE: 2, "retries": 1})
    outcome = run(one)
    assert isinstance(outcome, Replaced)
    signature = Signature.from_dict(one.runner.task_serializer.loads(outcome.signature))
    message = app.message_for(signature, parent=one.request)

    assert isinstance(message, Message)
    assert (one.request.attempt, message.attempt) == (3, 4)
    assert message.result_order > one.request.result_order
    assert message.once_key != one.delivery.message.once_key


def test_signal_says_what_runs_instead(app, job, run):
    signal = Replace(add(1))

    assert "add(1)" in str(signal)


def test_replaced_tasks_are_logged(app, umbel_queue, caplog):
    caplog.set_level(logging.INFO, "umbel.task")
    result = replaced_by(add(1)).bound_to(app).apply_async()
    umbel_queue.drain()

    assert f"replace[{result.id}] replaced by add" in caplog.text


@pytest.mark.parametrize("pool", ["solo", "threads", "asyncio"])
def test_replace_works_in_every_pool(pool):
    with Umbel("tests", broker="memory://", backend="memory://") as app:
        define(app)

        @app.task(name="later", bind=True)
        async def later(self):
            self.replace(chain(add(1), add(2)))

        with app.worker(pool=pool):
            plain = chain(replaced_by(group(add(1), add(2))), same()).bound_to(app).apply_async()
            assert plain.get(timeout=20) == [[1, 2]]
            assert later.delay().get(timeout=20) == 3


# -- references ---------------------------------------------------------------------------------


def test_reference_travels_as_a_plain_call_which_celery_can_read():
    form = stored("umbel.stored", (), {"key": "second"}, {"task_id": "last"}).to_dict()

    assert form["subtask_type"] is None
    assert isinstance(Signature.from_dict(form), stored)


def test_reference_that_comes_as_a_message_is_replaced_by_what_it_stands_for(app, umbel_queue):
    kept = chain(add(1), replaced_inside(add(1)), same("end", task_id="last"))
    app.workflow_store.put("key", kept.to_dict(), ttl_s=60)
    app.send_task("umbel.stored", (40,), {"key": "key"}, task_id="last")
    umbel_queue.drain()

    assert app.AsyncResult("last").get(timeout=0) == [42, "end"]


@pytest.mark.umbel(canvas_max_inline=2)
def test_reference_at_the_end_of_what_a_reference_stands_for_keeps_the_id(app, umbel_queue):
    app.workflow_store.put("second", add(1, task_id="last").to_dict(), ttl_s=60)
    end = stored("umbel.stored", (), {"key": "second"}, {"task_id": "last"})
    app.workflow_store.put("first", chain(add(1), end).to_dict(), ttl_s=60)
    app.send_task("umbel.stored", (40,), {"key": "first"}, task_id="last", link=[same()])
    runs = umbel_queue.drain()

    assert app.AsyncResult("last").get(timeout=0) == 42
    assert [each.args for each in runs if each.name == "same"] == [[42]]


def test_reference_to_what_is_gone_fails_the_task(app, umbel_queue, caplog):
    caplog.set_level(logging.CRITICAL)
    body = same(task_id="body")
    result = app.send_task("umbel.stored", (), {"key": "gone"}, chain=[body.to_dict()])
    umbel_queue.drain()

    for each in (result, app.AsyncResult("body")):
        assert "no longer kept, under the key 'gone'" in str(each.result)


# -- faults -------------------------------------------------------------------------------------


@pytest.mark.parametrize("url", ["memory://", "sqlite:///replaced.db"])
@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize(
    "step",
    ["backend.open_chord", "backend.join_chord", "backend.store", "broker.settle", "broker.send"],
)
@pytest.mark.parametrize("skip", [0, 1, 2])
def test_crash_neither_loses_nor_doubles_what_replaces_a_task(
    umbel_clock, caplog, url, when, step, skip
):
    caplog.set_level(logging.CRITICAL)
    ran = []
    with (
        Umbel("tests", broker=url, backend=url, clock=umbel_clock) as app,
        faults_in(app) as faults,
    ):
        define(app)
        app.task(name="note")(lambda *values: ran.append(list(values)))
        inner = chord([add(1), chain(add(1), add(1))], same())
        made = chain(replaced_by(replaced_by(inner)), Signature("note"))
        app.send_task("add", link=[made.set_immutable().to_dict()])
        faults.crash(when, step, skip=skip)
        queue = TaskQueue(app)
        for _ in range(5):
            queue.drain()
            umbel_clock.advance(60)
        queue.close()

    assert ran == [[[[1, 2]]]]


@pytest.mark.parametrize("url", ["memory://", "sqlite:///again.db"])
def test_message_that_comes_again_after_its_replacement_is_over_does_nothing(
    umbel_clock, url, caplog
):
    ran = []
    with Umbel("tests", broker=url, backend=url, clock=umbel_clock) as app:
        define(app)
        app.task(name="note")(lambda *values: ran.append(list(values)))
        sig = replaced_by(add(1), link=[Signature("note")], task_id="t")
        app.broker.send([app.message_for(sig)])
        queue = TaskQueue(app)
        queue.drain()
        umbel_clock.advance(app.conf.task_once_window_s + 1)
        again = app.message_for(sig)
        again.headers["umbel_resent"] = True
        app.broker.send([again])
        queue.drain()
        queue.close()

    assert ran == [[1]]


def test_outcome_crosses_processes(app):
    entry = JournalEntry("receipt", Replaced(b"{}", "add", 0.5, b"[]"), 1.0, None)
    decoded = msgspec.msgpack.decode(msgspec.msgpack.encode(entry), type=JournalEntry)

    assert decoded == entry


@pytest.mark.parametrize("shape", SHAPES)
def test_eager_task_is_replaced_here(app, shape):
    sig, value = SHAPES[shape]
    app.conf.task_always_eager = True
    result = chain(replaced_by(sig()), same("end")).bound_to(app).apply_async()

    assert result.get() == [value, "end"]
