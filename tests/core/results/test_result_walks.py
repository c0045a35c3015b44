"""Walks from a result to all that its task sent: iterdeps, collect, leaves and graphs."""

from __future__ import annotations

import asyncio
import io

import pytest

from umbel.errors import IncompleteStream, StateError, TaskError
from umbel.results import AsyncResult, EagerResult, GroupResult
from umbel.results.graph import DependencyGraph, GraphFormatter

LONG = 30.0


def child(task_id: str) -> list[object]:
    return [[task_id, None], None]


def group_of(group_id: str, *ids: str) -> list[object]:
    return [[group_id, None], [child(task_id) for task_id in ids]]


@pytest.fixture
def root(source, store) -> AsyncResult[object]:
    """t sent u and a group of v and w; u sent x."""
    store("t", "T", children=[child("u"), group_of("g", "v", "w")])
    store("u", "U", children=[child("x")])
    store("v", "V", children=[])
    store("w", "W")
    store("x", "X")
    return AsyncResult("t", source)


def ids(pairs) -> list[tuple[str | None, str]]:
    return [(None if parent is None else parent.id, node.id) for parent, node in pairs]


TREE = [(None, "t"), ("t", "u"), ("t", "g"), ("u", "x"), ("g", "v"), ("g", "w")]


def test_all_that_descends_is_walked_nearest_first(root):
    assert ids(root.iterdeps()) == TREE


def test_task_that_is_not_over_ends_the_walk(root, store):
    root_of = AsyncResult("r", root._source)
    store("r", 1, children=[child("t"), child("y")])
    store("y", state="STARTED", meta={})

    walk = root_of.iterdeps()
    seen = [next(walk)[1].id for _ in range(3)]

    assert seen == ["r", "t", "y"]
    with pytest.raises(IncompleteStream, match="'y' isn't over"):
        next(walk)
    assert issubclass(IncompleteStream, TaskError)


def test_task_that_is_not_over_may_be_passed_over(source, store):
    store("t", 1, children=[child("u"), child("v")])
    store("v", 2, children=[child("w")])

    walk = AsyncResult("t", source).iterdeps(intermediate=True)

    assert ids(walk) == [(None, "t"), ("t", "u"), ("t", "v"), ("v", "w")]


def test_wide_tree_is_read_many_at_once(make_source, counting, store):
    names = [f"c{number}" for number in range(900)]
    store.many(names)
    store("t", 1, children=[child(name) for name in names])
    root = AsyncResult("t", make_source(counting))

    assert len(list(root.iterdeps())) == 901
    assert len(counting.calls) == 2


def test_task_that_sends_itself_again_is_entered_once(source, store):
    store("t", 1, children=[child("t")])

    assert ids(AsyncResult("t", source).iterdeps()) == [(None, "t"), ("t", "t")]


def test_collect_yields_each_with_its_value(root):
    collected = [(result.id, value) for result, value in root.collect(timeout=LONG)]

    assert collected == [
        ("t", "T"),
        ("u", "U"),
        ("g", ["V", "W"]),
        ("x", "X"),
        ("v", "V"),
        ("w", "W"),
    ]


def test_collect_waits_for_what_is_not_over(source, store, soon):
    store("t", 1, children=[child("u")])
    soon(store, "u", 2)

    values = [value for _, value in AsyncResult("t", source).collect(timeout=LONG)]

    assert values == [1, 2]


def test_leaf_is_the_last_of_it(root):
    assert root.get_leaf() == "W"


def test_twins_of_the_walks(root):
    async def main():
        walked = ids([pair async for pair in root.aiterdeps()])
        collected = [value async for _, value in root.acollect(timeout=LONG)]
        children = [each.id for each in await root.achildren()]
        graph = await root.abuild_graph()
        return walked, collected, children, list(graph), await root.aget_leaf()

    walked, collected, children, nodes, leaf = asyncio.run(main())

    assert walked == TREE
    assert collected == ["T", "U", ["V", "W"], "X", "V", "W"]
    assert (children, leaf) == (["u", "g"], "W")
    assert nodes == ["t", "u", "g", "x", "v", "w"]


def test_eager_result_can_be_walked(source, store):
    store("u", 2)
    root = EagerResult("t", 1, "SUCCESS", children=[child("u")], source=source)

    assert root.get_leaf() == 2


# -- the graph --------------------------------------------------------------------------------


def test_graph_has_all_that_descends(root):
    graph = root.graph

    assert list(graph) == ["t", "u", "g", "x", "v", "w"]
    assert graph[root] == ["u", "g"]
    assert len(graph) == 6
    assert root in graph
    assert isinstance(graph["t"][1], GroupResult)


def test_graph_is_sorted_with_what_depends_last(root):
    order = [str(node) for node in root.graph.topsort()]

    assert order[-1] == "t"
    assert order.index("x") < order.index("u")
    assert max(order.index("v"), order.index("w")) < order.index("g")


def test_graph_of_what_is_not_over_is_an_error(source):
    with pytest.raises(IncompleteStream):
        AsyncResult("t", source).build_graph()
    assert list(AsyncResult("t", source).build_graph(intermediate=True)) == ["t"]


def test_graph_is_drawn(source, store):
    store("t", 1, children=[child("u")])
    store("u", 2)
    file = io.StringIO()

    text = AsyncResult("t", source).graph.to_dot(file)

    assert file.getvalue() == text
    lines = text.splitlines()
    assert lines[:2] == ['digraph "dependencies" {', '    graph [root="t"]']
    assert lines[2].startswith('    "t" [shape="oval"')
    assert lines[4:] == ['    "t" -> "u"', "}"]


def test_drawing_can_be_changed():
    class Loud(GraphFormatter):
        def label(self, node):
            return f'"{node}"\\'.upper()

    graph = DependencyGraph([("a", ["b"])], Loud(shape="circle"))

    assert '"\\"A\\"\\\\" -> "\\"B\\"\\\\"' in graph.to_dot()
    assert 'shape="circle"' in graph.to_dot()


def test_graph_is_made_by_hand():
    graph = DependencyGraph([("a", ["b", "c"]), ("b", ["c"])])
    other = DependencyGraph([("d", [])])
    graph.connect(other)

    assert dict(graph.items()) == {"a": ["b", "c"], "b": ["c"], "c": [], "d": []}
    assert list(graph.edges()) == ["a", "b"]
    assert graph.valency_of("a") == 3
    assert graph.topsort().index("c") < graph.topsort().index("b")


def test_circle_cannot_be_sorted():
    with pytest.raises(StateError, match="circle, through a"):
        DependencyGraph([("a", ["b"]), ("b", ["a"])]).topsort()


def test_long_chain_is_sorted_without_recursion():
    graph = DependencyGraph((n, [n + 1]) for n in range(5_000))

    assert graph.topsort() == list(range(5_000, -1, -1))
