"""Workers that die, lose replies and get messages twice, at every step of workflows.

After it all, each workflow has come to what it must, and nothing ran under more than one id.
"""

from __future__ import annotations

import random
import uuid
from collections.abc import Iterator

import pytest
from workflows.faulted import FAULTS, Faulted, worth_trying
from workflows.generator import workflow
from workflows.nodes import Node, Task
from workflows.options import WorkflowOptions
from workflows.samples import SAMPLES

from umbel import requests
from umbel.worker import chords

pytestmark = [pytest.mark.faults, pytest.mark.usefixtures("umbel_is_quiet")]

#: Random workflows, and how often each is tried with other faults.
SEEDS, TRIES = 60, 2
_CALLS = 14


@pytest.fixture(name="trial", params=[32, 2], ids=["embedded", "kept in pieces"])
def faulted(request: pytest.FixtureRequest) -> Iterator[Faulted]:
    """Workers whose messages carry so many calls at most."""
    made = Faulted(canvas_max_inline=request.param)
    with made.opened():
        yield made
    made.close()


@pytest.fixture(name="plain")
def plain_faulted() -> Iterator[Faulted]:
    """The same as they are by default."""
    made = Faulted()
    with made.opened():
        yield made
    made.close()


def steps_of(trial: Faulted, node: Node) -> list[str]:
    """Return the calls that `node` comes to where all goes well."""
    assert trial.tried(node, {}) == []
    return trial.made


@pytest.mark.parametrize("name", SAMPLES)
def test_any_fault_at_any_step_changes_nothing(name: str, plain: Faulted) -> None:
    node = SAMPLES[name]
    calls = steps_of(plain, node)

    for number, fault in worth_trying(calls):
        found = plain.tried(node, {number: fault})
        assert not found, f"{fault} at call {number}, {calls[number]}: {found}"
        assert not plain.unmet


@pytest.mark.parametrize("name", SAMPLES)
def test_message_that_comes_twice_changes_nothing(name: str, trial: Faulted) -> None:
    node = SAMPLES[name]

    assert trial.tried(node, {}, is_doubled=True) == []


@pytest.mark.parametrize("name", SAMPLES)
def test_messages_that_come_again_after_the_end_change_nothing(name: str, trial: Faulted) -> None:
    steps_of(trial, SAMPLES[name])

    assert trial.messages
    assert trial.repeated() == []


def test_random_faults_change_nothing_of_random_workflows(
    trial: Faulted, workflow_options: WorkflowOptions
) -> None:
    for seed in workflow_options.seeds(SEEDS):
        node, chance = workflow(seed, calls=_CALLS), random.Random(seed)
        places = list(worth_trying(steps_of(trial, node)))
        for _ in range(TRIES if places else 0):
            faults = dict(chance.sample(places, k=chance.randint(1, 3)))
            found = trial.tried(node, faults)
            assert not found, f"seed {seed}, {faults}: {node!r}: {found}"


# -- these tests can fail ---------------------------------------------------------------------------


@pytest.mark.parametrize("module, name", [(requests, "task with links"), (chords, "aborted chord")])
def test_ids_that_are_new_each_time_are_found(
    module: object, name: str, plain: Faulted, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "derived_id", lambda *_: str(uuid.uuid4()))

    assert _failures(plain, SAMPLES[name])


def test_chord_that_is_closed_before_its_body_is_sent_is_found(
    plain: Faulted, monkeypatch: pytest.MonkeyPatch
) -> None:
    settle = chords.Chords.settle

    def settle_and_close(self, beyond, sends, refusal):
        ended = settle(self, beyond, sends, refusal)
        self.close(ended)
        return ended

    monkeypatch.setattr(chords.Chords, "settle", settle_and_close)

    assert _failures(plain, SAMPLES["chord"])


def test_faults_do_happen(plain: Faulted) -> None:
    node = Task("a")
    calls = steps_of(plain, node)
    store = calls.index("backend.store")

    ran = {}
    for fault in FAULTS:
        assert plain.tried(node, {store: fault}) == []
        ran[fault] = len(plain.runs)

    assert ran == {
        "crash before": 1,  # its supervisor settles what it had finished
        "crash after": 1,
        "node crash before": 2,
        "node crash after": 1,  # the result stands
        "lose reply": 1,
        "fail": 1,
    }


def _failures(trial: Faulted, node: Node) -> list[str]:
    trial.tried(node, {})
    places = list(worth_trying(trial.made))
    return [what for number, fault in places for what in trial.tried(node, {number: fault})]
