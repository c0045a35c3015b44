"""A part of a chord may add others to it while the chord runs."""

from __future__ import annotations

import logging

import pytest
import workflow_tasks
from workflow_tasks import sig

from umbel import Umbel, chain, chord, group
from umbel.errors import BackendUnavailableError, InvalidTaskError, Retry
from umbel.worker.execute import run_sync
from umbel.worker.jobs import Settlement
from umbel.worker.limits import DeadlineWatch, ThreadGuard
from umbel_testing import TaskQueue, faults_in


@pytest.fixture
def app(umbel_app):
    define(umbel_app)
    return umbel_app


def define(app):
    workflow_tasks.define(app)

    @app.task(name="grow", bind=True)
    def grow(self, *raw):
        for each in raw:
            self.add_to_chord(each)
        return "grown"


def growing(*signatures, **options):
    return sig("grow", *(each.to_dict() for each in signatures), **options)


@pytest.fixture
def run(app, umbel_queue):
    """Send a canvas and run all that comes of it; return its result and what ran."""

    def run(canvas):
        result = canvas.bound_to(app).apply_async()
        return result, umbel_queue.drain()

    return run


@pytest.mark.parametrize(
    "added,values",
    [
        ([sig("add", 1)], [1]),
        ([sig("add", 1), sig("add", 2)], [1, 2]),
        ([chain(sig("add", 1), sig("add", 2))], [3]),
        ([group(sig("add", 1), sig("add", 2))], [[1, 2]]),
        ([chord([sig("add", 1), sig("add", 2)], sig("same"))], [[[1, 2]]]),
        ([growing(growing(sig("add", 1)))], ["grown", "grown", 1]),
    ],
    ids=["task", "two", "chain", "group", "chord", "one-that-adds"],
)
def test_can_22_body_waits_for_what_was_added(run, added, values):
    result, runs = run(chord([sig("add", 7), growing(*added)], sig("same")))

    ((first, *others),) = result.get(timeout=0)
    assert (first, len(others)) == (7, len(values) + 1)
    assert all(value in others for value in ["grown", *values])
    assert [each.name for each in runs].count("same") == (2 if "same" in str(added) else 1)


def test_can_22_added_member_is_of_the_same_group_chord_and_tree(app, run):
    seen = []

    @app.task(name="look", bind=True)
    def look(self):
        request = self.request
        seen.append((request.root_id, request.group, request.group_index, bool(request.chord)))

    result, _ = run(chord([sig("add"), growing(sig("look"), task_id="adder")], sig("same")))

    assert seen == [("adder", result.parent.id, 1, True)]


def test_can_22_result_of_what_was_added_is_returned(app, run):
    ids = []

    @app.task(name="adds", bind=True)
    def adds(self):
        ids.append(self.add_to_chord(chain(sig("add", 1), sig("add", 2))).id)

    result, _ = run(chord([sig("adds"), sig("add")], sig("same")))

    assert app.AsyncResult(*ids).get(timeout=0) == 3
    assert result.get(timeout=0) == [[None, 3, 0]]


def test_can_22_what_was_added_is_among_the_children(app, run):
    run(chord([growing(sig("add", 1), task_id="adder")], sig("same")))

    (child,) = app.AsyncResult("adder").children
    assert child.get(timeout=0) == 1


def test_can_22_lazy_one_is_returned_and_counts_at_once(app, run):
    @app.task(name="adds", bind=True)
    def adds(self):
        waiting = self.add_to_chord(sig("add", 5), lazy=True)
        assert app.backend.chord_progress([self.request.group])[self.request.group].size == 2
        waiting.apply_async()

    result, runs = run(chord([sig("adds")], sig("same")))

    assert result.get(timeout=0) == [[None, 5]]
    assert [each.name for each in runs].count("add") == 1


def test_can_22_outside_of_a_chord_it_is_an_error(app, run):
    alone, _ = run(growing(sig("add")))
    in_group, _ = run(group(growing(sig("add"))))

    for result in (alone, in_group[0]):
        with pytest.raises(InvalidTaskError, match="'grow' is a part of no chord"):
            result.get(timeout=0)
    with pytest.raises(InvalidTaskError, match="is a part of no chord"):
        app.tasks["grow"](sig("add").to_dict())


@pytest.mark.parametrize(
    "added,why",
    [
        (sig("add", chord=sig("same").to_dict()), "part of a chord already"),
        (group(), "an empty group can't be added to a chord"),
        (sig("add", quue="slow"), "no option .quue."),
    ],
)
def test_can_22_what_cannot_be_added_is_refused(run, app, added, why):
    run(chord([growing(added, task_id="adder")], sig("same")))

    with pytest.raises(InvalidTaskError, match=why):
        app.AsyncResult("adder").get(timeout=0)


def test_run_that_is_retried_adds_nothing(app, run):
    @app.task(name="adds", bind=True)
    def adds(self):
        self.add_to_chord(sig("add", self.request.retries))
        if self.request.retries < 2:
            raise Retry(when=0)

    result, runs = run(chord([sig("adds")], sig("same")))

    assert result.get(timeout=0) == [[None, 2]]
    assert [each.name for each in runs].count("add") == 1


def test_run_that_fails_adds_nothing(app, run):
    @app.task(name="adds", bind=True)
    def adds(self):
        self.add_to_chord(sig("add", 1))
        raise ValueError("bad")

    result, runs = run(chord([sig("adds"), sig("add")], sig("same"), on_failure="ignore"))

    assert result.get(timeout=0) == [[0]]
    assert [each.name for each in runs].count("add") == 1


def test_what_cannot_be_encoded_fails_the_task_that_adds_it(app, run):
    @app.task(name="adds", bind=True)
    def adds(self):
        self.add_to_chord(sig("add", object()))

    result, _ = run(chord([sig("adds", task_id="adder"), sig("add")], sig("same")))

    assert "EncodeError" in repr(app.AsyncResult("adder").result)
    assert result.failed()


def test_task_may_add_to_its_chord_and_be_replaced(app, run):
    @app.task(name="both", bind=True)
    def both(self):
        self.add_to_chord(sig("add", 1))
        self.replace(sig("add", 2))

    result, _ = run(chord([sig("both")], sig("same")))

    assert sorted(result.get(timeout=0)[0]) == [1, 2]


def test_coroutine_adds_too(app, run):
    @app.task(name="adds", bind=True)
    async def adds(self):
        self.add_to_chord(sig("add", 1))

    result, _ = run(chord([sig("adds")], sig("same")))

    assert result.get(timeout=0) == [[None, 1]]


def test_eager_chord_grows_too(app):
    app.conf.task_always_eager = True
    result = chord([growing(sig("add", 1)), sig("add", 2)], sig("same")).bound_to(app).apply_async()

    assert sorted(map(str, result.get()[0])) == ["1", "2", "grown"]


FAULTS = ("backend.store", "backend.grow_chord", "backend.join_chord", "broker.settle")


@pytest.mark.parametrize("url", ["memory://", "sqlite:///growing.db"])
@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("step", [*FAULTS, "coordinator.put"])
@pytest.mark.parametrize("skip", [0, 1])
def test_crash_neither_loses_nor_doubles_what_was_added(umbel_clock, caplog, url, when, step, skip):
    caplog.set_level(logging.CRITICAL)
    bodies = []
    with (
        Umbel("tests", broker=url, backend=url, clock=umbel_clock) as app,
        faults_in(app) as faults,
    ):
        define(app)
        app.task(name="body")(lambda values: bodies.append(sorted(map(str, values))))
        parts = [growing(sig("add", 1), chain(sig("add", 1), sig("add", 1))), sig("add", 3)]
        chord(parts, sig("body")).bound_to(app).apply_async()
        faults.crash(when, step, skip=skip)
        queue = TaskQueue(app)
        for _ in range(5):
            queue.drain()
            umbel_clock.advance(60)
        queue.close()

    assert bodies == [["1", "2", "3", "grown"]]


@pytest.mark.parametrize("step", ["grow_chord", "join_chord"])
def test_node_that_dies_with_all_it_knew_leaves_what_was_added(app, consumer, monkeypatch, step):
    def die(*_, **__):
        raise BackendUnavailableError("killed after the success was stored")

    def settled(job, outcome):
        consumer.settler.add(Settlement(job.delivery, outcome, job, 1.0))
        return consumer.settler.flush(force=True)

    chord([growing(sig("add", 1), task_id="adder")], sig("same")).bound_to(app).apply_async()
    (delivery,) = consumer.broker.receive(["celery"], max_messages=1, wait_s=5)
    (job,) = consumer.intake.take([delivery])
    outcome = run_sync(job, ThreadGuard(DeadlineWatch()), app.clock.time)
    with monkeypatch.context() as patch:
        patch.setattr(consumer.backend, step, die)
        assert not settled(job, outcome)
    consumer.settler._pending.clear()
    consumer.broker.recover_consumer("node/0", struck={delivery.receipt: 0.0})

    (again,) = consumer.broker.receive(["celery"], max_messages=5, wait_s=5)
    assert consumer.intake.take([again]) == []
    assert consumer.settler.flush(force=True)
    (added,) = consumer.broker.receive(["celery"], max_messages=5, wait_s=5)
    assert added.message.task == "add"
