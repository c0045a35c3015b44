"""Who depends on a task that failed hears of it at once, with its cause; nobody waits for ever."""

from __future__ import annotations

import logging

import msgspec
import pytest
from celery_forms import call
from workflow_tasks import define, sig

from umbel import Umbel, chain, chord, group
from umbel.errors import (
    BackendUnavailableError,
    ChordError,
    Ignore,
    InvalidTaskError,
    Reject,
    Retry,
)
from umbel.messages import ATTEMPTS_BEFORE
from umbel.outcomes import ChordPart
from umbel.worker.decode import Decoder
from umbel.worker.errbacks import ERRBACK
from umbel.worker.execute import run_sync
from umbel.worker.jobs import Settlement
from umbel.worker.limits import DeadlineWatch, ThreadGuard
from umbel.worker.planning import Planner
from umbel.worker.settle import Settler
from umbel_testing import TaskQueue, faults_in


@pytest.fixture
def app(umbel_app):
    define(umbel_app)
    return umbel_app


@pytest.fixture
def run(app, umbel_queue):
    """Send a canvas and run all that comes of it; return its result and what ran."""

    def run(canvas):
        result = canvas.bound_to(app).apply_async()
        return result, umbel_queue.drain(queues=["celery"])

    return run


def told(runs):
    """Return what errbacks were called with."""
    return sorted(each.args for each in runs if each.name == "told")


# -- at once ------------------------------------------------------------------------------------


def test_can_13_body_fails_at_once_and_names_the_first_failed_part(run):
    # Nobody consumes the queue of the others.
    late = sig("add", 1, queue="late")
    result, _ = run(chord([late, sig("fail", task_id="part"), late], sig("same")))

    with pytest.raises(ChordError, match=r"^Dependency part raised ValueError\('bad'\)$"):
        result.get(timeout=0)


def test_can_13_other_members_keep_running(run):
    result, runs = run(chord([sig("fail"), sig("add", 1), sig("add", 2)], sig("same")))

    assert [each.state for each in runs if each.name == "add"] == ["SUCCESS", "SUCCESS"]
    assert result.failed()


def test_can_13_errback_of_the_body_is_called_once(run):
    body = sig("same", task_id="body", link_error=[sig("told")])
    _, runs = run(chord([sig("fail"), sig("fail"), sig("add")], body))

    assert told(runs) == [["body"]]


def test_can_13_errback_finds_the_error_record_of_the_body(app, run):
    seen = []

    @app.task(name="read")
    def read(task_id):
        document = msgspec.json.decode(app.backend.load([task_id])[task_id].body)
        seen.append((document["status"], document["result"]["exc_type"]))

    run(chord([sig("fail"), sig("add")], sig("same", link_error=[sig("read")])))

    assert seen == [("FAILURE", "ChordError")]


# -- chains -------------------------------------------------------------------------------------


def test_cfp_11_failure_marks_all_remaining_elements_of_its_chain(app, run):
    rest = [
        sig("add", task_id="next"),
        group(sig("add", task_id="one"), sig("add", task_id="two")),
        chord([sig("add", task_id="part")], sig("same", task_id="inner body")),
        sig("same", task_id="last"),
    ]
    result, runs = run(chain(sig("fail"), *rest))

    assert [each.name for each in runs] == ["fail"]
    assert result.id == "last"
    for task_id in ("next", "one", "two", "part", "inner body", "last"):
        with pytest.raises(ValueError, match="bad"):
            app.AsyncResult(task_id).get(timeout=0)


def test_cfp_11_failure_reports_the_enclosing_chord_part(run):
    member = chain(sig("add"), sig("fail"), sig("add", task_id="last"))
    result, _ = run(chord([sig("add"), member], sig("same")))

    with pytest.raises(ChordError, match=r"Dependency last raised ValueError\('bad'\)"):
        result.get(timeout=0)


def test_cfp_11_failure_reaches_the_end_through_chords_within_chords(run):
    inner = chord([sig("add"), chain(sig("fail"), sig("add"))], sig("same", task_id="inner"))
    middle = chord([inner, sig("add")], sig("same", task_id="middle"))
    result, _ = run(chain(chord([middle, sig("add")], sig("same", task_id="outer")), sig("same")))

    with pytest.raises(ChordError, match=r"Dependency middle raised ChordError"):
        result.get(timeout=0)


@pytest.mark.umbel(canvas_max_inline=3)
def test_cfp_11_failure_marks_what_is_kept_apart_too(app, run):
    steps = [sig("add", task_id=f"step {index}") for index in range(20)]
    result, _ = run(chain(sig("fail"), *steps))

    for index in range(20):
        assert app.AsyncResult(f"step {index}").failed()
    assert result.id == "step 19"


# -- groups as bodies ---------------------------------------------------------------------------


def test_cfp_12_each_member_of_a_body_that_is_a_group_fails_and_calls_its_errbacks(app, run):
    members = [sig("same", task_id=name, link_error=[sig("told")]) for name in ("one", "two")]
    result, runs = run(chord([sig("fail", task_id="part"), sig("add")], group(members)))

    assert [each.id for each in result] == ["one", "two"]
    assert told(runs) == [["one"], ["two"]]
    for member in result:
        with pytest.raises(ChordError, match=r"Dependency part raised ValueError"):
            member.get(timeout=0)


# -- how errbacks are called --------------------------------------------------------------------


@pytest.fixture
def heard(app):
    heard = []

    @app.task(name="one")
    def one(task_id):
        heard.append(("one", task_id))

    @app.task(name="bound", bind=True)
    def bound(self, task_id):
        heard.append(("bound", task_id))

    @app.task(name="three")
    def three(request, exc, traceback):
        heard.append(("three", request.id, repr(exc), "ValueError: bad" in traceback))

    @app.task(name="several")
    def several(*args):
        heard.append(("several", *args))

    return heard


@pytest.mark.parametrize(
    "name,expected",
    [
        ("one", ("one", "failed")),
        ("bound", ("bound", "failed")),
        ("three", ("three", "failed", "ValueError('bad')", True)),
        ("several", ("several", "failed")),
    ],
)
def test_cfp_13_arity_says_what_an_errback_is_called_with(run, heard, name, expected):
    run(sig("fail", task_id="failed", link_error=[sig(name)]))

    assert heard == [expected]


def test_cfp_13_errback_that_is_not_registered_here_is_sent_with_the_id(app, run):
    run(sig("fail", task_id="failed", link_error=[sig("elsewhere", queue="others")]))

    [message] = [each.message for each in app.broker.receive(["others"], max_messages=1, wait_s=0)]
    assert (message.task, msgspec.json.decode(message.body)[0]) == ("elsewhere", ["failed"])


def test_cfp_13_errback_of_three_arguments_ends_as_any_task(app, run, heard):
    _, runs = run(sig("fail", task_id="failed", link_error=[sig("three")]))
    result = app.AsyncResult(runs[1].id)

    assert result.successful()
    assert result.args[:2] == ["failed", "ValueError('bad')"]


def test_cfp_13_errback_is_a_task_that_may_be_retried(app, run):
    attempts = []

    @app.task(name="again", bind=True, default_retry_delay=0)
    def again(self, request, exc, traceback):
        attempts.append((request.id, repr(exc)))
        if len(attempts) < 3:
            raise Retry(when=0)

    run(sig("fail", task_id="failed", link_error=[sig("again")]))

    assert attempts == [("failed", "ValueError('bad')")] * 3


# -- signals ------------------------------------------------------------------------------------


SIGNALS = {"ignore": Ignore(), "reject": Reject("no"), "requeue": Reject("later", requeue=True)}


@pytest.fixture
def leaving(app):
    returned = []

    @app.task(
        name="leave",
        on_success=lambda *_: returned.append("success"),
        on_failure=lambda *_: returned.append("failure"),
        after_return=lambda *_: returned.append("return"),
    )
    def leave(how, *_):
        raise SIGNALS[how]

    return returned


@pytest.mark.parametrize("how", ["ignore", "reject"])
def test_cfp_20_reject_and_ignore_call_nobody_and_store_nothing(app, run, leaving, how):
    links = {"link": [sig("told", "back")], "link_error": [sig("told", "error")]}
    result, runs = run(sig("leave", how, **links))

    assert [each.name for each in runs] == ["leave"]
    assert leaving == []
    assert app.backend.load([result.id]) == {}


@pytest.mark.parametrize("how", ["ignore", "reject"])
def test_cfp_20_what_waits_for_a_task_without_a_result_fails(app, run, leaving, how):
    member = chain(sig("leave", how), sig("add", task_id="last"))
    result, _ = run(chord([member, sig("add")], sig("same")))

    with pytest.raises(ChordError, match=rf"Dependency last raised {how.capitalize()}\("):
        result.get(timeout=0)
    assert app.AsyncResult("last").failed()


def test_cfp_20_retry_calls_no_errbacks_and_holds_its_chord_open(app, run):
    @app.task(name="again", bind=True, default_retry_delay=0)
    def again(self):
        if self.request.retries < 2:
            raise Retry(when=0)
        return "done"

    member = sig("again", link_error=[sig("told")])
    result, runs = run(chord([member, sig("add", 1)], sig("same")))

    assert told(runs) == []
    assert result.get(timeout=0) == [["done", 1]]


def test_cfp_20_run_that_was_sent_again_by_hand_is_not_the_end(app, run):
    @app.task(name="resent", bind=True)
    def resent(self):
        if not self.request.retries:
            raise self.retry(throw=False, countdown=0)
        return 7

    result, _ = run(chain(chord([sig("resent"), sig("add", 1)], sig("same")), sig("same")))

    assert result.get(timeout=0) == [[[7, 1]]]


def test_cfp_20_value_that_cannot_be_encoded_fails_before_anything_is_sent(app, run):
    @app.task(name="odd")
    def odd():
        return object()

    links = {"link": [sig("told", "back")], "link_error": [sig("told")]}
    result, runs = run(chain(sig("odd", task_id="odd", **links), sig("add")))

    assert told(runs) == [["odd"]]
    assert "EncodeError" in repr(result.result)


# -- members that never run ---------------------------------------------------------------------


def bury(app, message, **changes):
    """Send a message as somebody else would, who makes mistakes."""
    app.broker.send([msgspec.structs.replace(message, **changes)])


MALFORMED = {
    "arguments": lambda body: [7, *body[1:]],
    "keyword arguments": lambda body: [body[0], [], body[2]],
    "callbacks": lambda body: [*body[:2], {**body[2], "callbacks": [{"task": 1}]}],
}


@pytest.mark.parametrize("what", MALFORMED)
def test_member_that_cannot_be_decoded_fails_the_chord(app, umbel_queue, what):
    body = call("same", task_id="body")
    errbacks = [call("told")]
    app.backend.open_chord("group", 2, ttl_s=60)
    options = {"chord": body, "group_id": "group", "group_index": 0, "link_error": errbacks}
    message = app.message_for(sig("add", task_id="part", **options))
    bury(app, message, body=msgspec.json.encode(MALFORMED[what](msgspec.json.decode(message.body))))
    runs = umbel_queue.drain()

    assert told(runs) == [["part"]]
    assert [each.message.id for each in app.broker.dead_letters()] == ["part"]
    with pytest.raises(ChordError, match="Dependency part raised InvalidTaskError"):
        app.AsyncResult("body").get(timeout=0)


def test_member_of_which_the_headers_alone_can_be_read_fails_the_chord_with_the_next(
    app, umbel_queue
):
    body = call("same", task_id="body")
    app.backend.open_chord("group", 2, ttl_s=60)
    of_chord = {"chord": body, "group_id": "group"}
    first = app.message_for(sig("add", task_id="part", group_index=0, **of_chord))
    bury(app, first, body=b"{")
    umbel_queue.drain()
    assert app.AsyncResult("body").state == "PENDING"

    sig("add", group_index=1, **of_chord).bound_to(app).apply_async()
    umbel_queue.drain()
    with pytest.raises(ChordError, match="Dependency part raised InvalidTaskError"):
        app.AsyncResult("body").get(timeout=0)


def test_last_member_of_which_the_headers_alone_can_be_read_is_told_of(app, umbel_queue, caplog):
    app.backend.open_chord("group", 1, ttl_s=60)
    options = {"chord": call("same"), "group_id": "group", "group_index": 0}
    bury(app, app.message_for(sig("add", **options)), body=b"{")
    umbel_queue.drain()

    assert "chord group: no message tells what its body is" in caplog.text


def test_member_of_a_group_that_cannot_be_decoded_is_counted(app, umbel_queue):
    app.backend.open_chord("group", 2, ttl_s=60)
    options = {"umbel_counted": True, "group_id": "group", "group_index": 0}
    bury(app, app.message_for(sig("add", **options)), body=b"{")
    umbel_queue.drain()

    progress = app.backend.chord_progress(["group"])["group"]
    assert (progress.size, progress.done, progress.failed) == (2, 1, 1)


def test_what_follows_and_cannot_be_sent_fails_the_chord_of_the_task(app, umbel_queue, caplog):
    caplog.set_level(logging.CRITICAL)
    link = sig("same", priority=1000).to_dict()  # as another maker may write it
    member = sig("add", 1, task_id="part", link=[link])
    result = chord([member, sig("add")], sig("same")).bound_to(app).apply_async()
    umbel_queue.drain()

    with pytest.raises(ChordError, match="Dependency part raised InvalidTaskError"):
        result.get(timeout=0)


@pytest.mark.umbel(worker_unknown_task="dead_letter")
def test_member_that_nobody_knows_fails_the_chord(run):
    result, _ = run(chord([sig("nothing", task_id="part"), sig("add")], sig("same")))

    with pytest.raises(ChordError, match="Dependency part raised NotRegistered"):
        result.get(timeout=0)


def test_member_that_expired_fails_the_chord(run):
    result, _ = run(chord([sig("add", task_id="part", expires=-1), sig("add")], sig("same")))

    with pytest.raises(ChordError, match=r"Dependency part raised TaskRevokedError\('expired'\)"):
        result.get(timeout=0)


# -- pieces that are kept apart -----------------------------------------------------------------


LONG = [f"step {index}" for index in range(12)]


def long_chain(first="add"):
    return chain(sig(first), *(sig("add", 1, task_id=each) for each in LONG))


@pytest.mark.umbel(canvas_max_inline=3)
@pytest.mark.parametrize("first", ["add", "fail"])
def test_outage_while_a_reference_is_read_holds_the_workflow_up_and_fails_nothing(
    app, umbel_queue, umbel_clock, monkeypatch, first, caplog
):
    caplog.set_level(logging.CRITICAL)
    result = long_chain(first).bound_to(app).apply_async()
    load, failures = app.workflow_store.get, [1, 2]

    def get(key):
        if failures:
            raise BackendUnavailableError(f"gone {failures.pop()}")
        return load(key)

    monkeypatch.setattr(app.workflow_store, "get", get)
    for _ in range(4):
        umbel_queue.drain()
        umbel_clock.advance(5)

    assert failures == []
    if first == "add":
        assert result.get(timeout=0) == len(LONG)
    else:
        with pytest.raises(ValueError, match="bad"):
            result.get(timeout=0)
    assert list(app.broker.dead_letters()) == []


@pytest.mark.umbel(canvas_max_inline=3)
@pytest.mark.parametrize("data", [None, b"nonsense", b"application/json\n{"])
def test_piece_that_is_gone_or_spoilt_fails_what_is_left(app, umbel_queue, data, caplog):
    caplog.set_level(logging.CRITICAL)
    result = long_chain().bound_to(app).apply_async()
    for key in app.coordinator.scan("workflow:"):
        if data is None:
            app.coordinator.delete([key])
        else:
            app.coordinator.put(key, data)
    umbel_queue.drain()

    assert result.failed()
    assert "no longer kept" in str(result.result)


@pytest.mark.umbel(canvas_max_inline=1)
def test_body_that_is_gone_fails_with_what_it_ends_with(app, umbel_queue, caplog):
    caplog.set_level(logging.CRITICAL)
    body = chain(sig("same"), sig("same"), sig("same"))
    result = chord([sig("add"), sig("add")], body).bound_to(app).apply_async()
    app.coordinator.delete(list(app.coordinator.scan("workflow:")))
    umbel_queue.drain()

    with pytest.raises(ChordError, match="its body is no longer kept"):
        result.get(timeout=0)


# -- what can't be sent -------------------------------------------------------------------------


UNSENDABLE = [{"priority": "high"}, {"headers": 5}, {"stamped_headers": 5}]


@pytest.mark.parametrize("options", UNSENDABLE)
def test_body_that_cannot_be_sent_fails(app, run, options):
    body = call("same", task_id="body", **options)
    app.backend.open_chord("group", 1, ttl_s=60)
    run(sig("add", group_id="group", group_index=0, chord=body))

    with pytest.raises(ChordError, match=r"^Callback error: "):
        app.AsyncResult("body").get(timeout=0)


@pytest.mark.parametrize("options", UNSENDABLE)
def test_errback_that_cannot_be_sent_holds_up_nobody(run, options):
    errbacks = [call("told", **options), call("told")]
    header = [sig("fail", task_id="part", link_error=errbacks), sig("add")]
    result, runs = run(chord(header, sig("same", task_id="body", link_error=errbacks)))

    with pytest.raises(ChordError, match=r"^Dependency part raised ValueError"):
        result.get(timeout=0)
    assert told(runs) == [["body"], ["part"]]


def test_chord_that_fails_twice_in_one_batch_tells_so_once(app):
    inner = chord([sig("fail")], sig("same"))
    outer = chord([sig("fail"), inner], sig("same", link_error=[call("told")]))
    outer.bound_to(app).apply_async()
    broker = app.broker
    settler = Settler(app, broker, app.backend, planner=Planner(app, "w@host"))
    decoder = Decoder(app, "w@host")
    guard = ThreadGuard(DeadlineWatch())
    for delivery in broker.receive(["celery"], max_messages=9, wait_s=0):
        job = decoder.decode(delivery)
        settler.add(Settlement(delivery, run_sync(job, guard, app.clock.time), job))
    sent = []

    def settle(deliveries, follow_ups):
        sent.extend(follow_ups)
        return broker.settle(deliveries, follow_ups)

    assert settler.flush(settle=settle)
    assert [message.task for message in sent] == ["told"]


def test_two_calls_of_a_workflow_with_one_id_are_refused(run):
    known = sig("add", task_id="known")

    for canvas in (chain(sig("add"), known, known), chord([known, known], sig("same"))):
        with pytest.raises(InvalidTaskError, match="two calls of a workflow have the task_id"):
            run(canvas)


# -- faults -------------------------------------------------------------------------------------


FAULTS = ["backend.store", "backend.open_chord", "backend.join_chord", "broker.settle"]


@pytest.mark.parametrize("url", ["memory://", "sqlite:///failing.db"])
@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("step", [*FAULTS, "backend.close_chord"])
@pytest.mark.parametrize("skip", [0, 1])
def test_crash_while_a_chord_fails_neither_loses_nor_doubles_its_end(
    umbel_clock, caplog, url, when, step, skip
):
    caplog.set_level(logging.CRITICAL)
    heard = []
    with (
        Umbel("tests", broker=url, backend=url, clock=umbel_clock) as app,
        faults_in(app) as faults,
    ):
        define(app)
        app.task(name="hear")(heard.append)
        inner = chord([sig("add"), sig("fail")], sig("same", link_error=[sig("hear")]))
        body = sig("same", task_id="outer", link_error=[sig("hear")])
        app.send_task("add", link=[chain(chord([inner, sig("add")], body), sig("same")).to_dict()])
        faults.crash(when, step, skip=skip)
        queue = TaskQueue(app)
        for _ in range(5):
            queue.drain()
            umbel_clock.advance(60)
        queue.close()
        assert app.AsyncResult("outer").failed()

    assert len(heard) == 2
    assert "outer" in heard


def test_parts_of_a_chord_that_was_grown_elsewhere_are_waited_for(app, umbel_queue):
    app.backend.open_chord("group", 1, ttl_s=60)
    app.backend.grow_chord("group", ["more"], ttl_s=60)
    options = {"chord": call("same", task_id="body"), "group_id": "group", "group_index": 0}
    sig("add", **options).bound_to(app).apply_async()
    umbel_queue.drain()

    assert app.AsyncResult("body").state == "PENDING"
    part = ChordPart(group_id="group", index=1, task_id="more", state="SUCCESS", result=b"5")
    assert set(app.backend.join_chord([part])) == {"group"}


def test_errbacks_are_marked(app, run):
    _, runs = run(sig("fail", link_error=[sig("told")], headers={ATTEMPTS_BEFORE: 1}))

    assert told(runs) == [[runs[0].id]]
    assert ERRBACK == "umbel_errback"
