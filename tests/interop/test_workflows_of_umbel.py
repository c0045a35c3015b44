"""Chains, groups, chords and links of umbel's client, run by Celery's worker or by both."""

from __future__ import annotations

import json
from types import SimpleNamespace

import pytest
from project import wait_for
from workflow_forms import CHAINS, CHORDS, GROUPS, written

from umbel import GroupResult, Signature, chain, chord, group, result_from_tuple, xmap, xstarmap
from umbel.canvas import chunks
from umbel.errors import ChordError

PATIENCE_S = 30
FORMS = [
    pytest.param(*each, id=f"{kind}-{name}")
    for kind, all_of in (("chain", CHAINS), ("chord", CHORDS), ("group", GROUPS))
    for name, each in all_of.items()
]


class Named:
    """A task that only the workers have the code of."""

    def __init__(self, app, name):
        self._app, self._name = app, f"tasks.{name}"

    def s(self, *args, **kwargs):
        return Signature(self._name, args, kwargs, app=self._app)

    def si(self, *args, **kwargs):
        return Signature(self._name, args, kwargs, immutable=True, app=self._app)

    def map(self, it):
        return xmap(self.s(), it)

    def starmap(self, it):
        return xstarmap(self.s(), it)

    def chunks(self, it, n):
        return chunks(self.s(), it, n)


@pytest.fixture
def tasks(fleet):
    """The tasks of the fleet, by name alone."""
    names = ("add", "same", "fail", "flaky", "work", "told", "told_of", "who", "context")
    return SimpleNamespace(**{name: Named(fleet.app, name) for name in names})


@pytest.mark.parametrize("queue", ["celery", "shared"])
@pytest.mark.parametrize("form, expected", FORMS)
def test_workflow_comes_to_its_result(tasks, form, expected, queue):
    names = {"tasks": tasks, "chain": chain, "group": group, "chord": chord}
    result = eval(written(form, queue), names).apply_async()

    found = result.get(timeout=PATIENCE_S)
    if expected is None:  # nested groups come in an order of Celery's own
        expected, found = [1, 2, 3], sorted(found[0])
    assert found == expected


def test_chain_of_thirty_steps_crosses_at_each(tasks):
    steps = [tasks.add.s(1).set(queue=("umbel", "celery")[n % 2]) for n in range(30)]
    result = chain(tasks.add.s(0).set(queue="celery"), *steps).apply_async()

    assert result.get(timeout=PATIENCE_S) == 30
    assert [each.get(timeout=PATIENCE_S) for each in walk(result)] == list(range(30, -1, -1))


def walk(result):
    while result is not None:
        yield result
        result = result.parent


@pytest.mark.parametrize("last", ["umbel", "celery"])
def test_header_of_a_chord_runs_on_both_and_either_ends_it(tasks, last):
    first = "celery" if last == "umbel" else "umbel"
    members = [tasks.who.si().set(queue=queue) for queue in ("umbel", "celery")] * 3
    members.append(tasks.work.si("late", 0.2).set(queue=last))
    result = chord(members, tasks.same.s().set(queue=first)).apply_async()

    assert result.get(timeout=PATIENCE_S) == [["umbel", "celery"] * 3 + ["late"]]


def test_chain_with_a_long_rest_is_carried_whole_where_the_settings_say_so(fleet, tasks):
    fleet.app.conf.canvas_max_inline = None
    try:
        steps = [tasks.add.s(1).set(queue="celery") for _ in range(40)]
        result = chain(tasks.add.s(0).set(queue="celery"), *steps).apply_async()
        assert result.get(timeout=PATIENCE_S) == 40
    finally:
        fleet.app.conf.canvas_max_inline = 32


def test_group_of_one_in_a_chain_is_a_list_on_celerys_worker_too(tasks):
    at = {"queue": "celery"}
    steps = [tasks.add.s(1).set(**at), group(tasks.add.s(2).set(**at)), tasks.same.s().set(**at)]

    assert chain(steps).apply_async().get(timeout=PATIENCE_S) == [[3]]


def test_links_and_stamps_arrive_at_celerys_worker(fleet, tasks):
    at = {"queue": "celery"}
    first = tasks.add.s(1, 2).set(**at).link(tasks.work.si("called-by-celery").set(**at))
    result = chain(first, tasks.add.si(10).set(**at)).stamp(tag="x").apply_async()

    assert result.get(timeout=PATIENCE_S) == 10
    stored = [each.document().extra["tag"] for each in (result.parent, result)]
    assert stored == ["x", "x"]
    wait_for(lambda: fleet.ledger()["called-by-celery"], PATIENCE_S, fleet.tell)


def test_options_of_a_step_are_told_to_it(tasks):
    step = tasks.context.si().set(queue="celery")
    result = chain(tasks.add.s(1).set(queue="umbel"), step, step).apply_async()

    second, third = result.parent.get(timeout=PATIENCE_S), result.get(timeout=PATIENCE_S)
    first = result.parent.parent.id
    assert second == [result.parent.id, first, first, None, 0]
    assert third == [result.id, first, second[0], None, 0]


# -- failures -------------------------------------------------------------------------------------


@pytest.mark.parametrize("queue", ["celery", "shared"])
def test_failure_of_a_step_is_that_of_the_last(fleet, tasks, queue):
    at = {"queue": queue}
    steps = [tasks.add.s(1).set(**at), tasks.fail.s().set(**at), tasks.add.s(1).set(**at)]
    # Celery's worker calls the second one itself; as a message it wouldn't understand it.
    errbacks = [tasks.told.s().set(**at), tasks.told_of.s().set(queue="umbel")]
    workflow = chain(steps)
    for each in errbacks:
        workflow = workflow.on_error(each)
    result = workflow.apply_async()

    with pytest.raises(ValueError, match="1"):
        result.get(timeout=PATIENCE_S)
    failed = result.parent.id
    keys = [f"told-{failed}", f"told-of-{failed}-ValueError-True"]
    wait_for(lambda: all(fleet.ledger()[key] for key in keys), PATIENCE_S, fleet.tell)


@pytest.mark.parametrize("queue", ["celery", "shared"])
def test_failed_member_fails_the_body_with_its_name(fleet, tasks, queue):
    at = {"queue": queue}
    body = tasks.same.s().set(**at).on_error(tasks.told.s().set(**at))
    members = [tasks.add.s(1).set(**at), tasks.fail.s("bad").set(**at)]
    result = chord(members, body).apply_async()

    with pytest.raises(ChordError) as raised:
        result.get(timeout=PATIENCE_S)
    failed = result.parent.results[1].id
    assert str(raised.value) == f"Dependency {failed} raised ValueError('bad')"
    wait_for(lambda: fleet.ledger()[f"told-{result.id}"], PATIENCE_S, fleet.tell)


# -- results on both sides ------------------------------------------------------------------------


def test_celerys_client_walks_what_umbel_sent(celery, fleet, tasks):
    header = [tasks.add.s(n).set(queue=("umbel", "celery")[n % 2]) for n in range(4)]
    result = chord(header, tasks.same.s().set(queue="shared")).apply_async()
    result.parent.save()

    found = celery(f"""
        from celery.result import result_from_tuple
        result = result_from_tuple(json.loads({json.dumps(result.as_tuple())!r}), app)
        restored = GroupResult.restore({result.parent.id!r}, app=app)
        [result.get(timeout=15), result.parent.get(timeout=15), restored.get(timeout=15),
         restored.completed_count()]
    """)

    assert found == [[[0, 1, 2, 3]], [0, 1, 2, 3], [0, 1, 2, 3], 4]


def test_umbel_walks_what_celerys_client_sent(celery, fleet):
    group_id, raw = celery("""
        members = [tasks.add.s(1, 2).set(queue="umbel"),
                   chain(tasks.add.s(1).set(queue="celery"), tasks.add.s(2).set(queue="umbel"))]
        result = group(members).apply_async()
        result.save()
        [result.id, json.dumps(result.as_tuple())]
    """)

    restored = fleet.app.GroupResult.restore(group_id)
    assert restored.get(timeout=PATIENCE_S) == [3, 3]
    assert restored.results[1].parent.get(timeout=PATIENCE_S) == 1
    again = result_from_tuple(json.loads(raw), fleet.app)
    assert isinstance(again, GroupResult)
    assert again.get(timeout=PATIENCE_S) == [3, 3]


def test_children_of_what_celery_ran_are_found(tasks):
    at = {"queue": "celery"}
    links = [tasks.add.s(1).set(**at), group(tasks.add.s(2).set(**at), tasks.add.s(3).set(**at))]
    result = tasks.add.s(1).set(**at).link(links[0]).link(links[1]).apply_async()

    assert result.get(timeout=PATIENCE_S) == 1
    found = [each.get(timeout=PATIENCE_S) for each in result.children]
    assert sorted(found) == [[2], [3, 4]]  # Celery sends its callbacks as groups


def test_progress_of_a_group_on_a_mixed_fleet_is_complete_at_its_end(tasks):
    members = [tasks.add.s(n).set(queue="shared") for n in range(10)]
    result = group(members).apply_async()

    assert result.get(timeout=PATIENCE_S) == list(range(10))
    assert (result.completed_count(), result.successful()) == (10, True)
