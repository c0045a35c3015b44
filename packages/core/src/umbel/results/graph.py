"""A graph of what sent what, to be walked in order or drawn by Graphviz."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, ItemsView, Iterable, Iterator, Mapping
from types import MappingProxyType
from typing import Any, Final, TextIO

from umbel.errors import StateError

_NODE: Final = MappingProxyType({"style": "filled", "fillcolor": "#d5e8d4", "color": "#5b8c5a"})
_LEAF: Final = MappingProxyType({"style": "filled", "fillcolor": "#eef6ee", "color": "#5b8c5a"})


class GraphFormatter:
    """How a graph is drawn. Override what should look different.

    Args:
        root: What stands as the graph's attribute ``root``; None: nothing does.
        id: The graph's name.
        scheme: Attributes of each node: ``shape="oval"``.
    """

    def __init__(self, root: Any = None, *, id: str = "dependencies", **scheme: str) -> None:
        self.root, self.id, self.scheme = root, id, {"shape": "box", **scheme}

    def label(self, node: Any) -> str:
        """Return the text of `node`, which also tells it from the others."""
        return str(node)

    def head(self) -> str:
        """Return the first lines."""
        root = "" if self.root is None else f"\n    graph [root={quoted(self.label(self.root))}]"
        return f"digraph {quoted(self.id)} {{{root}"

    def node(self, node: Any) -> str:
        """Return the line of a node that others descend from."""
        return self._line(quoted(self.label(node)), {**self.scheme, **_NODE})

    def terminal_node(self, node: Any) -> str:
        """Return the line of a node that nothing descends from."""
        return self._line(quoted(self.label(node)), {**self.scheme, **_LEAF})

    def edge(self, node: Any, other: Any) -> str:
        """Return the line of an edge from `node` to `other`."""
        return self._line(f"{quoted(self.label(node))} -> {quoted(self.label(other))}", {})

    def tail(self) -> str:
        """Return the last line."""
        return "}"

    def _line(self, what: str, attributes: Mapping[str, str]) -> str:
        if not attributes:
            return f"    {what}"
        shown = ", ".join(f"{name}={quoted(value)}" for name, value in attributes.items())
        return f"    {what} [{shown}]"


class DependencyGraph:
    """Nodes, and for each the nodes that it leads to, in the order in which they were added.

    Args:
        it: Pairs of a node and of those that it leads to.
        formatter: How it is drawn.
    """

    def __init__(
        self,
        it: Iterable[tuple[Hashable, Iterable[Hashable]]] | None = None,
        formatter: GraphFormatter | None = None,
    ) -> None:
        self.formatter = formatter or GraphFormatter()
        self.adjacent: dict[Any, list[Any]] = {}
        if it is not None:
            self.update(it)

    @classmethod
    def of(
        cls, edges: Iterable[tuple[Any, Any]], formatter: GraphFormatter | None = None
    ) -> DependencyGraph:
        """Return the graph of pairs of a parent, or None, and a node."""
        graph = cls()
        root: Any = None
        for parent, node in edges:
            graph.add_arc(node)
            if parent is None:
                root = node
            else:
                graph.add_edge(parent, node)
        graph.formatter = formatter or GraphFormatter(root, shape="oval")
        return graph

    def add_arc(self, node: Hashable) -> None:
        """Add a node, if it isn't there."""
        self.adjacent.setdefault(node, [])

    def add_edge(self, node: Hashable, other: Hashable) -> None:
        """Add an edge from `node`, which is there, to `other`, which may not be yet."""
        self.adjacent[node].append(other)

    def connect(self, graph: DependencyGraph) -> None:
        """Take over the nodes and edges of another graph."""
        self.adjacent.update(graph.adjacent)

    def update(self, it: Iterable[tuple[Hashable, Iterable[Hashable]]]) -> None:
        """Add pairs of a node and of those that it leads to."""
        for node, others in it:
            self.add_arc(node)
            for other in others:
                self.add_arc(other)
                self.add_edge(node, other)

    def topsort(self) -> list[Any]:
        """Return all nodes, each after those that it leads to.

        Raises: StateError: some lead to each other in a circle.
        """
        waiting = Counter(other for others in self.adjacent.values() for other in others)
        ready = [node for node in self.adjacent if not waiting[node]]
        found = []
        while ready:
            node = ready.pop()
            found.append(node)
            for other in self.adjacent.get(node, ()):
                waiting[other] -= 1
                if not waiting[other]:
                    ready.append(other)
        if circle := [node for node in self.adjacent if waiting[node]]:
            raise StateError(f"the graph has a circle, through {circle[0]} among others")
        return found[::-1]

    def edges(self) -> Iterator[Any]:
        """Yield the nodes that lead to others."""
        return (node for node, others in self.adjacent.items() if others)

    def valency_of(self, node: Hashable) -> int:
        """Return how many edges there are on all ways from `node`. Raises: StateError."""
        counted: dict[Any, int] = {}
        for each in self.topsort():
            others = self.adjacent.get(each, ())
            counted[each] = len(others) + sum(counted.get(other, 0) for other in others)
        return counted.get(node, 0)

    def to_dot(self, fh: TextIO | None = None, formatter: GraphFormatter | None = None) -> str:
        """Return the graph in Graphviz's language; with `fh`, write it there, too."""
        draw = formatter or self.formatter
        lines = [draw.head()]
        for node, others in self.adjacent.items():
            lines.append(draw.node(node) if others else draw.terminal_node(node))
        for node, others in self.adjacent.items():
            lines += [draw.edge(node, other) for other in others]
        text = "\n".join([*lines, draw.tail(), ""])
        if fh is not None:
            fh.write(text)
        return text

    def items(self) -> ItemsView[Any, list[Any]]:
        """Return pairs of a node and of those that it leads to."""
        return self.adjacent.items()

    def __iter__(self) -> Iterator[Any]:
        return iter(self.adjacent)

    def __getitem__(self, node: Hashable) -> list[Any]:
        return self.adjacent[node]

    def __len__(self) -> int:
        return len(self.adjacent)

    def __contains__(self, node: Hashable) -> bool:
        return node in self.adjacent

    def __repr__(self) -> str:
        return f"<{type(self).__name__}: {len(self.adjacent)} nodes>"


def quoted(text: str) -> str:
    """Return `text` as a string of Graphviz's language."""
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n") + '"'
