"""``canvas_semantics = "celery"``: where Celery does what surprises, and umbel does not."""

from __future__ import annotations

import pytest
from project import wait_for

from umbel import chain, chord, group

TIMEOUT_S = 20


@pytest.fixture
def s(celery_flows):
    return lambda name, *args: celery_flows.tasks[name].s(*args)


@pytest.fixture
def run(celery_flows):
    def run(made):
        with celery_flows.worker():
            return made.apply_async().get(timeout=TIMEOUT_S)

    return run


def test_cfp_01_celery_a_group_of_one_after_a_task_or_chain_is_its_member(run, s):
    assert run(s("add", 1) | group(s("add", 2))) == 3
    assert run(chain(s("add", 1), s("add", 1)) | group(s("add", 2))) == 4


def test_can_10_celery_the_step_after_a_group_of_one_gets_no_list(run, s):
    assert run(chain(s("add", 1), group(s("add", 2)), s("same"))) == [3]
    assert run(chain(group(s("add", 2)), s("same"))) == [2]
    assert run(chain(s("add", 1), group(group(s("add", 2))), s("same"))) == [3]


def test_can_10_celery_a_group_of_one_that_stands_first_is_a_header(run, s):
    assert run(group(s("add", 2)) | s("same")) == [[2]]
    assert run(chord([s("add", 2)], s("same"))) == [[2]]


def test_can_10_celery_a_group_of_one_alone_yields_a_list(run, s):
    assert run(group(s("add", 2))) == [2]


def test_can_10_celery_a_group_of_one_keeps_its_options(celery_flows, s):
    chain(group(s("add", 2), priority=4), s("same")).apply_async()

    [found] = celery_flows.broker.peek("celery", limit=10)
    assert (found.priority, found.headers["group"]) == (4, None)


def test_can_09_celery_the_callback_of_a_group_is_called_by_its_first_member(
    celery_flows, s, calls
):
    made = group(s("add", 1), s("add", 2)).link(s("told", "x"))
    made.apply_async()

    first, second = celery_flows.broker.peek("celery", limit=10)
    loads = celery_flows.serializer("json").loads
    [callback] = loads(first.body)[2]["callbacks"]
    assert (callback["task"], callback["immutable"]) == ("told", True)
    assert loads(second.body)[2]["callbacks"] is None
    with celery_flows.worker():
        wait_for(lambda: ("told", ("x",)) in list(calls), TIMEOUT_S)
