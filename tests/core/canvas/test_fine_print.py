"""Rules of workflows that are easily overlooked, as a worker keeps them."""

from __future__ import annotations

from collections import Counter

import pytest
from project import wait_for

from umbel import chain, chord, group
from umbel.canvas import Signature
from umbel.errors import ChordError

TIMEOUT_S = 20


@pytest.fixture
def s(flows):
    """Returns signatures of the tasks of `flows` by name."""
    return lambda name, *args, **options: flows.tasks[name].s(*args).set(**options)


@pytest.fixture
def run(flows):
    """Sends a workflow, and returns what it comes to."""

    def run(made, *args, **options):
        with flows.worker():
            return made.apply_async(args, **options).get(timeout=TIMEOUT_S)

    return run


def sent(flows):
    """Return the messages that wait."""
    return flows.broker.peek("celery", limit=100)


def headers_of(messages, name):
    return [message.headers[name] for message in messages]


# -- values -------------------------------------------------------------------------------------


def test_can_10_native_a_group_of_one_yields_a_list(run, s):
    assert run(chain(s("add", 1), group(s("add", 2)), s("same"))) == [[3]]
    assert run(s("add", 1) | group(s("add", 2))) == [3]


def test_cfp_02_a_group_is_the_header_of_what_follows_it(run, s):
    assert run(group(s("add", 1), s("add", 2)) | s("total")) == 3
    assert run(group(s("add", 1), s("add", 2)) | group()) == [1, 2]
    assert run(group() | s("same")) == [[]]


def test_cfp_03_a_group_at_the_end_of_a_chain_is_the_header_of_what_follows(run, s):
    ends_in_group = chain(s("add", 1), group(s("add", 2), s("add", 3)))
    assert run(ends_in_group | s("total")) == 7
    after_chord = chain(
        chord([s("add", 1), s("add", 2)], s("total")), group(s("add", 1), s("add", 5))
    )
    assert run(after_chord | s("total")) == 12


def test_cfp_04_what_follows_a_chord_gets_the_result_of_its_body(run, s):
    first = chord([s("add", 1), s("add", 2)], s("total"))
    assert run(first | s("add", 10)) == 13
    assert run(chain(s("add", 5), first) | s("add", 10)) == 23
    assert run(first | group(s("add", 1), s("add", 2))) == [4, 5]
    assert run(first | chord([s("add", 1), s("add", 2)], s("total")) | s("add", 1)) == 10


def test_cfp_05_chains_run_as_one_and_empty_groups_are_skipped(run, s):
    assert run(chain(chain(s("add", 1), s("add", 2)), chain(s("add", 3)))) == 6
    assert run(chain(s("add", 1), group(), s("add", 2))) == 3
    read = Signature.from_dict(
        {**chain(s("add", 1)).to_dict(), "kwargs": {"tasks": [s("add", 1), group(), s("add", 2)]}}
    )
    assert run(read.bound_to(s("add").app)) == 3


def test_cfp_06_only_the_first_step_gets_arguments_before_its_own(run, s, calls):
    assert run(chain(s("same", 1), s("same", 2), s("same", 3)), 0) == [[[0, 1], 2], 3]
    assert calls == [("same", (0, 1)), ("same", ([0, 1], 2)), ("same", ([[0, 1], 2], 3))]


def test_cfp_06_the_rest_of_a_chain_travels_with_the_last_step_first(flows, s):
    flows.send(chain(s("add", 1), s("same"), s("told")))

    [message] = sent(flows)
    _, _, embed = flows.serializer("json").loads(message.body)
    assert [each["task"] for each in embed["chain"]] == ["told", "same"]


def test_can_08_arguments_of_a_group_are_for_all_members(run, s):
    assert run(group(s("same", 1), s("same", 2)), 0) == [[0, 1], [0, 2]]
    assert run(group(s("same", 1), group(s("same", 2))), 0) == [[0, 1], [0, 2]]


def test_can_08_an_empty_group_is_over_at_once(flows):
    for result in (group().bound_to(flows)(), chain().bound_to(flows)()):
        assert result.get(timeout=0) == []
        assert result.successful()


def test_can_11_arguments_of_a_chord_are_for_its_header(run, s):
    assert run(chord([s("same", 1)], s("same", "x")), 0) == [[[0, 1]], "x"]


def test_can_11_options_of_polling_say_nothing(flows, s):
    made = chord([s("add", 1)], s("total")).bound_to(flows)

    for result in (
        made(interval=1, max_retries=3),
        made.apply_async(interval=1, max_retries=3),
        chord([s("add", 1)], s("total"), interval=1, max_retries=3).bound_to(flows).delay(),
    ):
        assert result.id is not None


@pytest.mark.parametrize("make", [chain, group, lambda *all_: chord(all_, Signature("same"))])
def test_forms_of_celery_with_arguments_of_their_own_are_read(make, flows, calls):
    form = make(Signature("same", (2,)), Signature("same", (3,))).to_dict()
    with flows.worker():
        flows.signature({**form, "args": [1]}).apply_async((0,)).get(timeout=TIMEOUT_S)

    assert ("same", (0, 1, 2)) in calls


def test_can_04_immutable_steps_get_nothing(run, s, calls):
    made = chain(s("add", 1), s("same", 2).set(immutable=True), group(s("same", 3)).set_immutable())

    assert run(made) == [[3]]
    assert calls[1:] == [("same", (2,)), ("same", (3,))]


def test_can_04_an_immutable_chain_begins_with_what_it_has(run, s):
    inner = chain(s("same", 1), s("same", 2)).set(immutable=True)

    assert run(chain(s("add", 5), inner)) == [[1], 2]


# -- ids ----------------------------------------------------------------------------------------


def test_can_05_all_ids_are_known_before_anything_is_sent(flows, s):
    made = chain(
        s("add", 1), group(s("add", 1), chain(s("add", 2), s("add", 3))), s("total")
    ).freeze()
    wanted = made.result
    with flows.worker():
        result = made.apply_async()
        assert result.get(timeout=TIMEOUT_S) == 8

    assert result.id == wanted.id == made.id
    assert result.parent.id == wanted.parent.id
    assert [each.id for each in result.parent.results] == [
        each.id for each in wanted.parent.results
    ]
    assert result.parent.parent.id == wanted.parent.parent.id
    assert wanted.parent.parent.get(timeout=0) == 1
    assert made.freeze() == made


def test_cfp_07_the_id_of_a_chain_is_that_of_its_last_step(flows, s):
    made = chain(s("add", 1), s("add", 2), s("add", 3))
    with flows.worker():
        result = made.apply_async(task_id="last")
        assert result.get(timeout=TIMEOUT_S) == 6

    assert result.id == "last"
    assert [result.parent.get(timeout=0), result.parent.parent.get(timeout=0)] == [3, 1]
    assert result.parent.parent.parent is None


def test_cfp_07_the_place_of_a_chain_is_that_of_its_last_step(flows, s):
    made = chain(s("add", 1), s("add", 2)).freeze("last", "group", s("same"), group_index=4)
    first, last = made.tasks

    assert not {"group_id", "chord", "group_index"} & first.options.keys()
    assert (last.options["group_id"], last.options["group_index"]) == ("group", 4)
    assert (last.options["task_id"], last.options["chord"]) == ("last", s("same"))


@pytest.mark.parametrize("wraps", [False, True], ids=["alone", "in a chain"])
def test_cfp_07_the_id_of_a_chord_is_that_of_its_body_and_its_parent_the_header(flows, s, wraps):
    made = chord([s("add", 1), s("add", 2)], s("total"))
    made = chain(s("add", 0), made) if wraps else made
    with flows.worker():
        result = made.apply_async(task_id="body")
        assert result.get(timeout=TIMEOUT_S) == 3

    assert (result.id, flows.AsyncResult("body").get(timeout=0)) == ("body", 3)
    assert result.parent.get(timeout=0) == [1, 2]
    assert (result.parent.parent is None) is not wraps


def test_cfp_07_the_id_of_a_group_is_that_of_its_members_group(flows, s):
    result = group(s("add", 1), s("add", 2)).apply_async(task_id="mine")

    assert result.id == "mine"
    assert headers_of(sent(flows), "group") == ["mine", "mine"]
    assert headers_of(sent(flows), "group_index") == [0, 1]


# -- links --------------------------------------------------------------------------------------


@pytest.mark.parametrize("is_late", [False, True])
def test_cfp_08_links_of_a_chain_are_called_with_its_last_result(flows, s, calls, is_late):
    made = chain(s("add", 1), s("add", 2))
    with flows.worker():
        made.apply_async(link=s("told")) if is_late else made.link(s("told")).apply_async()
        assert wait_for_calls(calls, "told") == [(3,)]


def test_cfp_08_whatever_step_of_a_chain_fails_its_errback_is_called(flows, s, calls):
    for place in range(3):
        steps = [s("add", 1), s("add", 2), s("add", 3)]
        steps[place] = s("fail")
        with flows.worker():
            result = chain(steps).on_error(s("told")).apply_async()
            assert_fails(result)
            failed = [result.parent.parent, result.parent, result][place]
            assert wait_for_calls(calls, "told") == [(failed.id,)]
        calls.clear()


def test_cfp_08_the_body_of_a_chord_in_a_chain_has_its_errback(flows, s, calls):
    made = chain(s("add", 1), chord([s("add", 1)], s("fail"))).on_error(s("told"))
    with flows.worker():
        result = made.apply_async()
        assert_fails(result)
        assert wait_for_calls(calls, "told") == [(result.id,)]


def test_can_09_native_the_callback_of_a_group_is_called_once_with_all_results(flows, s, calls):
    with flows.worker():
        result = group(s("add", 1), s("add", 2)).link(s("told", "x")).apply_async()
        assert result.get(timeout=TIMEOUT_S) == [1, 2]
        assert wait_for_calls(calls, "told") == [([1, 2], "x")]


def test_can_09_the_errback_of_a_group_hears_of_each_member_that_fails(flows, s, calls):
    with flows.worker():
        result = group(s("fail"), s("add", 1), s("fail")).on_error(s("told")).apply_async()
        assert_fails(result)
        told = wait_for_calls(calls, "told", 2)
    assert Counter(told) == Counter([(result.results[0].id,), (result.results[2].id,)])


def test_can_14_the_errback_of_a_chord_hears_of_members_and_body(flows, s, calls):
    made = chord([s("add", 1), s("fail")], s("total")).link_error(s("told"))
    with flows.worker():
        result = made.apply_async()
        with pytest.raises(ChordError, match="ValueError"):
            result.get(timeout=TIMEOUT_S)
        told = wait_for_calls(calls, "told", 2)
    assert Counter(told) == Counter([(result.id,), (result.parent.results[1].id,)])


def test_can_14_the_callback_of_a_chord_gets_the_result_of_its_body(flows, s, calls):
    with flows.worker():
        chord([s("add", 1), s("add", 2)], s("total")).link(s("told")).apply_async()
        assert wait_for_calls(calls, "told") == [(3,)]


# -- options over a workflow --------------------------------------------------------------------


def test_can_24_options_of_a_group_are_those_of_all_members(flows, s):
    made = group(s("add", 1), s("add", 2, priority=1, time_limit=9), priority=2)
    made.apply_async(root_id="root", soft_time_limit=5)

    found = sent(flows)
    assert [each.priority for each in found] == [2, 2]
    assert headers_of(found, "root_id") == ["root", "root"]
    assert headers_of(found, "timelimit") == [[None, 5], [9, 5]]


def test_can_24_options_of_a_chain_are_those_of_its_first_step(flows, s):
    made = chain(s("add", 1, queue="x", time_limit=9), s("add", 2))
    made.apply_async(countdown=60, queue="celery", soft_time_limit=5, parent_id="parent")

    [found] = sent(flows)
    assert found.due_at is not None
    assert (found.headers["timelimit"], found.headers["parent_id"]) == ([9, 5], "parent")
    _, _, embed = flows.serializer("json").loads(found.body)
    assert embed["chain"][0]["options"].keys() == {"task_id"}


def test_can_24_a_step_inherits_what_its_chain_began_with(flows, s):
    @flows.task(name="root", bind=True)
    def root(self, *_):
        return [self.request.root_id, self.request.parent_id]

    with flows.worker():
        result = chain(s("add", 1), s("add", 2), flows.tasks["root"].s()).apply_async()
        found = result.get(timeout=TIMEOUT_S)
    assert found == [result.parent.parent.id, result.parent.id]


def test_can_24_a_chord_is_delayed_by_its_body(flows, s):
    chord([s("add", 1)], s("total")).apply_async(countdown=60)

    [found] = sent(flows)
    assert found.due_at is None
    _, _, embed = flows.serializer("json").loads(found.body)
    assert embed["chord"]["options"]["countdown"] == 60


def test_cfp_10_an_empty_header_means_that_the_body_is_sent_at_once(flows, s):
    chord([], s("same", "x")).apply_async(task_id="body", priority=3)

    [found] = sent(flows)
    assert (found.id, found.priority) == ("body", 3)
    assert flows.serializer("json").loads(found.body)[0] == [[], "x"]


def test_cfp_10_options_of_a_chord_are_those_of_its_body_and_no_chain_goes_to_members(flows, s):
    made = chord([s("add", 1), s("add", 2)], s("same"))
    outer = s("told", task_id="outer")
    options = {"chain": [s("same", task_id="next")], "chord": outer, "group_id": "of outer"}
    made.apply_async(priority=3, **options)

    for found in sent(flows):
        assert found.priority == 3
        _, _, embed = flows.serializer("json").loads(found.body)
        assert embed["chain"] is None
        body = embed["chord"]
        assert (body["task"], body["options"]["priority"]) == ("same", 3)
        assert body["options"]["chain"][0]["options"]["task_id"] == "next"
        assert body["options"]["chord"]["options"]["task_id"] == "outer"


def assert_fails(result):
    with pytest.raises((ValueError, ChordError)):
        result.get(timeout=TIMEOUT_S)


def wait_for_calls(calls, name, count=1):
    """Return the arguments that a task was called with, once it was called so often."""
    found = lambda: [args for called, args in list(calls) if called == name]  # noqa: E731
    wait_for(lambda: len(found()) >= count, timeout_s=TIMEOUT_S)
    return found()
