"""What signatures begin with, and what travels inside of that."""

from __future__ import annotations

import pytest
from celery_forms import call, chain, chord, group

from umbel.builtin.json_serializer import JsonSerializer
from umbel.canvas.expansion import Expansion
from umbel.canvas.forms import read
from umbel.canvas.freezing import Freezer
from umbel.errors import DecodeError
from umbel.signatures import Signature


def expanded(form, *args, rest=(), new_id="<{}>".format):
    found = Expansion(new_id)
    found.add(Signature.from_dict(form), args, "top", rest)
    return found


def chords(found):
    """Return id, size and the id of the body of each chord that begins."""
    bodies = [each.body and each.body["options"]["task_id"] for each in found.chords]
    return [(each.group_id, each.size, end) for each, end in zip(found.chords, bodies, strict=True)]


def names(steps):
    return [each["task"] for each in steps]


def test_call_begins_with_itself():
    found = expanded(call("a", 1, queue="q"), "result")

    [sent] = found.calls
    assert (sent.task, sent.args) == ("a", ("result", 1))
    assert sent.options == {"queue": "q", "task_id": "<top>"}
    assert found.chords == []
    assert found.results == [[["<top>", None], None]]


def test_immutable_call_gets_no_result():
    [sent] = expanded(call("a", 1, immutable=True), "result").calls

    assert sent.args == (1,)


def test_call_takes_along_what_comes_after_it():
    [sent] = expanded(call("a", chain=[call("own")]), rest=[call("c"), call("b")]).calls

    assert names(sent.options["chain"]) == ["c", "b", "own"]


def test_chain_begins_with_its_first_step_and_all_have_ids():
    found = expanded(chain(call("a"), chain(call("b"), call("c"))), "r", rest=[call("z")])

    [sent] = found.calls
    assert (sent.task, sent.args, sent.options["task_id"]) == ("a", ("r",), "<top.0>")
    rest = sent.options["chain"]
    assert names(rest) == ["z", "c", "b"]
    assert [each["options"].get("task_id") for each in rest] == [None, "<top.2>", "<top.1>"]
    assert found.results == [[["<top.2>", [["<top.1>", [["<top.0>", None], None]], None]], None]]


def test_what_a_chain_has_as_options_is_its_ends():
    link, errback = call("link"), call("errback")
    form = chain(call("a"), call("b"), link=link, link_error=[errback], task_id="last", queue="q")

    [sent] = expanded(form).calls
    [last] = sent.options["chain"]
    assert sent.options["link_error"] == last["options"]["link_error"] == [errback]
    assert (sent.options.get("link"), last["options"]["link"]) == (None, [link])
    assert (sent.options["queue"], last["options"]["task_id"]) == ("q", "last")


def test_group_begins_with_all_members():
    form = group(call("a"), group(call("b"), call("c", priority=9)), priority=3)
    found = expanded(form, "r")

    sent = found.calls
    assert [(each.task, each.args, each.options["task_id"]) for each in sent] == [
        ("a", ("r",), "<top.0>"),
        ("b", ("r",), "<top.1>"),
        ("c", ("r",), "<top.2>"),
    ]
    assert [each.options["group_id"] for each in sent] == ["<top>"] * 3
    assert [each.options["group_index"] for each in sent] == [0, 1, 2]
    assert [each.options["priority"] for each in sent] == [3, 3, 3]
    assert [each.options["umbel_counted"] for each in sent] == [True] * 3
    assert chords(found) == [("<top>", 3, None)]
    assert found.results == [[["<top>", None], [[[f"<top.{i}>", None], None] for i in range(3)]]]


def test_chord_begins_with_its_header_and_has_its_body_in_each():
    found = expanded(chord([call("a"), call("b")], call("body")), "r", rest=[call("z")])

    body = call("body", task_id="<top.body>", group_id="<top>", chain=[call("z")])
    for index, sent in enumerate(found.calls):
        assert sent.args == ("r",)
        assert sent.options == {
            "task_id": f"<top.{index}>",
            "group_id": "<top>",
            "group_index": index,
            "chord": body,
        }
    [begun] = found.chords
    assert (begun.group_id, begun.size, begun.body) == ("<top>", 2, body)


@pytest.mark.parametrize(
    "form",
    [
        chain(group(call("a"), call("b")), call("body"), call("z")),
        chain(chord(group(call("a"), call("b")), call("body")), call("z")),
        chord(group(call("a"), call("b")), chain(call("body"), call("z"))),
    ],
    ids=["group-in-chain", "chord-in-chain", "chain-as-body"],
)
def test_what_comes_after_a_group_gets_its_results(form):
    found = expanded(form)

    assert [each.task for each in found.calls] == ["a", "b"]
    assert [chord.size for chord in found.chords] == [2]
    body = Expansion("<{}>".format)
    body.add(Signature.from_dict(found.calls[0].options["chord"]), [[1, 2]], "body")
    [sent] = body.calls
    assert (sent.task, sent.args) == ("body", ([1, 2],))
    assert names(sent.options["chain"]) == ["z"]


def test_group_before_the_rest_of_a_chain_is_a_header():
    for form in (group(call("a"), call("b")), chain(group(call("a"), call("b")))):
        found = expanded(form, rest=[call("z"), call("y")])

        body = Expansion("<{}>".format)
        body.add(Signature.from_dict(found.calls[0].options["chord"]), [[1, 2]], "body")
        [sent] = body.calls
        assert (sent.task, sent.args, names(sent.options["chain"])) == ("y", ([1, 2],), ["z"])
        assert [chord.size for chord in found.chords] == [2]


def test_body_of_an_empty_header_begins_at_once():
    [sent] = expanded(chord([], call("body")), "r").calls

    assert (sent.task, sent.args) == ("body", ([],))


def test_chain_in_a_header_is_a_part_by_its_last_step():
    found = expanded(chord([chain(call("a"), call("b")), call("c")], call("body")))

    first, second = found.calls
    assert "chord" not in first.options
    [last] = first.options["chain"]
    assert last["options"]["chord"] == second.options["chord"]
    assert (last["options"]["group_id"], last["options"]["group_index"]) == ("<top>", 0)
    assert chords(found) == [("<top>", 2, "<top.body>")]


def test_chord_in_a_header_is_a_part_by_its_body():
    inner = chord([call("a"), call("b")], call("inner"))
    found = expanded(chord([inner, call("c")], call("outer")))

    a, b, c = found.calls
    assert a.options["chord"] == b.options["chord"]
    assert a.options["chord"]["options"]["chord"] == c.options["chord"]
    assert a.options["chord"]["options"]["group_id"] == c.options["group_id"] == "<top>"
    assert a.options["group_id"] == b.options["group_id"] == "<top.0>"
    assert sorted(chords(found)) == [("<top.0>", 2, "<top.0.body>"), ("<top>", 2, "<top.body>")]


def test_group_at_the_end_of_a_chain_in_a_header_is_one_part():
    found = expanded(chord([chain(call("a"), group(call("b"), call("c"))), call("d")], call("x")))

    assert chords(found) == [("<top>", 2, "<top.body>")]
    [inner] = found.calls[0].options["chain"]
    body = inner["kwargs"]["body"]
    assert (inner["subtask_type"], body["task"]) == ("chord", "celery.accumulate")
    assert body["options"]["chord"] == found.calls[1].options["chord"]


def test_members_that_are_parts_of_a_chord_stay_what_they_are():
    outer = call("outer", task_id="o")
    part = {"chord": outer, "group_id": "g"}
    members = [call("a", task_id="1", group_index=0, **part), call("b", task_id="2", **part)]
    found = expanded(group(*members, task_id="inner", group_index=0, **part))

    assert found.chords == []
    assert [each.options["group_id"] for each in found.calls] == ["g", "g"]
    assert [each.options["chord"] for each in found.calls] == [outer, outer]


def test_frozen_signature_keeps_its_ids():
    form = chain(call("a"), group(call("b"), chain(call("c"), call("d"))), call("e"))
    once, result = Freezer("1{}".format).freeze(Signature.from_dict(form), "x")

    assert Freezer("2{}".format).freeze(once, "y") == (once, result)


@pytest.mark.parametrize(
    "form",
    [
        group(call("a"), {"task": 7}),
        {**group(), "kwargs": {"tasks": "abc"}},
        {**group(), "kwargs": {}},
        {**chord([], call("b")), "kwargs": {"header": [call("a")]}},
        chord([call("a"), 3], call("b")),
        chain(call("a"), chain(call("b"), None)),
        call("a", link=[group("x")]),
        call("a", link_error=5),
        call("a", chain=[4]),
        call("a", chord="x"),
        call("a", chain=7),
    ],
)
def test_what_is_malformed_inside_is_found(form):
    with pytest.raises(DecodeError):
        read(form)


def test_groups_in_a_row_lie_no_deeper_in_each_other_than_json_bears():
    groups = [group(call("a"), call("b")) for _ in range(300)]

    sent = expanded(chain(*groups, call("end"))).calls[0].to_dict()

    text = JsonSerializer().dumps(sent)  # which refuses what is too deep
    assert text.count(b'"celery.accumulate"') > 0


def test_chord_with_ids_has_that_of_its_group_where_celery_looks_for_it():
    form = chord([call("a"), call("b")], chain(call("c"), call("d")), task_id="end")
    frozen, [[end, _], _] = Freezer("<{}>".format).freeze(
        Signature.from_dict(chain(call("z"), form)), "top"
    )

    found = frozen.to_dict()["kwargs"]["tasks"][1]
    assert (end, found["options"]["task_id"]) == ("end", "<top.1>")
    assert found["kwargs"]["header"]["options"]["task_id"] == "<top.1>"
    assert found["kwargs"]["body"]["options"]["task_id"] == "end"


def test_id_of_a_group_is_found_where_celery_has_it():
    members = [call("a", task_id="1"), call("b", task_id="2")]
    form = chord(members, call("c", task_id="end"), task_id="group")
    found = expanded(form)

    assert [each.options["group_id"] for each in found.calls] == ["group", "group"]
    assert chords(found) == [("group", 2, "end")]
    assert found.calls[0].options["chord"]["options"]["task_id"] == "end"
