"""A child that doesn't come round is found; one that has a reason is left alone."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from umbel import Umbel
from umbel.worker.board import Board, Doing, slot_key
from umbel.worker.consumer import Consumer
from umbel.worker.watchdog import Pulse, Watchdog


@pytest.fixture
def board() -> Iterator[Board]:
    made = Board.create(2)
    made.set_alive()
    made.set_ready()
    yield made
    made.close()


def looked_at(board: Board, at: float, *, timeout_s: float | None = 60.0) -> bool:
    """Tell whether a watchdog that has looked all the time finds `board` stuck at `at`."""
    child: Any = SimpleNamespace(board=board)
    watchdog, found = Watchdog(timeout_s), []
    for tick in range(int(at) + 1):
        found = watchdog.look([child], float(tick))
    return bool(found)


@pytest.mark.parametrize("at,is_stuck", [(165, False), (175, True)])
def test_a_receive_that_never_returns_is_found(board: Board, at: float, is_stuck: bool) -> None:
    board.set_doing(Doing.RECEIVING, 110.0)

    assert looked_at(board, at) is is_stuck


def test_a_receive_is_found_though_other_slots_run_something(board: Board) -> None:
    board.begin(0, slot_key("r"), 100.0, None)
    board.set_doing(Doing.RECEIVING, 100.0)

    assert looked_at(board, 200)


def test_a_long_task_is_no_reason(board: Board) -> None:
    board.set_doing(Doing.WORKING, 100.0)
    board.begin(0, slot_key("r"), 100.0, None)

    assert not looked_at(board, 10_000)


def test_work_that_stands_still_with_nothing_running_is_found(board: Board) -> None:
    board.set_doing(Doing.WORKING, 100.0)

    assert looked_at(board, 200)


def test_a_child_that_is_not_ready_or_has_ended_is_left_alone(board: Board) -> None:
    fresh = Board.create(1)
    assert not looked_at(fresh, 1000)
    fresh.close()
    board.set_ended()
    assert not looked_at(board, 1000)


def test_without_a_timeout_nothing_is_found(board: Board) -> None:
    assert not looked_at(board, 1000, timeout_s=None)


def test_a_supervisor_that_was_held_up_itself_blames_nobody(board: Board) -> None:
    child: Any = SimpleNamespace(board=board)
    watchdog = Watchdog(60.0)
    board.set_doing(Doing.RECEIVING, 100.0)
    watchdog.look([child], 101.0)

    assert watchdog.look([child], 1000.0) == []
    found = [watchdog.look([child], 1000.0 + tick) for tick in range(65)]
    assert found[-1] == [child]


def test_whether_it_consumes_goes_by_the_last_answer_or_what_it_runs(board: Board) -> None:
    child: Any = SimpleNamespace(board=board)
    watchdog = Watchdog(60.0)
    board.set_answered(100.0)

    assert watchdog.is_consuming(child, 150.0)
    assert not watchdog.is_consuming(child, 200.0)
    board.begin(0, slot_key("r"), 190.0, None)
    assert watchdog.is_consuming(child, 200.0)


# -- the lane's side --------------------------------------------------------------------------


@pytest.fixture
def helper() -> Iterator[threading.Thread]:
    ends = threading.Event()
    thread = threading.Thread(target=ends.wait)
    thread.start()
    yield thread
    ends.set()
    thread.join()


def test_a_receive_is_told_while_it_lasts_and_afterwards(
    app: Umbel, consumer: Consumer, board: Board, helper: threading.Thread
) -> None:
    pulse, before = Pulse(consumer.source, board, helper), time.monotonic()
    waiting = threading.Thread(target=lambda: pulse.receive(max_messages=1, wait_s=20))
    waiting.start()
    while board.doing is not Doing.RECEIVING:
        assert waiting.is_alive()
    app.task(name="work")(lambda: 1)
    app.send_task("work")
    waiting.join(20)

    assert board.doing is Doing.WORKING
    assert before <= board.answered_at <= time.monotonic()
    assert board.turned_at == board.answered_at


def test_a_receive_that_failed_comes_round_without_an_answer(
    consumer: Consumer, board: Board, helper: threading.Thread, fault: Callable[..., Any]
) -> None:
    fault(consumer.broker, "receive")
    Pulse(consumer.source, board, helper).receive(max_messages=1, wait_s=0)

    assert board.turned_at > 0
    assert board.answered_at == 0


def test_a_lane_whose_other_thread_has_died_does_not_come_round(
    consumer: Consumer, board: Board, helper: threading.Thread
) -> None:
    dead = threading.Thread(target=int)
    dead.start()
    dead.join()
    pulse = Pulse(consumer.source, board, dead)
    pulse.receive(max_messages=1, wait_s=0)
    pulse.beat()

    assert board.turned_at == 0
    Pulse(consumer.source, board, helper).beat()
    assert board.turned_at > 0
