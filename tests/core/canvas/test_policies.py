"""``on_failure``: what a failed member means to what comes after a group."""

from __future__ import annotations

import logging

import pytest

from umbel import chain, chord, group
from umbel.canvas import Signature
from umbel.canvas.policies import ON_FAILURE
from umbel.errors import ChordError, InvalidTaskError

PATIENCE_S = 30
a, b, c = (Signature(name) for name in "abc")


def policy(signature):
    return signature.options.get(ON_FAILURE)


@pytest.mark.parametrize(
    "made",
    [
        (group(a, b) | c).set(on_failure="ignore"),
        (group(a, b) | c).clone(on_failure="ignore"),
        group(a, b, on_failure="ignore") | c,
        group(a, b).set(on_failure="ignore") | c,
        group(a, b, on_failure="ignore") | c | a,
        chord(group(a, b, on_failure="ignore"), c),
        chord(group(a, b, on_failure="abort"), c, on_failure="ignore"),
        Signature.from_dict((group(a, b, on_failure="ignore") | c).to_dict()),
    ],
)
def test_chord_has_the_policy_that_was_said(made):
    assert isinstance(made, chord)
    assert policy(made) == "ignore"


def test_policy_is_said_of_a_copy():
    made = group(a, b) | c

    assert policy(made.set(on_failure="collect")) == "collect"
    assert policy(made) is None
    assert policy(made.set(on_failure=None, priority=1)) is None


@pytest.mark.parametrize("wrong", ["ignor", 5, ""])
def test_unknown_policy_is_refused_where_it_is_said(wrong):
    for say in (group(a).set, (group(a) | b).set, chord([a], b).clone, lambda **o: group(a, **o)):
        with pytest.raises(InvalidTaskError, match="on_failure must be one of 'abort', 'collect'"):
            say(on_failure=wrong)


def test_chain_has_no_policy():
    made = a | group(b, b) | c

    with pytest.raises(
        InvalidTaskError, match=r"say it of the group in it .* group\(members, on_f"
    ):
        made.set(on_failure="ignore")


def test_call_has_no_policy(app):
    for each in (a.set(on_failure="ignore"), chain(a, b, on_failure="ignore")):
        with pytest.raises(
            InvalidTaskError, match="on_failure is said of a chord, or of the group"
        ):
            each.bound_to(app).delay()


@pytest.fixture
def members(flows, caplog):
    """One call that succeeds, and one that fails."""
    caplog.set_level(logging.CRITICAL, "umbel")
    return [flows.tasks["add"].s(1), flows.tasks["fail"].s()]


def test_policy_holds_wherever_it_was_said(flows, members):
    add, same = flows.tasks["add"], flows.tasks["same"]
    lenient = group(members, on_failure="ignore")
    made = {
        "|": (group(members) | same.s()).set(on_failure="ignore"),
        "step of a chain": chain(add.s(1), lenient, same.s()),
        "end of a part": chord([chain(add.s(1), lenient), add.s(5)], same.s()),
        "member": chord([lenient | same.s(), add.s(5)], same.s()),
        "link": lenient.link(same.s().set(task_id="link")),
    }
    with flows.worker():
        results = {name: each.apply_async() for name, each in made.items()}
        late = (group(members) | same.s()).apply_async(on_failure="collect")
        results["link"] = flows.AsyncResult("link")
        found = {name: each.get(timeout=PATIENCE_S) for name, each in results.items()}
        [[first, record]] = late.get(timeout=PATIENCE_S)

    assert found == {
        "|": [[1]],
        "step of a chain": [[2]],
        "end of a part": [[[2], 5]],
        "member": [[[[1]], 5]],
        "link": [[1]],
    }
    assert (first, record["exc_type"]) == (1, "ValueError")


def test_policy_of_a_group_holds_here_too(flows, members):
    assert (group(members, on_failure="ignore") | flows.tasks["same"].s()).apply().get() == [[1]]
    with pytest.raises(ChordError):
        (group(members) | flows.tasks["same"].s()).apply().get()
