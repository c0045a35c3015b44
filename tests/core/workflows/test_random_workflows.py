"""Random workflows, and what they come to: the same as in a plain interpreter.

One that fails is made as small as possible and printed as the Python that makes it, with its seed:
``pytest tests/core/workflows --workflow-seed 4711 --workflow-cases 1`` tries it again, and
``--workflow-cases 100000`` tries more of them.
"""

from __future__ import annotations

from typing import Any

import pytest
from workflows.generator import workflow
from workflows.nodes import Chain, Chord, Group, Node, Task, below
from workflows.options import WorkflowOptions
from workflows.reference import Error, Leaf, Value, expected_of
from workflows.trials import Drained, Local, smallest

pytestmark = pytest.mark.usefixtures("umbel_is_quiet")

#: Kinds of apps, and how many workflows each tries.
KINDS: dict[str, tuple[int, dict[str, Any]]] = {
    "plain": (1200, {}),
    "kept in pieces": (500, {"canvas_max_inline": 3}),
    "sent as JSON": (300, {"is_read": True}),
}


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_random_workflows_come_to_what_they_must(
    kind: str, workflow_options: WorkflowOptions
) -> None:
    count, settings = KINDS[kind]
    check(Drained(**settings), workflow_options.seeds(count))


def check(trial: Drained, seeds: range) -> None:
    """Try the workflows of `seeds`; fail with the smallest that doesn't come to what it must."""
    try:
        for seed in seeds:
            node = workflow(seed)
            if trial(node):
                small, told = smallest(node, trial)
                pytest.fail(f"seed {seed}: {small!r}\n" + "\n".join(told), pytrace=False)
    finally:
        trial.close()


def test_random_workflows_come_to_the_same_in_this_thread(
    workflow_options: WorkflowOptions,
) -> None:
    check(Local(), workflow_options.seeds(400, 3_000_000))


def test_random_workflows_are_of_all_kinds() -> None:
    found = [each for seed in range(300) for each in below(workflow(seed))]

    kinds = {type(each) for each in found}
    assert kinds == {Task, Chain, Group, Chord}
    tasks = [each for each in found if isinstance(each, Task)]
    assert {each.does for each in tasks} == {"return", "fail", "expire"}
    assert any(each.by for each in tasks)
    assert any(each.retries for each in tasks)
    assert {each.policy for each in found if isinstance(each, Chord)} >= {"collect", "ignore"}
    assert any(not each.members for each in found if isinstance(each, Group))
    assert any(each.links and not isinstance(each, Task) for each in found)
    assert any(each.errbacks and not isinstance(each, Task) for each in found)


def test_interpreter_fails_a_body_for_its_header() -> None:
    node = Chain((Chord((Task("a"), Task("b", does="fail")), Task("c")), Task("d")))

    found = expected_of(node)

    assert found.result == Leaf(Error("ChordError", frozenset({"b"})), parent=found.result.parent)
    assert {tag for tag, _, _ in found.runs} == {"a", "b"}


def test_interpreter_passes_values_on() -> None:
    node = Chain((Task("a"), Group((Task("b"), Task("c", is_immutable=True))), Task("d")))

    found = expected_of(node)

    assert isinstance(found.result, Leaf)
    assert found.result.outcome == Value('d[["b[\\"a[]\\"]", "c[]"]]')


class _Wrong(Drained):
    """Tries a workflow that isn't the one that it is asked for: its last step is missing."""

    def sent(self, node: Node) -> Any:
        return super().sent(Chain(node.steps[:-1]) if isinstance(node, Chain) else node)


def test_difference_is_told_of_the_smallest_workflow() -> None:
    trial = _Wrong()
    seed = next(each for each in range(100) if trial(workflow(each)))

    small, told = smallest(workflow(seed), trial)

    assert isinstance(small, Chain)
    assert len(small.steps) == 1
    assert told
    assert eval(repr(small)) == small
    trial.close()
