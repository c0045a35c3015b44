"""Chains, groups, chords and links of a Celery client, run by workers of either kind or of both."""

from __future__ import annotations

import pytest
from project import wait_for
from workflow_forms import CHAINS, CHORDS, GROUPS, written

PATIENCE_S = 30
#: Which queue each step goes to: one worker's, the other's, or any.
QUEUES = ["umbel", "shared"]


@pytest.mark.parametrize("queue", QUEUES)
@pytest.mark.parametrize(
    "form, expected",
    [
        pytest.param(*each, id=f"{kind}-{name}")
        for kind, all_of in (("chain", CHAINS), ("chord", CHORDS), ("group", GROUPS))
        for name, each in all_of.items()
    ],
)
def test_workflow_comes_to_its_result(celery, fleet, form, expected, queue):
    found = celery(f"""
        result = ({written(form, queue)}).apply_async()
        result.get(timeout=15)
    """)

    if expected is None:  # nested groups come in an order of Celery's own
        expected, found = [1, 2, 3], sorted(found[0])
    assert found == expected


# -- across workers: each step names the worker that runs it ------------------------------------


def test_chain_crosses_from_worker_to_worker(celery):
    found = celery("""
        steps = [tasks.add.s(1).set(queue="umbel"), tasks.add.s(2).set(queue="celery"),
                 tasks.add.s(3).set(queue="umbel"), tasks.same.s("end").set(queue="celery")]
        result = chain(*steps).apply_async()
        result.get(timeout=15)
    """)

    assert found == [6, "end"]


@pytest.mark.parametrize("first, second", [("umbel", "celery"), ("celery", "umbel")])
def test_chord_crosses_from_worker_to_worker(celery, first, second):
    found = celery(f"""
        here, there = dict(queue={first!r}), dict(queue={second!r})
        header = [tasks.add.s(1).set(**here), tasks.add.s(2).set(**there),
                  chain(tasks.add.s(3).set(**there), tasks.add.s(4).set(**here))]
        body = chain(tasks.same.s().set(**there), tasks.same.s("end").set(**here))
        result = chain(tasks.add.s(10).set(**here), chord(header, body)).apply_async()
        result.get(timeout=15)
    """)

    assert found == [[[11, 12, 17]], "end"]


def test_chord_inside_a_callback_is_begun_by_umbel_and_ended_by_celery(celery, fleet):
    celery("""
        here, there = dict(queue="umbel"), dict(queue="celery")
        header = [tasks.add.s(1).set(**there), chain(tasks.add.s(2).set(**here),
                  group(tasks.add.s(3).set(**there), tasks.add.s(4).set(**here)))]
        body = tasks.work.si("crossed-1").set(**there)
        tasks.add.apply_async((10,), link=chord(header, body), **here).id
    """)

    wait_for(lambda: fleet.ledger()["crossed-1"], PATIENCE_S, fleet.tell)
    assert fleet.ledger()["crossed-1"] == 1


# -- links and failures -------------------------------------------------------------------------


@pytest.mark.parametrize("queue", QUEUES)
def test_callbacks_are_called_with_the_result(celery, fleet, queue):
    celery(f"""
        at = dict(queue={queue!r})
        def key(name):
            return tasks.work.si(name + {queue!r}).set(**at)
        links = [key("linked-1-"), chain(tasks.add.s(1).set(**at), key("linked-2-")),
                 group(key("linked-3-"), key("linked-4-"))]
        tasks.add.apply_async((1, 2), link=links, **at).get(timeout=15)
    """)

    keys = [f"linked-{number}-{queue}" for number in range(1, 5)]
    wait_for(lambda: all(fleet.ledger()[key] for key in keys), PATIENCE_S, fleet.tell)
    assert [fleet.ledger()[key] for key in keys] == [1] * 4


def test_errbacks_hear_of_a_failure(celery, fleet):
    task_id = celery("""
        errbacks = [tasks.told.s().set(queue="umbel"), tasks.told_of.s().set(queue="umbel")]
        result = tasks.fail.apply_async(("bad",), queue="umbel", link_error=errbacks)
        result.id
    """)

    keys = [f"told-{task_id}", f"told-of-{task_id}-ValueError-True"]
    wait_for(lambda: all(fleet.ledger()[key] for key in keys), PATIENCE_S, fleet.tell)


FAILING = """
def outcome(result):
    try:
        return result.get(timeout=15)
    except Exception as exc:
        return [type(exc).__name__, str(exc)]
"""


@pytest.mark.parametrize("queue", QUEUES)
def test_failure_in_a_chain_is_told_to_who_waits_for_its_end(celery, queue):
    found = celery(f"""
        {FAILING.strip().replace(chr(10), chr(10) + " " * 8)}
        at = dict(queue={queue!r})
        result = chain(tasks.fail.s("bad").set(**at), tasks.add.s(1).set(**at),
                       tasks.add.s(1).set(**at)).apply_async()
        alone = [app.AsyncResult(each.id) for each in (result, result.parent)]
        [outcome(each) for each in (result, *alone)]
    """)

    assert found == [["ValueError", "bad"]] * 3


@pytest.mark.parametrize("queue", QUEUES)
@pytest.mark.parametrize(
    "member",
    [
        "tasks.fail.s('bad').set(**at)",
        "chain(tasks.fail.s('bad').set(**at), tasks.add.s(1).set(**at))",
    ],
    ids=["task", "chain"],
)
def test_failure_in_a_header_is_told_to_who_waits_for_the_body(celery, fleet, queue, member):
    kind, text, body_id = celery(f"""
        {FAILING.strip().replace(chr(10), chr(10) + " " * 8)}
        at = dict(queue={queue!r})
        body = tasks.same.s().set(**at)
        body.link_error(tasks.told.s().set(**at))
        result = chord([tasks.add.s(1).set(**at), {member}], body).apply_async()
        [*outcome(app.AsyncResult(result.id)), result.id]
    """)

    assert kind == "ChordError"
    assert "raised ValueError('bad')" in text
    wait_for(lambda: fleet.ledger()[f"told-{body_id}"], PATIENCE_S, fleet.tell)


def test_children_of_a_result_are_found_by_celerys_client(celery):
    assert celery("""
        at = dict(queue="umbel")
        links = [tasks.add.s(1).set(**at), group(tasks.add.s(2).set(**at), tasks.add.s(3).set(**at))]
        result = tasks.add.apply_async((1,), link=links, **at)
        result.get(timeout=15)
        [[node.get(timeout=15) for node in result.children]]
    """) == [[2, [3, 4]]]
