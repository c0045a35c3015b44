"""What a workflow must come to: an interpreter in plain Python, by rules of its own.

The rules are those of umbel's native semantics. Nothing here looks at how umbel does it, nor in
which order: where an order decides (which of two failures was the first), all answers are told.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, TypeAlias

from workflows.nodes import EXPIRE, FAIL, GATHER, Chain, Chord, Group, Node, Task, below
from workflows.rules import (
    added,
    calling,
    ended,
    gathered,
    is_nothing,
    settled,
    steps_of,
    told,
    unpiped,
)
from workflows.values import ID, OWN, shown, value_of


@dataclass(frozen=True)
class Value:
    """What a task returned."""

    value: Any


@dataclass(frozen=True)
class Error:
    """What a task failed with: its type, and where it began; one of `causes`."""

    exc_type: str
    causes: frozenset[str]
    state: str = "FAILURE"

    def in_place(self) -> Any:
        """Return the record that stands in the place of a value."""
        (message, *others) = sorted(self.causes)
        return {"exc_type": self.exc_type, "exc_message": [message if not others else None]}


@dataclass(frozen=True)
class Leaf:
    """The result of a task."""

    outcome: Value | Error
    parent: Result | None = None
    is_quiet: bool = False
    #: What the task has added to its chord.
    added: Result | None = None


@dataclass(frozen=True)
class Many:
    """The result of a group."""

    members: tuple[Result, ...]
    parent: Result | None = None
    #: Why none of it ran.
    error: Error | None = None


Result: TypeAlias = Leaf | Many
#: The result of nothing, such as a chain of empty groups.
NOTHING = Many(())


@dataclass
class Expected:
    """What a workflow must come to."""

    result: Result = NOTHING
    #: Tag, input and attempts of each task that runs.
    runs: Counter[tuple[str, str, int]] = field(default_factory=Counter)


def expected_of(node: Node) -> Expected:
    """Return what `node` must come to, sent without arguments."""
    found = Expected()
    result = _Interpreter(found).run(unpiped(node), ())
    found.result = NOTHING if result is None else result
    return found


class _Interpreter:
    def __init__(self, expected: Expected) -> None:
        self._runs = expected.runs

    def run(self, node: Node, args: tuple[Any, ...]) -> Result | None:
        """Return what comes of `node`; None: there is nothing in it."""
        match node:
            case Task():
                return self._run_task(node, args)
            case Chain():
                return self._run_chain(node, args)
            case Group():
                return self._run_group(node, args)
            case Chord():
                return self._run_chord(node, args)

    def _run_task(self, task: Task, args: tuple[Any, ...]) -> Result:
        if task.does == GATHER:
            return self._succeeded(task, args[0])
        given = (() if task.is_immutable else args) + ((OWN,) if task.has_own else ())
        if task.does == EXPIRE:
            error = Error("TaskRevokedError", frozenset({"expired"}), "REVOKED")
            return self._failed(task, error)
        self._runs[task.tag, shown(given), 1 + task.retries] += 1
        if task.does == FAIL:
            return self._failed(task, Error("ValueError", frozenset({task.tag})))
        added = None if task.adds is None else self._must_run(task.adds, ())
        if task.by is not None:
            return replace(self._replaced(task, task.by), added=added)
        return replace(self._succeeded(task, value_of(task.tag, given)), added=added)

    def _replaced(self, task: Task, by: Node) -> Leaf:
        """Run `by`; what it ends with is the task's result, and has its callbacks."""
        whole = added(gathered(by) if isinstance(by, Group) else by, (), task.errbacks)
        result = self._must_run(added(ended(whole), task.links, ()), ())
        assert isinstance(result, Leaf), by
        return replace(result, parent=None, is_quiet=task.is_quiet or result.is_quiet)

    def _succeeded(self, task: Task, value: Any) -> Leaf:
        for each in task.links:
            self.run(each, (value,))
        return Leaf(Value(value), is_quiet=task.is_quiet)

    def _failed(self, task: Task, error: Error) -> Leaf:
        self._tell(task.errbacks)
        return Leaf(error, is_quiet=task.is_quiet)

    def _tell(self, errbacks: Iterable[Task]) -> None:
        for each in errbacks:
            self.run(each, (ID,))

    def _run_chain(self, chain: Chain, args: tuple[Any, ...]) -> Result | None:
        result: Result | None = None
        error: Error | None = None
        steps = steps_of(chain)
        for at, step in enumerate(steps):
            given = args if result is None else ()
            if result is not None and error is None:
                outcome = part_of(result)
                if isinstance(outcome, Value):
                    given = (outcome.value,)
                else:
                    error = outcome
                    if (
                        isinstance(result, Many) and result.error is None
                    ):  # its results would have gone to this step
                        self._tell(errbacks_of_steps(steps[at:]))
            following = self.run(step, given) if error is None else self.unreached(step, error)
            assert following is not None
            result = following if result is None else after(following, result)
        return result

    def _run_group(self, group: Group, args: tuple[Any, ...]) -> Result | None:
        members = members_of(group)
        if not members:
            return None
        results = tuple(self._must_run(each, args) for each in members)
        result = Many(results)
        for each in group.links:
            self._after_header(each, None, results)
        return result

    def _run_chord(self, chord: Chord, args: tuple[Any, ...]) -> Result:
        chord = settled(chord)
        body = chord.body
        header = tuple(self._must_run(each, args) for each in header_of(chord))
        for each in chord.header_links if header else ():
            self._after_header(each, chord.policy, header)
        return after(self._after_header(body, chord.policy, header), Many(header))

    def _after_header(self, body: Node, policy: str | None, header: Sequence[Result]) -> Result:
        parts = [part_of(each) for each in with_added(header)]
        failed = [each for each in parts if isinstance(each, Error)]
        if failed and policy in (None, "abort"):
            self._tell(errbacks_of(body))
            return self.unreached(body, chord_error(failed))
        if policy == "ignore":
            parts = [each for each in parts if isinstance(each, Value)]
        values = [each.value if isinstance(each, Value) else each.in_place() for each in parts]
        return self._must_run(body, (values,))

    def _must_run(self, node: Node, args: tuple[Any, ...]) -> Result:
        found = self.run(node, args)
        assert found is not None, node
        return found

    def unreached(self, node: Node, error: Error) -> Result:
        """Return what comes of `node`, which won't run because of `error`."""
        error = replace(error, state="FAILURE")
        match node:
            case Task():
                return Leaf(error, is_quiet=node.is_quiet)
            case Chain():
                result: Result | None = None
                for step in steps_of(node):
                    found = self.unreached(step, error)
                    result = found if result is None else after(found, result)
                assert result is not None
                return result
            case Group():
                results = tuple(self.unreached(each, error) for each in members_of(node))
                return Many(results, error=error)
            case Chord():
                chord = settled(node)
                header = tuple(self.unreached(each, error) for each in header_of(chord))
                return after(self.unreached(chord.body, error), Many(header))


# -- rules ------------------------------------------------------------------------------------------


def members_of(group: Group) -> list[Node]:
    """Return the members of a group; those of groups in it are its own."""
    found: list[Node] = []
    for each in group.members:
        if not is_nothing(each):
            found += members_of(_called_by_first(each)) if isinstance(each, Group) else [each]
    return [told(each, group.errbacks) for each in found]


def _called_by_first(group: Group) -> Group:
    """Return a group that is no group of its own, being in another: its first member calls."""
    members = [each for each in group.members if not is_nothing(each)]
    if not group.links or not members:
        return group
    first, *rest = members
    first = calling(first, tuple(map(immutable, group.links)))
    return replace(group, members=(first, *rest), links=())


def immutable(node: Node) -> Node:
    """Return `node`, taking nothing of what it is called with."""
    match node:
        case Chain():
            first, *rest = (each for each in node.steps if not is_nothing(each))
            return replace(node, steps=(immutable(first), *rest))
        case Group():
            return replace(node, members=tuple(map(immutable, node.members)))
        case Chord():
            return replace(node, header=tuple(map(immutable, node.header)))
    return replace(node, is_immutable=True)


def is_fine(node: Node) -> bool:
    """Tell whether it is clear what `node` comes to: what must run is something."""
    node = unpiped(node)
    may_add = {
        id(each) for chord in below(node) if isinstance(chord, Chord) for each in chord.header
    }
    for each in below(node):
        needed = list(each.links)
        if isinstance(each, Chord):
            needed += [each.body, *each.header_links]
        if isinstance(each, Task):
            needed += [more for more in (each.by, each.adds) if more is not None]
            if each.adds is not None and id(each) not in may_add:
                return False
        has_more = bool(each.links or each.errbacks)
        if any(map(is_nothing, needed)) or (has_more and is_nothing(each)):
            return False
    return True


def header_of(chord: Chord) -> list[Node]:
    """Return the members of a chord's header."""
    return members_of(Group(chord.header))


def errbacks_of(node: Node) -> list[Task]:
    """Return whom to tell that `node` can't begin: the errbacks of what it would begin with."""
    match node:
        case Chain():
            return errbacks_of_steps(steps_of(node))
        case Group():
            return [errback for each in members_of(node) for errback in errbacks_of(each)]
        case Chord():
            return errbacks_of(settled(node).body)
    return list(node.errbacks)


def errbacks_of_steps(steps: Sequence[Node]) -> list[Task]:
    """Return the same of a chain. A group that a step comes after is the header of a chord."""
    first = next((each for each in steps if not isinstance(each, Group)), steps[-1])
    return errbacks_of(first)


def part_of(result: Result) -> Value | Error:
    """Return what a result adds to the list that comes after it."""
    if isinstance(result, Leaf):
        return result.outcome
    if result.error is not None:
        return result.error
    parts = [part_of(each) for each in result.members]
    failed = [each for each in parts if isinstance(each, Error)]
    if failed:
        return chord_error(failed)
    return Value([each.value for each in parts if isinstance(each, Value)])


def errors_in(result: Result) -> set[str]:
    """Return the types of the errors that who waits for `result` may get."""
    if isinstance(result, Leaf):
        return {result.outcome.exc_type} if isinstance(result.outcome, Error) else set()
    return set().union(*map(errors_in, result.members))


def is_quiet(result: Result) -> bool:
    """Tell whether anything isn't stored that who waits for `result` waits for."""
    if result.parent is not None and is_quiet(result.parent):
        return True
    return result.is_quiet if isinstance(result, Leaf) else any(map(is_quiet, result.members))


def with_added(header: Iterable[Result]) -> Iterator[Result]:
    """Go through the parts of a chord; what one of them has added comes after it."""
    for each in header:
        yield each
        if isinstance(each, Leaf) and each.added is not None:
            yield each.added


def chord_error(failed: Iterable[Error]) -> Error:
    """Return the error that names one of those that failed."""
    return Error("ChordError", frozenset().union(*(each.causes for each in failed)))


def after(result: Result, parent: Result) -> Result:
    """Return `result` with `parent` before what it begins with."""
    own = result.parent
    return replace(result, parent=parent if own is None else after(own, parent))
