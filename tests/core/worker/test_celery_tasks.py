"""Celery's own tasks, which nobody has to write, run on a worker."""

from __future__ import annotations

import asyncio
import datetime as dt

import pytest
from celery_forms import call

from umbel.errors import InvalidTaskError
from umbel_testing import TaskQueue


@pytest.fixture
def add(umbel_app):
    @umbel_app.task(name="add")
    def add(x, y=0):
        return x + y

    return add


@pytest.fixture
def run(umbel_app, umbel_queue: TaskQueue):
    def run(name, *args, **kwargs):
        result = umbel_app.send_task(name, args, kwargs)
        umbel_queue.drain()
        return result.get(timeout=0)

    return run


@pytest.mark.usefixtures("add")
def test_map_calls_a_task_with_each_item(run):
    assert run("celery.map", task=call("add"), it=[1, 2]) == [1, 2]


@pytest.mark.usefixtures("add")
def test_starmap_calls_a_task_with_the_arguments_of_each_item(run):
    assert run("celery.starmap", task=call("add"), it=[[1, 2], [3, 4]]) == [3, 7]


def test_mapped_tasks_are_given_what_they_are_annotated_with(umbel_app, run):
    @umbel_app.task(name="year")
    def year(day: dt.date) -> int:
        return day.year

    assert run("celery.map", task=call("year"), it=["2026-11-22"]) == [2026]


def test_mapped_coroutines_are_awaited(umbel_app, run):
    @umbel_app.task(name="double")
    async def double(x):
        await asyncio.sleep(0)
        return 2 * x

    assert run("celery.map", task=call("double"), it=[1, 2]) == [2, 4]


def test_mapping_an_unknown_task_fails(run):
    with pytest.raises(InvalidTaskError, match=r"celery\.map of task .nothing."):
        run("celery.map", task=call("nothing"), it=[1])


@pytest.mark.usefixtures("add")
def test_chunks_send_a_starmap_for_each_piece(umbel_app, run):
    (group_id, parent), pieces = run(
        "celery.chunks", task=call("add"), it=[[1, 2], [3, 4], [5, 6]], n=2
    )

    assert (len(group_id), parent, len(pieces)) == (36, None, 2)
    found = [umbel_app.AsyncResult(task_id).get(timeout=0) for (task_id, _), _ in pieces]
    assert found == [[3, 7], [11]]


@pytest.mark.usefixtures("add")
def test_chunks_that_run_again_send_nothing_new(umbel_app, umbel_queue, umbel_faults):
    umbel_faults.crash("before", "backend.store")
    kwargs = {"task": call("add"), "it": [[1, 2], [3, 4], [5, 6]], "n": 1}
    umbel_app.send_task("celery.chunks", kwargs=kwargs)
    runs = umbel_queue.drain()

    ended = [each.id for each in runs if each.name == "celery.starmap" and each.state == "SUCCESS"]
    assert len(ended) == len(set(ended)) == 3


def test_accumulate_returns_what_it_gets(run):
    assert run("celery.accumulate", 1, 2) == [1, 2]
    assert run("celery.accumulate", [1, 2], index=0) == [1, 2]


def test_ping_is_answered(run):
    assert run("celery.ping") == "pong"


@pytest.mark.umbel(result_backend="sqlite:///results.db")
def test_cleanup_drops_expired_results(umbel_clock, umbel_app, umbel_queue, add):
    results = [add.delay(1) for _ in range(3)]
    umbel_queue.drain()
    umbel_clock.advance("2d")
    umbel_app.send_task("celery.backend_cleanup")
    umbel_queue.drain()

    assert umbel_app.backend.load([each.id for each in results]) == {}
    assert umbel_app.backend.expire() == 0


def test_task_of_the_app_goes_before_one_of_celerys(umbel_app, run):
    umbel_app.task(name="celery.ping")(lambda: "mine")

    assert run("celery.ping") == "mine"
    assert "celery.map" not in umbel_app.tasks
