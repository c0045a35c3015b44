"""What is told of as the children of a task that sends a workflow."""

from __future__ import annotations

from umbel.canvas import chain, chord, group
from umbel.canvas.beginnings import beginnings
from umbel.canvas.freezing import Freezer
from umbel.signatures import Signature

A, B, C = Signature("a"), Signature("b"), Signature("c")


def begun(signature):
    return beginnings(Freezer("<{}>".format).freeze(signature, "top")[0])


def one(task_id):
    return [[task_id, None], None]


def test_of_a_task_it_is_itself():
    assert begun(A) == [one("<top>")]


def test_of_a_chain_it_is_the_first_step():
    assert begun(chain(A, B, C)) == [one("<top.0>")]


def test_of_a_group_it_is_the_group():
    assert begun(group(A, chain(B, C))) == [[["<top>", None], [one("<top.0>"), one("<top.1.1>")]]]


def test_of_a_chord_it_is_the_header_and_what_the_body_begins_with():
    header = [["<top>", None], [one("<top.0>"), one("<top.1>")]]

    assert begun(chord([A, B], chain(C, A))) == [header, one("<top.body.0>")]


def test_of_a_chain_that_begins_with_a_group_it_is_that_and_what_comes_after_it():
    header = [["<top.0>", None], [one("<top.0.0>"), one("<top.0.1>")]]

    assert begun(chain(group(A, B), C, A)) == [header, one("<top.0.body>")]


def test_task_that_sends_a_workflow_finds_all_of_it(flows):
    add, total = flows.tasks["add"], flows.tasks["total"]

    @flows.task
    def sends():
        (add.s(1, 1) | group(add.s(1), add.s(2)) | total.s() | add.s(100))()

    with flows.worker():
        result = sends.delay()
        result.get(timeout=30)
        values = [value for _, value in result.collect()]

    assert values == [None, 2, [3, 4], 7, 3, 4, 107]
