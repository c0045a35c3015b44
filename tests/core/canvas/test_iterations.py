"""One task for many items: map, starmap and chunks."""

from __future__ import annotations

import pytest

from umbel import chain, chunks, group, xmap, xstarmap
from umbel.canvas import Signature
from umbel.errors import InvalidTaskError

TIMEOUT_S = 20


@pytest.fixture
def add(flows):
    return flows.tasks["add"]


def test_can_17_map_is_one_message_for_all_items(flows, add, calls):
    add.map([1, 2, 3]).apply_async()
    assert len(flows.broker.peek("celery", limit=10)) == 1

    with flows.worker():
        assert add.map(iter([1, 2])).apply_async().get(timeout=TIMEOUT_S) == [1, 2]
    assert calls == [("add", (each,)) for each in (1, 2, 3, 1, 2)]


def test_can_17_starmap_calls_with_the_arguments_in_each_item(flows, add):
    with flows.worker():
        assert add.starmap([(1, 2), [3, 4]])().get(timeout=TIMEOUT_S) == [3, 7]
        assert ~xstarmap(add, [(1, 1)]) == [2]


def test_can_17_they_take_nothing_from_a_parent(flows, add):
    with flows.worker():
        assert ~chain(add.s(1), add.map([5])) == [5]


@pytest.mark.parametrize("kind", [xmap, xstarmap])
def test_can_17_they_are_routed_as_the_task_that_they_call(make_app, kind):
    app = make_app(task_routes={"add": {"queue": "own"}})
    app.task(name="add")(lambda x: x)
    kind("add", [[1]], priority=2).bound_to(app).apply_async()
    group(kind("add", [[1]])).bound_to(app).apply_async()

    assert [each.priority for each in app.broker.peek("own", limit=10)] == [2, 0]


def test_can_18_chunks_have_n_items_each(add):
    made = add.chunks(((each, each) for each in range(5)), 2)

    assert [each.kwargs["it"] for each in made.group().tasks] == [
        [(0, 0), (1, 1)],
        [(2, 2), (3, 3)],
        [(4, 4)],
    ]
    assert {type(each) for each in made.group().tasks} == {xstarmap}


def test_cfp_24_called_chunks_are_sent_from_here(flows, add):
    result = add.chunks([(1, 2), (3, 4), (5, 6)], 2)()
    assert [each.task for each in flows.broker.peek("celery", limit=10)] == ["celery.starmap"] * 2

    with flows.worker():
        assert result.get(timeout=TIMEOUT_S) == [[3, 7], [11]]
        again = chunks.apply_chunks(add, [(1, 1), (2, 2)], 1)
        assert again.get(timeout=TIMEOUT_S) == [[2], [4]]


def test_cfp_24_chunks_sent_as_a_task_are_sent_on_by_a_worker(flows, add):
    result = add.chunks([(1, 2), (3, 4)], 1).apply_async()
    [message] = flows.broker.peek("celery", limit=10)
    assert message.task == "celery.chunks"

    with flows.worker():
        [group_id, _], members = result.get(timeout=TIMEOUT_S)
        found = [flows.AsyncResult(task_id) for [task_id, _], _ in members]
        assert [each.get(timeout=TIMEOUT_S) for each in found] == [[3], [7]]
    assert group_id == result.id


def test_cfp_24_what_a_worker_sends_of_chunks_is_routed_as_the_task(make_app):
    app = make_app(backend="memory://", task_routes={"add": {"queue": "own"}})
    app.task(name="add")(lambda x: x)
    app.chunks("add", [[1], [2]], 1).set(queue="celery").apply_async()
    with app.worker(queues=["celery"]):
        wait_for_messages(app, "own", 2)


def wait_for_messages(app, queue, count):
    from project import wait_for

    wait_for(lambda: len(app.broker.peek(queue, limit=10)) == count, 20)


def test_cfp_24_options_of_chunks_are_those_of_all_pieces(add, flows):
    add.chunks([(1, 2), (3, 4)], 1).set(priority=5)()

    assert [each.priority for each in flows.broker.peek("celery", limit=10)] == [5, 5]


@pytest.mark.parametrize("size", [0, -1, 1.5, True, "2", None])
def test_can_18_chunks_need_a_size(size):
    with pytest.raises(InvalidTaskError, match="size of 1 or more"):
        chunks(Signature("add"), [1], size)
