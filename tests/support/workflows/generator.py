"""Random workflows: the same for the same seed."""

from __future__ import annotations

import random
from dataclasses import replace

from workflows.nodes import EXPIRE, FAIL, RETURN, Chain, Chord, Group, Node, Task
from workflows.reference import is_fine
from workflows.rules import is_nothing
from workflows.values import ADDED

DEPTH, WIDTH, CALLS = 5, 6, 40


def workflow(seed: int, *, depth: int = DEPTH, width: int = WIDTH, calls: int = CALLS) -> Node:
    """Return the workflow of `seed`.

    Args:
        seed: Any number.
        depth: How deep canvases are nested at most.
        width: How many steps or members there are at most.
        calls: About how many tasks it is made of at most.
    """
    chance = random.Random(seed)
    while not is_fine(made := _Generator(chance, width, calls).top(depth)):
        pass
    return made


class _Generator:
    def __init__(self, chance: random.Random, width: int, calls: int) -> None:
        self._chance, self._width, self._left = chance, width, chance.randint(2, calls)
        self._made = 0
        #: Of a task to go wrong: some workflows go well.
        self._trouble = chance.choice((0.0, 0.03, 0.1, 0.3))
        self._replaced = chance.choice((0.0, 0.0, 0.1))
        self._with_links = chance.random() < 0.5

    def top(self, depth: int) -> Node:
        return self._node(self._chance.randint(1, depth))

    def _node(self, depth: int, *, is_empty_fine: bool = True) -> Node:
        """Return a node; one that has something to run, unless told otherwise."""
        if depth <= 0 or self._left <= 0:
            return self._task()
        kind = self._chance.choices(("task", "chain", "group", "chord"), (3, 4, 3, 3))[0]
        made: Node
        match kind:
            case "task":
                return self._task(depth)
            case "chain":
                steps = tuple(self._node(depth - 1) for _ in range(self._size()))
                made = Chain(steps, is_piped=self._chance.random() < 0.5)
            case "group":
                made = Group(tuple(self._node(depth - 1) for _ in range(self._size(0.1))))
            case _:
                header = tuple(self._adding(self._node(depth - 1)) for _ in range(self._size(0.05)))
                body = self._node(depth - 1, is_empty_fine=False)
                made = Chord(header, body, policy=self._policy())
        if is_nothing(made):
            return made if is_empty_fine else self._task()
        return self._linked(made, depth)

    def _adding(self, member: Node) -> Node:
        """Return a member of a chord's header, which may add another one."""
        if not isinstance(member, Task) or self._chance.random() >= self._replaced:
            return member
        added = self._task()
        does = RETURN if added.does == EXPIRE else added.does
        added = replace(added, tag=f"{ADDED}{added.tag}", does=does, links=())
        return replace(member, adds=added)

    def _size(self, empty: float = 0.0) -> int:
        if self._chance.random() < empty:
            return 0
        return min(self._chance.randint(1, self._width), max(1, self._left))

    def _policy(self) -> str | None:
        return self._chance.choice((None, None, "abort", "collect", "ignore"))

    def _task(self, depth: int = 0) -> Task:
        self._left -= 1
        self._made += 1
        chance = self._chance
        does, retries = RETURN, 0
        if chance.random() < self._trouble:
            does = chance.choices((RETURN, FAIL, EXPIRE), (2, 4, 1))[0]
            retries = chance.choice((0, 0, 1, 2)) if does != EXPIRE else 0
        made = Task(
            f"t{self._made}",
            does=does,
            retries=retries,
            is_immutable=chance.random() < 0.15,
            is_quiet=chance.random() < 0.05,
            has_own=chance.random() < 0.1,
        )
        if depth > 0 and does == RETURN and chance.random() < self._replaced:
            made = replace(made, by=self._node(depth - 1, is_empty_fine=False))
        return self._linked(made, depth)

    def _linked(self, made: Node, depth: int) -> Node:
        """Return `made` with callbacks and errbacks, perhaps."""
        chance = self._chance
        if not self._with_links or chance.random() < 0.8:
            return made
        links, errbacks = made.links, made.errbacks
        if chance.random() < 0.5:
            links = tuple(
                self._node(min(depth, 2) - 1, is_empty_fine=False)
                for _ in range(chance.choice((1, 1, 2)))
            )
        if chance.random() < 0.5:
            errbacks = tuple(self._errback() for _ in range(chance.choice((1, 1, 2))))
        return replace(made, links=links, errbacks=errbacks)

    def _errback(self) -> Task:
        self._left -= 1
        self._made += 1
        return Task(f"e{self._made}", is_immutable=self._chance.random() < 0.2)
