"""Stamps: what visitors and callers say of the parts of a workflow, and where it can be read."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from project import wait_for

from umbel import chain, chord, group
from umbel.canvas import Signature, StampingVisitor
from umbel.errors import InvalidTaskError

TIMEOUT_S = 20
a, b, c, d = (Signature(name) for name in "abcd")


def stamps(signature):
    options = signature.options
    return {name: options[name] for name in options.get("stamped_headers", ())}


class ByName(StampingVisitor):
    """Stamps each call with its task, and notes what it is asked."""

    def __init__(self):
        self.asked = []

    def on_signature(self, sig, **headers):
        self.asked.append(f"signature {sig.task}")
        return {"name": sig.task}

    def on_chain_start(self, chain, **headers):
        self.asked.append("chain")
        return {"in": "chain"}

    def on_chain_end(self, chain, **headers):
        self.asked.append("chain ends")

    def on_group_start(self, group, **headers):
        self.asked.append("group")
        return {"in": "group"}

    def on_group_end(self, group, **headers):
        self.asked.append("group ends")

    def on_chord_body(self, sig, **header):
        self.asked.append("body")
        return {"in": "body"}

    def on_callback(self, callback, **header):
        self.asked.append(f"callback {callback.task}")
        return {"as": "callback"}

    def on_errback(self, errback, **header):
        self.asked.append(f"errback {errback.task}")
        return {"as": "errback"}


class Gives(StampingVisitor):
    """Stamps each call with the same."""

    def __init__(self, **given):
        self.given = given

    def on_signature(self, sig, **headers):
        return self.given


# -- values -------------------------------------------------------------------------------------


def test_cfp_23_stamps_are_options_that_are_listed():
    made = a.stamp(tag="x", n=1)

    assert made.options == {"tag": "x", "n": 1, "stamped_headers": ["tag", "n"]}
    assert a.options == {}
    assert a.stamp() == a


def test_cfp_23_names_are_unique():
    made = a.stamp(tag="x").stamp(tag="y", stamped_headers=["tag", "tag"]).stamp(Gives(tag="z"))

    assert made.options["stamped_headers"] == ["tag"]


def test_cfp_23_the_last_writer_wins():
    assert stamps(a.stamp(tag="x").stamp(tag="y")) == {"tag": "y"}
    assert stamps(a.stamp(Gives(tag="visitor"), tag="caller")) == {"tag": "visitor"}


def test_cfp_23_appended_stamps_collect_in_a_list():
    made = a.stamp(tag="x").stamp(tag="y", append_stamps=True)
    assert stamps(made) == {"tag": ["x", "y"]}
    assert stamps(made.stamp(Gives(tag=["z"]), append_stamps=True)) == {"tag": ["x", "y", "z"]}
    assert stamps(a.stamp(Gives(tag=2), append_stamps=True, tag=1)) == {"tag": [1, 2]}


def test_cfp_23_only_what_a_visitor_lists_are_stamps():
    made = a.stamp(Gives(tag="x", priority=3, stamped_headers=["tag"]))

    assert stamps(made) == {"tag": "x"}
    assert made.options["priority"] == 3
    assert stamps(a.stamp(Gives(stamped_headers=[]))) == {}


@pytest.mark.parametrize("name", ["task_id", "group_id", "chord", "link"])
def test_what_ties_calls_together_is_no_stamp(name):
    with pytest.raises(InvalidTaskError, match=f"can't be named '{name}'"):
        a.stamp(**{name: "x"})


def test_can_23_all_parts_of_a_workflow_are_stamped():
    made = chain(a, chord([b, group(c)], d)).link(a).link_error(b).stamp(tag=1)
    first, second = made.tasks
    found = [first, *second.tasks[:1], *second.tasks[1].tasks, second.body]
    found += [*made.options["link"], *made.options["link_error"]]

    assert [stamps(each) for each in found] == [{"tag": 1}] * 6


def test_can_23_links_of_links_are_stamped():
    made = a.link(b.link(c)).stamp(tag=1)

    assert [stamps(each) for each in made.flatten_links()] == [{"tag": 1}] * 3


def test_can_23_a_visitor_is_asked_at_each_part():
    visitor = ByName()
    made = chain(a.link(b), chord([c], d)).on_error(b).stamp(visitor)

    assert visitor.asked == [
        "chain", "errback b", "signature b",
        "callback b", "signature b", "signature a",
        "group", "signature c", "group ends",
        "body", "signature d",
        "chain ends",
    ]  # fmt: skip
    first, second = made.tasks
    assert stamps(first) == {"name": "a", "in": "chain"}
    assert stamps(first.options["link"][0]) == {"name": "b", "in": "chain", "as": "callback"}
    assert stamps(made.options["link_error"][0])["as"] == "errback"
    assert stamps(second.tasks[0]) == {"name": "c", "in": "group"}
    assert stamps(second.body) == {"name": "d", "in": "body"}


def test_can_23_a_link_has_no_stamps_of_what_it_is_linked_to():
    made = a.stamp(own=1).link(b).stamp(tag=2)

    assert stamps(made) == {"own": 1, "tag": 2}
    assert stamps(made.options["link"][0]) == {"tag": 2}


def test_can_23_stamp_links_stamps_links_alone():
    made = a.link(b).stamp_links(Gives(tag=1))

    assert (stamps(made), stamps(made.options["link"][0])) == ({}, {"tag": 1})


def test_a_visitor_must_stamp_signatures():
    with pytest.raises(TypeError, match="on_signature"):
        type("Lacking", (StampingVisitor,), {})()


def test_can_03_stamps_are_not_overridden_by_options():
    made = a.stamp(tag="x").clone(tag="y", other=1, stamped_headers=["other"])

    assert stamps(made) == {"tag": "x", "other": 1}


@settings(max_examples=40, deadline=None)
@given(st.recursive(st.sampled_from([a, b]), lambda inner: st.lists(inner, max_size=3).map(
    lambda parts: chord(parts, c) if len(parts) == 2 else (chain if len(parts) == 3 else group)(parts)
), max_leaves=6))  # fmt: skip
def test_stamps_of_a_workflow_survive_its_travel(made):
    stamped = made.stamp(tag=1)

    assert Signature.from_dict(json.loads(json.dumps(stamped.to_dict()))) == stamped


# -- on their way -------------------------------------------------------------------------------


@pytest.fixture
def seen(flows):
    """Stamps by task, as tasks see them."""
    found = {}

    def look(name):
        def task(self, *_):
            request = self.request
            found[name] = (request.stamps, request.stamped_headers)
            return 1

        flows.task(task, name=name, bind=True)

    for name in ("first", "second", "callback", "body", "member"):
        look(name)

    @flows.task(name="again", bind=True)
    def again(self):
        if not self.request.retries:
            self.retry(countdown=0)
        found["again"] = (self.request.stamps, self.request.stamped_headers)

    return found


def test_can_23_stamps_reach_steps_callbacks_members_and_bodies(flows, seen):
    task = flows.signature
    made = chain(task("first").link(task("callback")), task("second"), group(task("member")))
    with flows.worker():
        (made | task("body")).stamp(tag="x").apply_async()
        wait_for(lambda: len(seen) == 5, TIMEOUT_S)

    assert set(map(str, seen.values())) == {str(({"tag": "x"}, ["tag"]))}


def test_can_23_stamps_are_kept_by_a_retry(flows, seen):
    with flows.worker():
        flows.signature("again").stamp(tag="x").apply_async().get(timeout=TIMEOUT_S)

    assert seen["again"] == ({"tag": "x"}, ["tag"])


def test_can_23_stamps_given_to_a_call_are_headers(flows):
    flows.send_task("add", (1,), tag="x", stamped_headers=["tag"])

    [message] = flows.broker.peek("celery", limit=10)
    assert (message.headers["stamps"], message.headers["stamped_headers"]) == (
        {"tag": "x"},
        ["tag"],
    )


def test_can_23_stamps_are_stored_with_extended_results(make_app):
    app = make_app(backend="memory://", result_extended=True)
    app.task(name="add")(lambda x: x)
    with app.worker():
        result = app.signature("add", (1,)).stamp(tag="x", status="taken").apply_async()
        assert result.get(timeout=TIMEOUT_S) == 1
        plain = app.send_task("add", (2,))
        assert plain.get(timeout=TIMEOUT_S) == 2

    document = json.loads(app.backend.load([result.id])[result.id].body)
    assert (document["tag"], document["status"]) == ("x", "SUCCESS")
    assert document["stamped_headers"] == ["tag", "status"]
    assert b"stamped" not in app.backend.load([plain.id])[plain.id].body


# -- revoking -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "revoked", [{"tag": "x"}, {"tag": ["y", "x"]}, {"other": 1, "tag": "x"}, {"many": 2}]
)
def test_can_23_tasks_are_revoked_by_their_stamps(flows, calls, revoked):
    with_stamp = flows.signature("same", (1,)).stamp(tag="x", many=[1, 2]).apply_async()
    without = flows.signature("same", (2,)).stamp(tag="z", many=[3]).apply_async()
    unstamped = flows.send_task("same", (3,))
    flows.control.revoke_by_stamped_headers(revoked)
    with flows.worker():
        for each in (without, unstamped):
            each.get(timeout=TIMEOUT_S)
        wait_for(lambda: with_stamp.state == "REVOKED", TIMEOUT_S)

    assert [args for _, args in calls] == [(2,), (3,)]


def test_can_23_a_workflow_whose_step_is_revoked_by_a_stamp_fails(flows):
    step = flows.signature("same").stamp(tag="x")
    result = chain(flows.signature("add", (1,)), step, flows.signature("same")).apply_async()
    flows.control.revoke_by_stamped_headers({"tag": "x"})
    with flows.worker():
        wait_for(lambda: result.parent.state == "REVOKED" and result.state == "FAILURE", TIMEOUT_S)
