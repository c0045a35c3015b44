"""Which of two results stands, decided in a script, is what the contract says."""

from __future__ import annotations

import random

import pytest
from result_documents import CELERY, UMBEL, document

from umbel.ids import new_id
from umbel.outcomes import StoredResult
from umbel.states import ALL_STATES, order_in_rank

STATES = [*sorted(ALL_STATES), "PROGRESS", "MON_PROGRÈS 50 %", 'with "quotes" \\', ""]


def order(result):
    return (*result.rank, order_in_rank(result.state))


def body_of(task_id, state, form):
    if form is None:
        return b"\x80not a document of " + state.encode()
    return document(task_id, state, form=form)


@pytest.mark.parametrize("seed", range(5))
def test_script_decides_as_the_contract_does(backend, seed):
    chance, stored = random.Random(seed), {}
    task_ids = [new_id() for _ in range(12)]
    for number in range(150):
        task_id, state = chance.choice(task_ids), chance.choice(STATES)
        new = StoredResult(
            task_id=task_id,
            state=state,
            body=body_of(task_id, state, chance.choice([UMBEL, UMBEL, CELERY, None])),
            token=chance.choice([1, 1, 2, 10]),
            retries=chance.choice([0, 0, 1, 11]),
        )
        old = stored.get(task_id)
        is_refused = old is not None and order(old) > order(new)

        assert list(backend.store([new])) == ([task_id] if is_refused else []), (number, old, new)
        if not is_refused:
            stored[task_id] = new
    assert dict(backend.load(task_ids)) == stored


def test_every_state_is_of_the_order_that_the_contract_says(backend):
    for before in STATES:
        for after in STATES:
            task_id = new_id()
            for state, refused in ((before, False), (after, None)):
                answer = backend.store(
                    [StoredResult(task_id=task_id, state=state, body=document(task_id, state))]
                )
                expected = order_in_rank(before) > order_in_rank(after)
                assert bool(answer) == (expected if refused is None else refused), (before, after)
