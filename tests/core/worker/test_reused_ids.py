"""An id that its sender chose may be used again: the later task runs, and its result stands."""

from __future__ import annotations

from umbel import Umbel
from umbel_testing.clock import FakeClock
from umbel_testing.task_queue import TaskQueue


def test_a_task_under_a_used_id_runs_though_it_was_given_back(
    umbel_app: Umbel, umbel_clock: FakeClock, umbel_queue: TaskQueue
) -> None:
    ran: list[str] = []
    work = umbel_app.task(name="work")(ran.append)
    work.apply_async(("first",), task_id="nightly")
    umbel_queue.drain()
    umbel_clock.advance(umbel_app.conf.task_once_window_s + 1)

    work.apply_async(("second",), task_id="nightly")
    broker = umbel_app.broker
    broker.nack(broker.receive(["celery"], max_messages=1, wait_s=0))
    umbel_queue.drain()

    assert ran == ["first", "second"]


def test_what_follows_from_it_is_sent_though_that_of_the_earlier_one_is_known_still(
    umbel_app: Umbel, umbel_clock: FakeClock, umbel_queue: TaskQueue
) -> None:
    ran: list[str] = []
    work, note = umbel_app.task(name="work")(str.upper), umbel_app.task(name="note")(ran.append)
    for text in ("first", "second"):
        work.apply_async((text,), task_id="nightly", link=note.s(), on_conflict="replace")
        umbel_queue.drain()
        umbel_clock.advance(1)

    assert ran == ["FIRST", "SECOND"]


def test_its_result_takes_the_place_of_one_from_more_deliveries(
    umbel_app: Umbel, umbel_clock: FakeClock, umbel_queue: TaskQueue
) -> None:
    work = umbel_app.task(name="work")(str.upper)
    broker = umbel_app.broker
    result = work.apply_async(("first",), task_id="nightly")
    for _ in range(3):
        broker.nack(broker.receive(["celery"], max_messages=1, wait_s=0))
    umbel_queue.drain()
    assert result.get(timeout=1) == "FIRST"
    umbel_clock.advance(umbel_app.conf.task_once_window_s + 1)

    again = work.apply_async(("second",), task_id="nightly")
    umbel_queue.drain()

    assert again.get(timeout=1) == "SECOND"


def test_chunks_of_it_run_though_those_of_the_earlier_one_are_known_still(
    umbel_app: Umbel, umbel_clock: FakeClock, umbel_queue: TaskQueue
) -> None:
    ran: list[str] = []
    work = umbel_app.task(name="work")(ran.append)
    for text in ("first", "second"):
        kwargs = {"task": work.s().to_dict(), "it": [[text], [text]], "n": 1}
        umbel_app.send_task("celery.chunks", (), kwargs, task_id="nightly", on_conflict="replace")
        umbel_queue.drain()
        umbel_clock.advance(1)

    assert ran == ["first", "first", "second", "second"]
