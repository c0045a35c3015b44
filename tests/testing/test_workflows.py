"""Workflows in tests: what is enqueued of them, and what a drain makes of it."""

from __future__ import annotations

from types import SimpleNamespace

import msgspec
import pytest

from umbel import Signature, Umbel, chain, chord, group
from umbel_testing import assert_enqueued, drain, enqueued


@pytest.fixture
def tasks(umbel_app):
    @umbel_app.task(name="add")
    def add(*numbers):
        return sum(numbers)

    @umbel_app.task(name="same")
    def same(*values):
        return list(values)

    @umbel_app.task(name="fail")
    def fail(*values):
        raise KeyError("gone")

    return SimpleNamespace(add=add, same=same, fail=fail)


def names(signatures):
    return [each.task for each in signatures]


def test_chain_is_enqueued_as_its_first_step_with_the_others_after_it(umbel_queue, tasks):
    chain(tasks.add.s(1), tasks.add.s(2), tasks.same.s("x")).apply_async()

    [call] = umbel_queue.assert_enqueued(tasks.add, args=(1,), count=1)
    assert names(call.chain) == ["add", "same"]
    assert [each.args for each in call.chain] == [(2,), ("x",)]
    umbel_queue.refute_enqueued(tasks.same)


def test_long_chain_is_shown_whole(umbel_queue, tasks):
    chain(tasks.add.s(n) for n in range(200)).apply_async()

    [call] = umbel_queue.enqueued()
    assert [each.args for each in call.chain] == [(n,) for n in range(1, 200)]


def test_members_of_a_chord_know_its_body(umbel_queue, tasks):
    result = chord([tasks.add.s(1), tasks.add.s(2)], tasks.same.s("x")).apply_async()

    for call in umbel_queue.assert_enqueued(tasks.add, count=2):
        assert (call.chord.task, call.chord.args, call.chord.id) == ("same", ("x",), result.id)
        assert call.headers["group"] == result.parent.id
    group(tasks.same.s()).apply_async()
    assert umbel_queue.enqueued(tasks.same)[0].chord is None


def test_what_cannot_be_read_of_a_foreign_call_is_left_out(umbel_app, umbel_queue):
    body = b'[[1],{},{"chain":[{"task":7}],"chord":"what"}]'
    message = umbel_app.message_for(Signature("t"))
    umbel_app.broker.send([msgspec.structs.replace(message, body=body)])

    [call] = umbel_queue.enqueued("t")
    assert (call.args, call.chain, call.chord) == ([1], [], None)


def test_drain_runs_a_workflow_to_its_end(umbel_queue, tasks):
    chained = chain(tasks.add.s(1), *[tasks.add.s(1)] * 99).apply_async()
    joined = (group(tasks.add.s(n) for n in range(5)) | tasks.same.s("x") | tasks.same.s()).delay()
    runs = umbel_queue.drain(raise_errors=True)

    assert (chained.get(timeout=0), len(runs)) == (100, 107)
    assert joined.get(timeout=0) == [[[0, 1, 2, 3, 4], "x"]]


def test_drain_ends_what_cannot_go_on(umbel_queue, tasks):
    result = chord([tasks.add.s(1), tasks.fail.s()], tasks.same.s() | tasks.same.s()).apply_async()
    runs = umbel_queue.drain()

    assert sorted(run.name for run in runs) == ["add", "fail"]
    assert [result.state, result.parent.state] == ["FAILURE", "FAILURE"]


def test_workflows_of_any_app_are_shown_and_run():
    with Umbel("own", broker="memory://", backend="memory://") as app:

        @app.task(name="one")
        def one(*values):
            return len(values)

        result = (one.s() | one.s()).delay()
        [call] = assert_enqueued(app, one)

        assert names(call.chain) == ["one"]
        assert [run.value for run in drain(app)] == [0, 1]
        assert (result.get(timeout=0), enqueued(app)) == (1, [])
