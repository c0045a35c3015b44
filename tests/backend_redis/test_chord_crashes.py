"""A worker that dies at any step of a chord on Redis neither loses nor doubles its body."""

from __future__ import annotations

import logging

import pytest
from celery_forms import call, chord

from umbel import Umbel
from umbel_testing import TaskQueue, faults_in

STEPS = (
    "backend.store",
    "backend.open_chord",
    "backend.join_chord",
    "broker.settle",
    "backend.close_chord",
)


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("skip", [0, 1, 2])
@pytest.mark.parametrize("step", STEPS)
def test_crash_neither_loses_nor_doubles_a_body(
    redis_server, umbel_clock, caplog, when, step, skip
):
    caplog.set_level(logging.CRITICAL)
    bodies = []
    url = redis_server.url
    with (
        Umbel("tests", broker=url, backend=url, clock=umbel_clock) as app,
        faults_in(app) as faults,
    ):
        app.task(name="add")(lambda *numbers: sum(numbers))
        app.task(name="body")(lambda *values: bodies.append(list(values)))
        faults.crash(when, step, skip=skip)
        app.send_task("add", (10,), link=[chord([call("add", 1), call("add", 2)], call("body"))])
        queue = TaskQueue(app)
        for _ in range(4):
            queue.drain()
            umbel_clock.advance(60)
        queue.close()

    assert bodies == [[[11, 12]]]
