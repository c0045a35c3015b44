"""Chains, groups and chords that a client put into a message are carried out by workers."""

from __future__ import annotations

import logging

import msgspec
import pytest
import workflow_tasks
from celery_forms import call, chain, chord, group

from umbel import Umbel
from umbel.builtin.memory.backend import MemoryBackend
from umbel.errors import ChordError, Ignore, InvalidTaskError, Reject, Retry
from umbel.interfaces.backend import BackendCapability
from umbel.signatures import Signature
from umbel_testing import Crash, TaskQueue, faults_in


@pytest.fixture
def app(umbel_app):
    define(umbel_app)
    return umbel_app


def define(app):
    workflow_tasks.define(app)

    @app.task(name="flaky", bind=True, default_retry_delay=0)
    def flaky(self, *values):
        if self.request.retries < 2:
            raise Retry(exc=KeyError("again"), when=0)
        return list(values)


@pytest.fixture
def run(app, umbel_queue):
    """Send a task with options, run all that comes of it, and tell what ran with what."""

    def run(name, *args, **options):
        app.send_task(name, args, **options)
        return [(each.name, each.args, each.state) for each in umbel_queue.drain()]

    return run


def after(runs, name):
    """Return the arguments of the runs of one task."""
    return [args for ran, args, _ in runs if ran == name]


# -- groups and chains --------------------------------------------------------------------------


def test_group_among_callbacks_gets_the_result_in_each_member(run):
    runs = run("add", 1, 2, link=[group(call("same", "x"), call("same", immutable=True))])

    assert sorted(after(runs, "same")) == [[], [3, "x"]]


def test_chain_among_callbacks_runs_to_its_end(run):
    assert after(run("add", 1, link=[chain(call("add", 2), call("same", "x"))]), "same") == [
        [3, "x"]
    ]


def test_group_at_the_end_of_a_chain_is_its_end(app, run):
    members = [call("same", task_id="m0"), call("same", 1, task_id="m1")]
    runs = run("add", 5, chain=[group(*members, task_id="g")])

    assert sorted(after(runs, "same")) == [[5], [5, 1]]
    assert [app.AsyncResult(each).get(timeout=0) for each in ("m0", "m1")] == [[5], [5, 1]]


def test_what_comes_after_a_group_in_a_chain_gets_all_results(run):
    steps = [call("same", "end"), call("same"), group(call("add", 1), call("add", 2))]

    assert after(run("add", 10, chain=steps), "same") == [[[11, 12]], [[[11, 12]], "end"]]


def test_group_inside_a_chain_inside_callbacks_is_a_header(run):
    inner = chain(call("add", 1), group(call("add", 1), call("add", 2)), call("same"))

    assert after(run("add", 10, link=[inner]), "same") == [[[12, 13]]]


def test_what_follows_from_a_task_belongs_to_its_tree(app, umbel_queue):
    seen = []

    @app.task(name="look", bind=True)
    def look(self, *_):
        request = self.request
        seen.append((request.root_id, request.parent_id, request.group, request.group_index))

    result = app.send_task("add", (1,), link=[group(call("look"), call("look"), task_id="g")])
    umbel_queue.drain()

    assert sorted(seen) == [(result.id, result.id, "g", 0), (result.id, result.id, "g", 1)]


def test_what_follows_from_a_success_is_among_its_children(app, umbel_queue):
    link = [call("same", task_id="callback"), group(call("same", task_id="m"), task_id="g")]
    result = app.send_task("add", (1,), link=link, chain=[call("same", task_id="next")])
    umbel_queue.drain()

    document = msgspec.json.decode(app.backend.load([result.id])[result.id].body)
    assert document["children"] == [
        [["callback", None], None],
        [["g", None], [[["m", None], None]]],
        [["next", None], None],
    ]


def test_composed_errbacks_are_sent_with_the_id(app, umbel_queue):
    result = app.send_task("fail", link_error=[chain(call("same"), call("same", "x"))])
    runs = [(each.name, each.args) for each in umbel_queue.drain()]

    assert runs == [("fail", []), ("same", [result.id]), ("same", [[result.id], "x"])]


def test_malformed_composition_is_a_dead_letter_before_the_task_runs(app, umbel_queue):
    message = app.message_for(Signature("add", (1,)))
    embed = {"callbacks": [{**group(), "kwargs": {"tasks": 7}}]}
    foreign = msgspec.structs.replace(message, body=msgspec.json.encode([[1], {}, embed]))
    app.broker.send([foreign])
    runs = umbel_queue.drain()

    [dead] = app.broker.dead_letters()
    assert list(runs) == []
    assert "malformed embed: 'tasks' of signature 'celery.group'" in dead.reason


def test_malformed_composition_is_not_sent(app):
    with pytest.raises(InvalidTaskError, match="link can't be read: 'tasks' of signature"):
        app.send_task("add", (1,), link=[{**group(), "kwargs": {"tasks": 7}}])


# -- failures in chains -------------------------------------------------------------------------


def test_failure_in_a_chain_fails_the_steps_after_it(app, run):
    last = chord([call("same", task_id="header")], call("same", task_id="body"))
    runs = run("fail", chain=[last, call("add", task_id="next")])

    assert [name for name, _, _ in runs] == ["fail"]
    for task_id in ("next", "header", "body"):
        with pytest.raises(ValueError, match="bad"):
            app.AsyncResult(task_id).get(timeout=0)


def test_steps_that_never_ran_leave_a_result_that_stands_alone(app, umbel_queue):
    app.send_task("add", (7,), task_id="next")
    umbel_queue.drain()
    app.send_task("fail", chain=[call("add", task_id="next")])
    umbel_queue.drain()

    assert app.AsyncResult("next").get(timeout=0) == 7


def test_step_that_runs_after_all_replaces_what_a_failure_said_of_it(app, umbel_queue):
    app.send_task("fail", chain=[call("add", 1, task_id="next")])
    umbel_queue.drain()
    message = app.message_for(Signature.from_dict(call("add", 1, task_id="next")))
    app.broker.send([message])
    umbel_queue.drain()

    assert app.AsyncResult("next").get(timeout=0) == 1


def test_steps_whose_result_nobody_wants_get_none(app, run):
    run("fail", chain=[call("add", task_id="next", ignore_result=True)])

    assert app.backend.load(["next"]) == {}


# -- chords -------------------------------------------------------------------------------------


SHAPES = {
    "plain": (chord([call("add", 1), call("add", 2)], call("same")), [[[11, 12]]]),
    "immutable body": (chord([call("add")], call("same", "x", immutable=True)), [["x"]]),
    "header of one": (chord(call("add", 1), call("same")), [[[11]]]),
    "nested groups": (
        chord([group(call("add", 1), call("add", 2)), call("add", 3)], call("same")),
        [[[11, 12, 13]]],
    ),
    "chain in header": (
        chord([chain(call("add", 1), call("add", 5)), call("add", 2)], call("same")),
        [[[16, 12]]],
    ),
    "group at the end of a chain in header": (
        chord(
            [chain(call("add"), group(call("add", 1), call("add", 2))), call("add", 3)],
            call("same"),
        ),
        [[[[11, 12], 13]]],
    ),
    "chord in header": (
        chord(
            [chord([call("add", 1), call("add", 2)], call("same")), call("add", 3)],
            call("same", "x"),
        ),
        [[[11, 12]], [[[[11, 12]], 13], "x"]],
    ),
    "chain as body": (
        chord([call("add", 1)], chain(call("same"), call("same", "x"))),
        [[[11]], [[[11]], "x"]],
    ),
    "group as body": (
        chord([call("add", 1)], group(call("same", 1), call("same", 2))),
        [[[11], 1], [[11], 2]],
    ),
    "chord as body": (
        chord([call("add", 1)], chord([call("same", 1), call("same", 2)], call("same"))),
        [[[11], 1], [[11], 2], [[[[11], 1], [[11], 2]]]],
    ),
    "empty header": (chord([], call("same")), [[[]]]),
    "retried part": (chord([call("flaky", 1), call("add", 2)], call("same")), [[[[10, 1], 12]]]),
}


@pytest.mark.parametrize("shape", SHAPES)
def test_body_gets_the_results_of_the_header_in_order(run, shape):
    form, expected = SHAPES[shape]

    assert after(run("add", 10, link=[form]), "same") == expected


@pytest.mark.parametrize("shape", SHAPES)
def test_eager_runs_carry_out_chords_too(app, shape):
    seen = []
    app.task(name="same", replace=True)(lambda *values: seen.append(list(values)) or list(values))
    form, expected = SHAPES[shape]
    app.conf.task_always_eager = True
    app.send_task("add", (10,), link=[form])

    assert seen == expected


def test_chord_that_a_client_opened_ends_here(app, run):
    body = call("same", task_id="body")
    app.backend.open_chord("g", 2, ttl_s=60)
    for index in (1, 0):
        runs = run("add", index, chord=body, group_id="g", group_index=index)

    assert runs[1:] == [("same", [[0, 1]], "SUCCESS")]
    assert app.AsyncResult("body").get(timeout=0) == [[0, 1]]


def test_parts_that_end_in_one_batch_are_counted_together(app, umbel_queue):
    app.backend.open_chord("g", 3, ttl_s=60)
    for index in range(3):
        app.send_task("add", (index,), chord=call("same"), group_id="g", group_index=index)

    assert [each.args for each in umbel_queue.drain()][3:] == [[[0, 1, 2]]]


def test_part_whose_result_is_ignored_counts_with_it(run):
    header = [call("add", 1, ignore_result=True), call("add", 2)]

    assert after(run("add", 10, link=[chord(header, call("same"))]), "same") == [[[11, 12]]]


def test_failed_part_fails_the_body_and_its_errbacks_hear_of_it(app, run, caplog):
    part = call("fail", task_id="part")
    body = call("same", task_id="body", link_error=[call("told")])
    runs = run("add", 1, link=[chord([part, call("add")], body)])

    assert sorted(runs[1:]) == [
        ("add", [1], "SUCCESS"),
        ("fail", [1], "FAILURE"),
        ("told", ["body"], "SUCCESS"),
    ]
    with pytest.raises(ChordError, match=r"^Dependency part raised ValueError\('bad'\)$"):
        app.AsyncResult("body").get(timeout=0)
    assert "its body won't run: Dependency part raised" in caplog.text


@pytest.mark.parametrize(
    "body",
    [
        chain(call("same", task_id="a"), call("same", task_id="b")),
        group(call("same", task_id="a"), call("same", task_id="b")),
        chord([call("same", task_id="a")], call("same", task_id="b")),
        call("same", task_id="a", chain=[call("same", task_id="b")]),
    ],
    ids=["chain", "group", "chord", "with-a-rest"],
)
def test_all_of_a_body_fails_with_it(app, run, body):
    run("add", 1, link=[chord([call("fail")], body)])

    for task_id in ("a", "b"):
        with pytest.raises(ChordError):
            app.AsyncResult(task_id).get(timeout=0)


def test_part_that_fails_before_the_end_of_its_chain_fails_the_body(app, run):
    header = [chain(call("fail"), call("add", task_id="last")), call("add")]
    run("add", 1, link=[chord(header, call("same", task_id="body"))])

    with pytest.raises(ChordError, match="Dependency last raised ValueError"):
        app.AsyncResult("body").get(timeout=0)


def test_failure_inside_an_inner_chord_fails_the_outer(app, run):
    inner = chord([call("fail", task_id="part")], call("same", task_id="inner"))
    run("add", 1, link=[chord([inner, call("add")], call("same", task_id="outer"))])

    with pytest.raises(ChordError, match="Dependency part raised"):
        app.AsyncResult("inner").get(timeout=0)
    with pytest.raises(ChordError, match="Dependency inner raised ChordError"):
        app.AsyncResult("outer").get(timeout=0)


@pytest.mark.parametrize("how", ["revoked", "expired"])
def test_part_that_does_not_run_fails_the_body(app, run, how):
    part = call("add", task_id="part", **({"expires": -1} if how == "expired" else {}))
    if how == "revoked":
        app.control.revoke("part")
    run("add", 1, link=[chord([part, call("add")], call("same", task_id="body"))])

    with pytest.raises(ChordError, match=rf"part raised TaskRevokedError\('{how}'\)"):
        app.AsyncResult("body").get(timeout=0)


@pytest.mark.parametrize("signal", [Ignore(), Reject("no")])
def test_part_without_a_result_fails_the_body(app, run, signal):
    @app.task(name="leave")
    def leave(*_):
        raise signal

    run("add", 1, link=[chord([call("leave"), call("add")], call("same", task_id="body"))])

    with pytest.raises(ChordError, match=f"raised {type(signal).__name__}"):
        app.AsyncResult("body").get(timeout=0)


def test_body_that_cannot_be_sent_fails(app, run):
    body = call("same", task_id="body", priority=1000)
    run("add", 1, link=[chord([call("add")], body)])

    with pytest.raises(ChordError, match=r"Callback error: .*priority must be"):
        app.AsyncResult("body").get(timeout=0)


def test_part_of_no_named_chord_is_told_and_not_counted(app, run, caplog):
    runs = run("add", 1, chord=call("same"))

    assert runs == [("add", [1], "SUCCESS")]
    assert "no header says of which" in caplog.text


@pytest.mark.umbel(worker_unknown_task="dead_letter")
def test_unknown_task_ends_what_waits_for_it(app, run):
    header = [chain(call("nothing", task_id="part"), call("add", task_id="last")), call("add")]
    body = call("same", task_id="body")
    runs = run("add", 1, link=[chord(header, body), call("nothing", link_error=[call("told")])])

    assert len(after(runs, "told")) == 1
    with pytest.raises(ChordError, match="Dependency last raised NotRegistered"):
        app.AsyncResult("body").get(timeout=0)
    assert len(app.broker.dead_letters()) == 2


# -- errbacks -----------------------------------------------------------------------------------


@pytest.fixture
def heard(app):
    heard = []

    @app.task(name="hear")
    def hear(request, exc, traceback, *more):
        heard.append((request.id, request.task, request.args, repr(exc), bool(traceback), *more))

    return heard


def test_errback_of_three_arguments_gets_request_error_and_traceback(app, umbel_queue, heard):
    result = app.send_task("fail", (1,), link_error=[call("hear"), call("hear", "own")])
    umbel_queue.drain(raise_errors=False)

    told = (result.id, "fail", [1], "ValueError('bad')", True)
    assert heard == [told, (*told, "own")]


def test_errback_hears_of_a_task_that_was_revoked(app, umbel_queue, heard):
    app.control.revoke("gone")
    app.send_task("add", (1,), task_id="gone", link_error=[call("hear")])
    umbel_queue.drain()

    assert heard == [("gone", "add", [1], "TaskRevokedError('revoked')", False)]


def test_errback_of_a_body_hears_why_it_did_not_run(run, heard):
    body = call("same", task_id="body", link_error=[call("hear")])
    run("add", 1, link=[chord([call("fail", task_id="part")], body)])

    error = """ChordError("Dependency part raised ValueError('bad')")"""
    assert heard == [("body", "same", [], error, False)]


def test_immutable_errback_gets_its_own_arguments_only(run):
    assert after(run("fail", link_error=[call("same", "x", immutable=True)]), "same") == [["x"]]


def test_arguments_that_are_no_errbacks_are_a_dead_letter(app, umbel_queue, heard):
    app.send_task("hear", (1, 2, 3), headers={"umbel_errback": True})
    umbel_queue.drain()

    [dead] = app.broker.dead_letters()
    assert "arguments of an errback" in dead.reason
    assert heard == []


# -- without a place to count -------------------------------------------------------------------


class CountsNoChords(MemoryBackend):
    capabilities = MemoryBackend.capabilities - {BackendCapability.CHORD}

    def join_chord(self, parts):
        raise AssertionError

    open_chord = close_chord = join_chord


def test_body_fails_where_the_backend_cannot_count(app, run, monkeypatch, caplog):
    found = app.backend
    monkeypatch.setattr(app, "open_backend", lambda: CountsNoChords(_space(found), app.clock))
    body = call("same", task_id="body", link_error=[call("told")])
    runs = run("add", 1, link=[chord([call("add", n) for n in range(3)], body)])

    assert after(runs, "told") == [["body"]]
    with pytest.raises(ChordError, match="CountsNoChords has no capability 'chord'"):
        app.AsyncResult("body").get(timeout=0)
    assert len([each for each in caplog.records if "bodies of chords fail" in each.message]) == 1


@pytest.mark.umbel(result_backend=None)
def test_errbacks_of_the_body_are_sent_where_there_is_no_backend(run, caplog):
    body = call("same", task_id="body", link_error=[call("told")])
    runs = run("add", 1, link=[chord([call("add", n) for n in range(3)], body)])

    assert (after(runs, "told"), after(runs, "same")) == ([["body"]], [])
    assert "there is no result backend" in caplog.text


# -- faults -------------------------------------------------------------------------------------


STEPS = ("backend.store", "backend.open_chord", "backend.join_chord", "broker.settle")


@pytest.mark.parametrize("url", ["memory://", "sqlite:///chords.db"])
@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("skip", [0, 1, 2])
@pytest.mark.parametrize("step", [*STEPS, "backend.close_chord"])
def test_crash_neither_loses_nor_doubles_a_body(umbel_clock, caplog, url, when, step, skip):
    caplog.set_level(logging.CRITICAL)
    bodies = []
    with (
        Umbel("tests", broker=url, backend=url, clock=umbel_clock) as app,
        faults_in(app) as faults,
    ):
        define(app)
        app.task(name="body")(lambda *values: bodies.append(list(values)))
        faults.crash(when, step, skip=skip)
        app.send_task("add", (10,), link=[chord([call("add", 1), call("add", 2)], call("body"))])
        queue = TaskQueue(app)
        for _ in range(4):
            queue.drain()
            umbel_clock.advance(60)
        queue.close()

    assert bodies == [[[11, 12]]]


@pytest.mark.parametrize("step", ["open_chord", "join_chord", "close_chord"])
def test_outage_of_the_backend_holds_a_chord_up_and_no_more(
    umbel_clock, app, umbel_queue, umbel_faults, step
):
    umbel_faults.backend.fail(step)
    umbel_faults.backend.lose_reply(step)
    app.send_task("add", (10,), link=[chord([call("add", 1), call("add", 2)], call("same"))])
    runs = []
    for _ in range(4):
        runs += umbel_queue.drain()
        umbel_clock.advance(5)

    assert [each.args for each in runs if each.name == "same"] == [[[11, 12]]]


def test_process_that_dies_of_its_task_fails_the_body(app, umbel_clock, umbel_queue):
    @app.task(name="die")
    def die(*_):
        raise Crash

    app.send_task("add", link=[chord([call("die"), call("add")], call("same", task_id="body"))])
    for _ in range(4):
        umbel_queue.drain()
        umbel_clock.advance(60)

    with pytest.raises(ChordError, match="raised WorkerLostError"):
        app.AsyncResult("body").get(timeout=0)


def _space(backend):
    class Space:
        results = backend._store

    return Space
