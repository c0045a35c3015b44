"""What workflows are the same as: ``a | b`` as chords and chains, a chord's options as its parts'."""

from __future__ import annotations

from dataclasses import replace
from functools import reduce

from workflows.nodes import GATHER, Chain, Chord, Group, Node, Task


def unpiped(node: Node) -> Node:
    """Return `node` with no chain in it that is made by ``|``."""
    match node:
        case Task():
            by, adds = (each and unpiped(each) for each in (node.by, node.adds))
            made: Node = replace(node, by=by, adds=adds)
        case Group():
            made = replace(node, members=tuple(map(unpiped, node.members)))
        case Chord():
            header = tuple(map(unpiped, node.header))
            made = replace(node, header=header, body=unpiped(node.body))
        case Chain():
            steps = tuple(map(unpiped, node.steps))
            if node.is_piped and steps:
                return added(reduce(piped, steps), tuple(map(unpiped, node.links)), node.errbacks)
            made = replace(node, steps=steps, is_piped=False)
    return replace(made, links=tuple(map(unpiped, node.links)))


def piped(first: Node, second: Node) -> Node:
    """Return what ``first | second`` is: after a group a chord, after a chord more of its body."""
    if isinstance(first, (Group, Chord)) and isinstance(second, Group) and not second.members:
        return first
    if isinstance(first, Group):
        header = tuple(told(each, first.errbacks) for each in first.members)
        return Chord(header, second, header_links=first.links)
    if isinstance(first, Chord):
        whole = settled(first)
        return replace(whole, body=piped(whole.body, second))
    before, after = _steps(first), _steps(second)
    if before and after and isinstance(before[-1], Chord):
        rest = after[0] if len(after) == 1 else Chain(tuple(after))
        before, after = before[:-1], [piped(before[-1], rest)]
    both = (*before, *after)
    return both[0] if len(both) == 1 else Chain(both)


def _steps(node: Node) -> list[Node]:
    if isinstance(node, Chain):
        return steps_of(node)
    return [] if isinstance(node, Group) and not node.members else [node]


def is_nothing(node: Node) -> bool:
    """Tell whether there is nothing to run in `node`."""
    match node:
        case Chain():
            return all(map(is_nothing, node.steps))
        case Group():
            return all(map(is_nothing, node.members))
    return False


def steps_of(chain: Chain) -> list[Node]:
    """Return the steps of a chain; those of chains in it are its own, and nothing is none."""
    steps: list[Node] = []
    for each in chain.steps:
        if not is_nothing(each):
            steps += steps_of(each) if isinstance(each, Chain) else [each]
    steps = [told(each, chain.errbacks) for each in steps]
    if steps:
        steps[-1] = calling(steps[-1], chain.links)
    return steps


def calling(node: Node, links: tuple[Node, ...]) -> Node:
    return replace(node, links=(*node.links, *links)) if links else node


def settled(chord: Chord) -> Chord:
    """Return a chord whose callbacks and errbacks are those of its parts."""
    header = tuple(added(each, (), chord.errbacks) for each in chord.header)
    body = added(chord.body, chord.links, chord.errbacks)
    return replace(chord, header=header, body=body, links=(), errbacks=())


def added(node: Node, links: tuple[Node, ...], errbacks: tuple[Task, ...]) -> Node:
    """Return `node` as its user has linked it with more."""
    return replace(node, links=(*node.links, *links), errbacks=(*node.errbacks, *errbacks))


def told(node: Node, errbacks: tuple[Task, ...]) -> Node:
    """Return `node` with the errbacks of what it is a part of; of a chord, its body has them."""
    if isinstance(node, Chord):
        node = settled(node)
        return replace(node, body=told(node.body, errbacks))
    return replace(node, errbacks=(*node.errbacks, *errbacks))


def ended(node: Node) -> Node:
    """Return `node` ended with one result: a list, where it ends with a group."""
    match node:
        case Chain():
            *steps, last = steps_of(node)
            return Chain((*steps, ended(last)))
        case Chord():
            whole = settled(node)
            return replace(whole, body=ended(whole.body))
        case Group():
            return gathered(node)
    return node


def gathered(group: Group) -> Chord:
    """Return a group as a chord whose body returns the list of its results."""
    header = tuple(told(each, group.errbacks) for each in group.members)
    return Chord(header, Task("", does=GATHER), links=group.links)
