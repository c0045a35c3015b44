"""Workflows as plain values, whose repr is the Python that makes them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields, replace
from typing import Any, TypeAlias

#: What becomes of a task: it returns, it fails at its last attempt, it expires before it runs.
RETURN, FAIL, EXPIRE = "return", "fail", "expire"
#: It is no task of the user's: it returns what it is called with, a list of results.
GATHER = "gather"


@dataclass(frozen=True)
class _Node:
    def __repr__(self) -> str:
        given = [
            (each.name, value)
            for each in fields(self)
            if (value := getattr(self, each.name)) != each.default
        ]
        first, *rest = [repr(given[0][1]), *(f"{name}={value!r}" for name, value in given[1:])]
        return f"{type(self).__name__}({', '.join([first, *rest])})"


@dataclass(frozen=True, repr=False)
class Task(_Node):
    """A call of a task. What it returns tells what it is and what it was called with."""

    tag: str
    does: str = RETURN
    #: How many attempts are tried again before the last one.
    retries: int = 0
    is_immutable: bool = False
    #: Its result isn't stored.
    is_quiet: bool = False
    #: It is called with an argument of its own, after what it is given.
    has_own: bool = False
    #: What it is replaced by, when it runs.
    by: Node | None = None
    #: What it adds to the chord that it is a member of; its tag says so (see `values.ADDED`).
    adds: Task | None = None
    links: tuple[Node, ...] = ()
    errbacks: tuple[Task, ...] = ()


@dataclass(frozen=True, repr=False)
class Chain(_Node):
    """Steps, one after the other."""

    steps: tuple[Node, ...]
    #: Made by ``|`` instead of ``chain(...)``.
    is_piped: bool = False
    links: tuple[Node, ...] = ()
    errbacks: tuple[Task, ...] = ()


@dataclass(frozen=True, repr=False)
class Group(_Node):
    """Members, side by side."""

    members: tuple[Node, ...]
    links: tuple[Node, ...] = ()
    errbacks: tuple[Task, ...] = ()


@dataclass(frozen=True, repr=False)
class Chord(_Node):
    """Members side by side, and a body after them."""

    header: tuple[Node, ...]
    body: Node
    policy: str | None = None
    #: What the header calls, being a group that had callbacks before it was piped into the body.
    header_links: tuple[Node, ...] = ()
    links: tuple[Node, ...] = ()
    errbacks: tuple[Task, ...] = ()


Node: TypeAlias = Task | Chain | Group | Chord
#: Fields that hold nodes.
_HOLDERS = ("by", "adds", "steps", "members", "header", "body", "header_links", "links", "errbacks")


def below(node: Node) -> Iterator[Node]:
    """Go through `node` and all that it is made of."""
    yield node
    for name in _HOLDERS:
        for each in _listed(getattr(node, name, None)):
            yield from below(each)


def simpler(node: Node) -> Iterator[Node]:
    """Go through what is like `node`, but a little simpler, the simplest first."""
    for name in _HOLDERS:
        yield from _listed(getattr(node, name, None))
    for each in fields(node):
        value = getattr(node, each.name)
        if each.name in _HOLDERS:
            yield from _with_less(node, each.name, value)
        elif each.name != "tag" and value != each.default:
            yield replace(node, **{each.name: each.default})


def _with_less(node: Node, name: str, value: Any) -> Iterator[Node]:
    if value is None:
        return
    if isinstance(value, tuple):
        for at in range(len(value)):
            yield replace(node, **{name: value[:at] + value[at + 1 :]})
        for at, each in enumerate(value):
            for less in simpler(each):
                if name != "errbacks" or isinstance(less, Task):
                    yield replace(node, **{name: (*value[:at], less, *value[at + 1 :])})
        return
    if name in ("by", "adds"):
        yield replace(node, **{name: None})
    for less in simpler(value):
        yield replace(node, **{name: less})


def _listed(value: Any) -> tuple[Node, ...]:
    if value is None:
        return ()
    return value if isinstance(value, tuple) else (value,)
