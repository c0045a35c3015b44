"""Running what is due here and now, by a worker's own code."""

from __future__ import annotations

import threading
from datetime import UTC, datetime

import pytest

from umbel import Umbel
from umbel.errors import ConfigError, Ignore, Reject
from umbel_testing import Crash, FakeClock, drain, drain_on_advance
from umbel_testing.draining import EndlessDrainError


@pytest.fixture
def add(umbel_app):
    @umbel_app.task
    def add(x, y):
        return x + y

    return add


def told(runs):
    return [(run.name.rpartition(".")[2], run.args, run.state) for run in runs]


def test_drain_runs_what_is_enqueued_and_tells_what_came_of_it(umbel_app, umbel_queue, add):
    result = add.delay(2, y=3)
    [run] = umbel_queue.drain()

    assert (run.name, run.args, run.kwargs) == (add.name, [2], {"y": 3})
    assert (run.id, run.state, run.value, run.error) == (result.id, "SUCCESS", 5, None)
    assert result.get(timeout=0) == 5
    assert umbel_queue.drain() == []
    assert umbel_app.broker.stats("celery").held == 0


def test_tasks_run_in_the_thread_of_the_test_in_order_of_priority(umbel_app, umbel_queue):
    ran = []

    @umbel_app.task
    def note(x):
        ran.append((x, threading.current_thread()))

    for x, priority in ((1, 0), (2, 9), (3, 0)):
        note.apply_async((x,), priority=priority)
    umbel_queue.drain()

    here = threading.current_thread()
    assert ran == [(2, here), (1, here), (3, here)]


def test_async_tasks_run_too_also_below_a_running_loop(umbel_app, umbel_queue):
    import asyncio

    @umbel_app.task
    async def double(x):
        await asyncio.sleep(0)
        return 2 * x

    async def test():
        double.delay(2)
        return umbel_queue.drain()

    double.delay(1)
    assert [run.value for run in umbel_queue.drain()] == [2]
    assert [run.value for run in asyncio.run(test())] == [4]


def test_callbacks_chains_and_calls_made_in_tasks_run_in_the_same_drain(
    umbel_app, umbel_queue, add
):
    @umbel_app.task
    def start():
        add.delay(40, 2)
        return 1

    start.apply_async(link=[add.s(10)], chain=[add.s(200).to_dict(), add.s(100).to_dict()])
    runs = umbel_queue.drain()

    assert told(runs)[0] == ("start", [], "SUCCESS")
    assert sorted(run.value for run in runs[1:]) == [11, 42, 101, 301]


def test_failure_is_told_and_its_errback_runs(umbel_app, umbel_queue):
    failed = []

    @umbel_app.task
    def fail():
        raise KeyError("gone")

    @umbel_app.task
    def on_error(task_id):
        failed.append(task_id)

    result = fail.apply_async(link_error=[on_error.s()])
    run, _ = umbel_queue.drain()

    assert run.state == "FAILURE"
    assert isinstance(run.error, KeyError)
    assert failed == [result.id]


def test_drain_raises_the_first_error_once_it_is_settled_and_leaves_the_rest(
    umbel_app, umbel_queue, add
):
    @umbel_app.task
    def fail():
        raise KeyError("gone")

    result = fail.delay()
    add.delay(1, 2)
    with pytest.raises(KeyError, match="gone"):
        umbel_queue.drain(raise_errors=True)

    assert result.state == "FAILURE"
    assert told(umbel_queue.drain(raise_errors=True)) == [("add", [1, 2], "SUCCESS")]


def test_what_is_due_later_stays(umbel_app, umbel_clock, umbel_queue, add):
    add.apply_async((1, 2), countdown=60)
    assert umbel_queue.drain() == []
    umbel_clock.advance(60)

    assert told(umbel_queue.drain()) == [("add", [1, 2], "SUCCESS")]


def test_retry_runs_when_the_clock_reaches_it(umbel_app, umbel_clock, umbel_queue):
    @umbel_app.task(bind=True)
    def flaky(self):
        if self.request.retries < 1:
            raise self.retry(countdown=60)
        return "done"

    result = flaky.delay()
    assert [run.state for run in umbel_queue.drain()] == ["RETRY"]
    umbel_clock.advance(59)
    assert umbel_queue.drain() == []
    umbel_clock.advance(1)
    [run] = umbel_queue.drain()

    assert (run.retries, run.value, result.get(timeout=0)) == (1, "done", "done")


def test_revoked_and_expired_tasks_are_told_of_and_do_not_run(
    umbel_app, umbel_clock, umbel_queue, add
):
    revoked, expired = add.delay(1, 2), add.apply_async((3, 4), expires=10)
    revoked.revoke()
    umbel_clock.advance(11)
    runs = umbel_queue.drain()

    assert told(runs) == [("add", [1, 2], "REVOKED"), ("add", [3, 4], "REVOKED")]
    assert [run.has_run for run in runs] == [False, False]
    assert (revoked.state, expired.state) == ("REVOKED", "REVOKED")


def test_task_revoked_by_another_one_does_not_run(umbel_app, umbel_queue, add):
    @umbel_app.task
    def revoke(task_id):
        umbel_app.control.revoke(task_id)

    victim = add.apply_async((1, 2), priority=0)
    revoke.apply_async((victim.id,), priority=9)

    assert [run.state for run in umbel_queue.drain()] == ["SUCCESS", "REVOKED"]


def test_rejected_and_ignored_are_states_of_their_own(umbel_app, umbel_queue):
    @umbel_app.task
    def reject():
        raise Reject("no")

    @umbel_app.task
    def ignore():
        raise Ignore

    reject.delay()
    ignore.delay()

    assert [run.state for run in umbel_queue.drain()] == ["REJECTED", "IGNORED"]
    assert umbel_app.broker.stats("celery").dead == 1


def test_all_queues_are_drained_or_those_that_are_named(umbel_app, umbel_queue, add):
    add.apply_async((1, 1), queue="a")
    add.apply_async((2, 2), queue="b")

    assert [run.queue for run in umbel_queue.drain(queues=["b"])] == ["b"]
    assert [run.queue for run in umbel_queue.drain()] == ["a"]


def test_tasks_that_send_themselves_for_ever_are_an_error(umbel_app, umbel_queue):
    @umbel_app.task
    def again():
        again.delay()

    again.delay()
    with pytest.raises(EndlessDrainError, match="again"):
        umbel_queue.drain(limit=50)


def test_hard_time_limit_acts_as_a_soft_one(umbel_app, umbel_queue):
    @umbel_app.task(time_limit=0.05)
    def slow():
        ends = threading.Event()
        while True:
            ends.wait(0.01)

    slow.delay()
    [run] = umbel_queue.drain()

    assert type(run.error).__name__ == "SoftTimeLimitExceeded"


@pytest.mark.umbel(broker_url="sqlite:///drain.db", result_backend="sqlite:///drain.db")
def test_drain_works_on_sqlite(umbel_app, umbel_clock, umbel_queue, add):
    result = add.apply_async((1, 2), link=[add.s(3)], countdown=5)
    assert umbel_queue.drain() == []
    umbel_clock.advance(5)

    assert [run.value for run in umbel_queue.drain()] == [3, 6]
    assert result.get(timeout=0) == 3


def test_functions_take_any_app():
    with Umbel("own", broker="memory://", backend="memory://") as app:

        @app.task
        def one():
            return 1

        one.delay()
        assert [run.value for run in drain(app)] == [1]


# -- as the clock advances ------------------------------------------------------------------------


def test_clock_runs_each_task_at_its_time_in_order(umbel_app, umbel_clock, umbel_queue):
    start, ran = umbel_clock.time(), []

    @umbel_app.task(bind=True, max_retries=None)
    def poll(self):
        ran.append(("poll", umbel_clock.time() - start))
        if self.request.retries < 3:
            raise self.retry(countdown=60)

    @umbel_app.task
    def later(name):
        ran.append((name, umbel_clock.time() - start))

    runs = umbel_queue.drain_on_advance()
    poll.delay()
    later.apply_async(("eta",), eta=datetime.fromtimestamp(start + 90, UTC))
    later.apply_async(("hour",), countdown=3600)
    later.apply_async(("day",), countdown=86_400)
    umbel_clock.advance("3h")

    expected = [("poll", 0), ("poll", 60), ("eta", 90), ("poll", 120), ("poll", 180)]
    assert ran == [*expected, ("hour", 3600)]
    assert umbel_clock.time() == start + 3 * 3600
    assert [run.at - start for run in runs] == [at for _, at in ran]


def test_task_may_advance_the_clock_itself(umbel_app, umbel_clock, umbel_queue):
    start, ran = umbel_clock.time(), []

    @umbel_app.task
    def takes_a_minute():
        umbel_clock.advance(60)
        ran.append(umbel_clock.time() - start)

    umbel_queue.drain_on_advance()
    for countdown in (10, 20):
        takes_a_minute.apply_async(countdown=countdown)
    umbel_clock.advance(100)

    assert ran == [70, 130]
    assert umbel_clock.time() == start + 130


def test_what_is_due_at_the_end_runs_and_what_is_due_later_waits_for_the_next_move(
    umbel_app, umbel_clock, umbel_queue, add
):
    runs = umbel_queue.drain_on_advance()
    add.apply_async((1, 1), countdown=10)
    add.apply_async((2, 2), countdown=20)
    umbel_clock.advance(10)
    assert [run.value for run in runs] == [2]
    umbel_clock.advance(10)

    assert [run.value for run in runs] == [2, 4]


def test_advance_raises_what_a_task_raises_where_that_is_wanted(
    umbel_app, umbel_clock, umbel_queue
):
    @umbel_app.task
    def fail():
        raise KeyError("gone")

    umbel_queue.drain_on_advance(raise_errors=True)
    fail.apply_async(countdown=5)
    with pytest.raises(KeyError):
        umbel_clock.advance(10)


def test_unknown_task_is_tried_again_with_delay_until_it_is_a_dead_letter(
    umbel_app, umbel_clock, umbel_queue
):
    umbel_queue.drain_on_advance()
    umbel_app.send_task("nobody.knows")
    umbel_clock.advance("1h")

    stats = umbel_app.broker.stats("celery")
    assert (stats.ready, stats.delayed, stats.dead) == (0, 0, 1)


def test_clock_of_the_machine_runs_nothing(umbel_app):
    with pytest.raises(ConfigError, match="FakeClock"), drain_on_advance(umbel_app):
        pass


def test_clock_lets_go_at_the_end():
    clock = FakeClock()
    with Umbel("own", broker="memory://", backend="memory://", clock=clock) as app:

        @app.task
        def one():
            return 1

        with drain_on_advance(app) as runs:
            one.delay()
            clock.advance(1)
        one.delay()
        clock.advance(1)

        assert len(runs) == 1


# -- with faults ------------------------------------------------------------------------------------


def test_crash_of_a_task_is_a_strike_and_it_comes_again(umbel_app, umbel_clock, umbel_queue):
    runs_before = []

    @umbel_app.task
    def poison():
        runs_before.append(umbel_clock.time())
        raise Crash

    result = poison.delay()
    runs = umbel_queue.drain_on_advance()
    umbel_clock.advance("1h")

    assert [run.state for run in runs] == ["CRASHED"] * 3 + ["FAILURE"] * (len(runs) - 3)
    assert len(runs_before) == 3
    assert result.state == "FAILURE"
    assert umbel_app.broker.stats("celery").dead == 1


def test_crash_of_an_async_task_calls_no_handler_of_it(umbel_app, umbel_queue):
    told = []

    def on_failure(*_):
        told.append("on_failure")

    @umbel_app.task(on_failure=on_failure)
    async def poison():
        raise Crash

    poison.delay()
    [run, *_] = umbel_queue.drain()

    assert (run.state, told) == ("CRASHED", [])


def test_process_that_dies_after_storing_runs_the_task_once(umbel_app, umbel_queue, umbel_faults):
    ran = []

    @umbel_app.task
    def charge():
        ran.append(1)

    result = charge.delay()
    umbel_faults.crash("after", "store")
    umbel_queue.drain()

    assert (ran, result.state) == ([1], "SUCCESS")
    assert umbel_app.broker.stats("celery").held == 0
    assert umbel_faults.pending == []


def test_node_that_dies_leaves_its_task_to_the_end_of_its_lease(
    umbel_app, umbel_clock, umbel_queue, umbel_faults
):
    ran = []

    @umbel_app.task
    def charge():
        ran.append(1)

    charge.delay()
    umbel_faults.crash("after", "receive", node=True)
    assert umbel_queue.drain() == []
    umbel_clock.advance(umbel_app.conf.worker_lease_s - 1)
    assert umbel_queue.drain() == []
    umbel_clock.advance(2)
    umbel_queue.drain()

    assert ran == [1]


def test_outcome_waits_out_an_outage_of_the_backend(
    umbel_app, umbel_clock, umbel_queue, umbel_faults, add
):
    result = add.delay(2, 3)
    umbel_faults.backend.outage(60)
    [run] = umbel_queue.drain()
    assert run.value == 5
    umbel_clock.advance(60)
    assert umbel_queue.drain() == []

    assert result.get(timeout=0) == 5


def test_what_follows_from_an_outcome_that_is_settled_late_runs_in_the_same_drain(
    umbel_app, umbel_clock, umbel_queue, umbel_faults, add
):
    (add.s(2, 3) | add.s(4)).apply_async()
    umbel_faults.backend.outage(60)
    assert [run.value for run in umbel_queue.drain()] == [5]
    umbel_clock.advance(60)

    assert [run.value for run in umbel_queue.drain()] == [9]


def test_outage_of_the_broker_ends_with_the_clock(
    umbel_app, umbel_clock, umbel_queue, umbel_faults, add
):
    result = add.delay(2, 3)
    umbel_faults.broker.outage("30s")
    assert umbel_queue.drain() == []
    umbel_clock.advance(30)
    assert [run.value for run in umbel_queue.drain()] == [5]

    assert result.get(timeout=0) == 5
