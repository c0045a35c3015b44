"""Workflows that are easily got wrong, each by its name."""

from __future__ import annotations

import pytest
from workflows.nodes import Chain, Chord, Group, Node, Task
from workflows.trials import Drained

pytestmark = pytest.mark.usefixtures("umbel_is_quiet")

_A, _B, _C, _D = (Task(tag) for tag in "abcd")
_FAILS, _CALLBACK, _ERRBACK = Task("f", does="fail"), Task("callback"), Task("errback")
_TOLD = Task("told", errbacks=(_ERRBACK,))

ODD: dict[str, Node] = {
    "chain of nothing in a header": Chord((Chain((Group(()),)), _A), _B),
    "chain of nothing in a group": Group((Chain(()), _A)),
    "callback of a group that goes on": Chain((Group((_A, _B), links=(_CALLBACK,)), _C)),
    "callback of a group that is a part": Chord(
        (Chain((_A, Group((_B, _C), links=(_CALLBACK,)))),), _D
    ),
    "callback of a chain that ends with nothing": Chain(
        (Chain((_A, Group(())), links=(_CALLBACK,)), _B)
    ),
    "callback of a chord that is piped on": Chain(
        (Chain((Chord((_A,), _B),), links=(_CALLBACK,)), _C), is_piped=True
    ),
    "callback that is a chain, of a group in a group": Group(
        (Group((_A,), links=(Chain((_B, _C)),)),)
    ),
    "body that is a group and a part": Chord((Chord((_FAILS,), Group((_TOLD, _A))),), _B),
    "failure before a group that is a part": Chord(
        (Chain((_FAILS, Group((_A, _B)))),), _C, policy="collect"
    ),
    "group that is not begun, and a step after it": Chain(
        (Chord((_FAILS,), Group((_TOLD,))), Task("e", errbacks=(_ERRBACK,)))
    ),
    "replaced after a retry, by what never begins": Task(
        "a", retries=1, by=Group((Task("f", does="fail"),))
    ),
    "reference to a reference": Chain(
        (Chord((), Group((_A,))), Group((_B, Chain((_C, _D)))), *(Task(f"t{i}") for i in range(4)))
    ),
    "steps after a chord that is kept": Chain(
        (_A, Group((_B,)), Chord((Task("p"), Task("q"), Task("r")), _C), _D)
    ),
    "block that begins with a chord": Chain(
        (
            Chain(
                (*(Task(f"t{i}") for i in range(7)), Chord((), _A), Group((_B, _FAILS))),
                is_piped=True,
                links=(_TOLD,),
            ),
            _D,
        )
    ),
}


@pytest.mark.parametrize("max_inline", [32, 3])
@pytest.mark.parametrize("name", ODD)
def test_odd_workflow_comes_to_what_it_must(name: str, max_inline: int) -> None:
    trial = Drained(canvas_max_inline=max_inline)

    assert trial(ODD[name]) == []

    trial.close()
