"""The end of a chord, some of whose messages can't be read: its body is kept with the backend."""

from __future__ import annotations

import msgspec
import pytest
from workflow_tasks import define, sig

from umbel import chain, chord
from umbel.canvas.ends import read_end
from umbel.errors import ChordError, InvalidTaskError
from umbel.outcomes import ChordPart, Failure
from umbel.publishing import publisher
from umbel.worker.joinings import Joiner


@pytest.fixture
def app(umbel_app):
    define(umbel_app)
    return umbel_app


@pytest.fixture
def spoil(monkeypatch):
    """Names tasks whose messages are sent with a body that nobody can read."""
    spoilt = set()
    encode = publisher.encode_draft

    def encode_draft(*args, **kwargs):
        message = encode(*args, **kwargs)
        return msgspec.structs.replace(message, body=b"{") if message.id in spoilt else message

    monkeypatch.setattr(publisher, "encode_draft", encode_draft)
    return lambda *task_ids: spoilt.update(task_ids)


@pytest.fixture
def run(app, umbel_queue):
    """Send a canvas and run all that comes of it; return its result and what ran."""

    def run(canvas):
        result = canvas.bound_to(app).apply_async()
        return result, umbel_queue.drain(queues=["celery"])

    return run


def members(*names, **options):
    return [sig("add", n, task_id=name, **options) for n, name in enumerate(names)]


def told(runs):
    """Return what errbacks were called with."""
    return sorted(each.args for each in runs if each.name == "told")


def test_last_member_that_cannot_be_read_fails_the_body_and_the_steps_after_it(app, run, spoil):
    spoil("c")
    body = sig("same", task_id="body", link_error=[sig("told")])
    result, runs = run(chain(chord(members("a", "b", "c"), body), sig("same", task_id="next")))

    assert told(runs) == [["body"]]
    with pytest.raises(ChordError, match="Dependency c raised InvalidTaskError"):
        app.AsyncResult("body").get(timeout=0)
    with pytest.raises(ChordError, match="Dependency c raised InvalidTaskError"):
        result.get(timeout=0)


def test_body_fails_once_where_no_member_can_be_read(app, run, spoil):
    spoil("a", "b", "c")
    body = sig("same", task_id="body", link_error=[sig("told")])
    _, runs = run(chord(members("a", "b", "c"), body))

    assert told(runs) == [["body"]]
    with pytest.raises(ChordError, match="Dependency a raised InvalidTaskError"):
        app.AsyncResult("body").get(timeout=0)


def test_member_that_cannot_be_read_fails_the_body_at_once(run, spoil):
    spoil("a")
    # Nobody consumes the queue of the other one.
    result, _ = run(chord([*members("a"), sig("add", queue="late")], sig("same")))

    with pytest.raises(ChordError, match="Dependency a raised InvalidTaskError"):
        result.get(timeout=0)


@pytest.mark.parametrize("policy,length", [("collect", 2), ("ignore", 1)])
def test_policy_holds_for_a_last_member_that_cannot_be_read(run, spoil, policy, length):
    spoil("b")
    result, _ = run(chord(members("a", "b"), sig("same"), on_failure=policy))

    ([values],) = [result.get(timeout=0)]
    assert (values[0], len(values)) == (0, length)
    assert "InvalidTaskError" in str(values) or policy == "ignore"


@pytest.mark.umbel(canvas_max_inline=1)
def test_body_that_is_kept_apart_fails_with_what_it_ends_with(run, spoil):
    spoil("b")
    body = chain(sig("same"), sig("same"), sig("same"))
    result, _ = run(chord(members("a", "b"), body))

    with pytest.raises(ChordError, match="Dependency b raised InvalidTaskError"):
        result.get(timeout=0)


def test_chord_that_a_worker_begins_ends_too(app, run, spoil):
    spoil("b")
    result, _ = run(chain(sig("add", 1), chord(members("a", "b"), sig("same")), sig("same")))

    with pytest.raises(ChordError, match="Dependency b raised InvalidTaskError"):
        result.get(timeout=0)


def test_chord_within_a_chord_ends_both(run, spoil):
    spoil("b")
    inner = chord(members("a", "b"), sig("same", task_id="inner"))
    result, _ = run(chord([inner, sig("add")], sig("same")))

    with pytest.raises(ChordError, match="Dependency inner raised ChordError"):
        result.get(timeout=0)


@pytest.mark.parametrize("kept", [b"nonsense", b"application/json\n{", b"application/json\n[7]"])
def test_kept_body_that_cannot_be_read_is_told_of(app, run, spoil, kept, caplog):
    spoil("b")
    app.backend.open_chord("group", 1, ttl_s=60, body=kept)
    options = {"chord": sig("same", task_id="body").to_dict(), "group_id": "group"}
    run(sig("add", task_id="b", group_index=0, **options))

    assert "chord group: its body can't be read" in caplog.text
    assert "chord group: no message tells what its body is" in caplog.text


def test_errback_of_the_body_descends_from_the_root_of_the_part(app, run, spoil, umbel_queue):
    spoil("b")
    body = sig("same", link_error=[sig("told", queue="others")])
    result, _ = run(chain(sig("add", 1, task_id="root"), chord(members("a", "b"), body)))

    [found] = app.broker.receive(["others"], max_messages=5, wait_s=0)
    assert found.message.headers["root_id"] == "root"
    assert result.failed()


def test_part_without_an_index_counts_too(app, umbel_queue, run, spoil):
    spoil("b")
    body = sig("same", task_id="body").to_dict()
    packed = b"application/json\n" + msgspec.json.encode(body)
    app.backend.open_chord("group", 1, ttl_s=60, body=packed)
    run(sig("add", task_id="b", chord=body, group_id="group"))

    assert app.AsyncResult("body").failed()


def test_success_that_was_counted_and_became_a_failure_runs_no_body_without_the_others(app, run):
    # As where what follows a member is refused, after its part was joined.
    app.backend.open_chord("group", 3, ttl_s=60)
    first = ChordPart(group_id="group", index=0, task_id="a", state="SUCCESS", result=b"5")
    app.backend.join_chord([first])

    options = {"chord": sig("same", task_id="body").to_dict(), "group_id": "group"}
    _, runs = run(sig("fail", task_id="a", group_index=0, **options))

    assert [each.name for each in runs] == ["fail"]
    with pytest.raises(ChordError, match=r"Dependency a raised ValueError\('bad'\)"):
        app.AsyncResult("body").get(timeout=0)


def test_message_of_no_group_means_nothing_to_one(app):
    joiner = Joiner(app)
    message = app.message_for(sig("add"))
    error = InvalidTaskError("bad")

    assert joiner.beyond_unreadable(message, Failure(error), 0.0) is None


def test_chain_whose_next_message_cannot_be_read_has_failed(app, run, spoil):
    spoil("b")
    result, runs = run(chain(sig("add", 1, task_id="a"), sig("add", 1, task_id="b"), sig("add", 2)))

    assert [each.id for each in runs] == ["a"]
    with pytest.raises(InvalidTaskError):
        result.get(timeout=0)


@pytest.mark.parametrize("policy", ["abort", "collect"])
def test_member_that_is_a_chain_and_cannot_be_read_ends_its_chord(app, run, spoil, policy):
    spoil("first")
    member = chain(sig("add", 1, task_id="first"), sig("add", 2), sig("add", 3, task_id="last"))
    header = [*members("a"), member]
    result, _ = run(chord(header, sig("same", task_id="body"), on_failure=policy))

    if policy == "abort":
        with pytest.raises(ChordError, match="Dependency last raised InvalidTaskError"):
            result.get(timeout=0)
    else:
        assert result.get(timeout=0)[0][1]["exc_type"] == "InvalidTaskError"
    with pytest.raises(InvalidTaskError):
        app.AsyncResult("last").get(timeout=0)


def test_chain_that_ends_with_a_chord_and_cannot_be_read_has_failed(app, run, spoil):
    spoil("first")
    last = chord(members("a", "b"), sig("same", task_id="body"))
    result, _ = run(chain(sig("add", 1, task_id="first"), last))

    assert result.id == "body"
    with pytest.raises(InvalidTaskError):
        result.get(timeout=0)


@pytest.mark.parametrize("value", [5, [], [5], ["a", 5], ["a", "g", "1"], ["a"] * 9, {"a": 1}])
def test_forged_end_of_a_chain_is_passed_over(value):
    assert read_end(value) is None
