"""A process is ended for a task once the task's fate is written, or after a moment."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from project import wait_for

from umbel import Umbel
from umbel.builtin.memory.coordinator import MemoryCoordinator
from umbel.outcomes import Revoked
from umbel.worker.board import Board, slot_key
from umbel.worker.dooms import Dooms
from umbel.worker.fates import Fates

KEY = slot_key("id/0")
TERMINATED = Revoked("terminated")


class OneChild:
    """A child with a board, of which nothing is alive; tells what was known when it was ended."""

    def __init__(self, coordinator: MemoryCoordinator):
        self.board = Board.create(1)
        self.board.begin(0, KEY, time.monotonic(), None)
        self.doomed: dict[bytes, Any] = {}
        self.was_killed = False
        self.known_at_its_end: list[str] = []
        self._coordinator = coordinator

    def kill(self) -> None:
        self.was_killed = True
        self.known_at_its_end = [*self._coordinator.scan("fate/")]


@pytest.fixture
def coordinator(app: Umbel) -> Any:
    return app.coordinator


@pytest.fixture
def child(coordinator: Any) -> Iterator[OneChild]:
    made = OneChild(coordinator)
    yield made
    made.board.close()


@pytest.fixture
def dooms(child: Any, coordinator: Any) -> Dooms:
    return Dooms([child], Fates(coordinator))  # type: ignore[arg-type]


def is_ended(dooms: Dooms, child: OneChild) -> Callable[[], bool]:
    """Return what looks after the dooms, as the supervisor does, and tells of the end."""

    def look() -> bool:
        dooms.carry_out(time.monotonic())
        return child.was_killed

    return look


def test_its_fate_is_written_before_its_process_ends(dooms: Dooms, child: Any) -> None:
    dooms.add(child, KEY, TERMINATED)
    assert not child.was_killed

    wait_for(is_ended(dooms, child))

    assert child.known_at_its_end == ["fate/id/0"]
    assert child.doomed == {KEY: TERMINATED}


def test_nothing_is_waited_for_where_nothing_is_to_be_written(child: Any) -> None:
    Dooms([child], None).add(child, KEY, TERMINATED)  # type: ignore[arg-type]

    assert child.was_killed


def test_an_outage_does_not_keep_a_process_alive(
    dooms: Dooms, child: Any, coordinator: Any, fault: Callable[..., Any]
) -> None:
    fault(coordinator, "put")
    dooms.add(child, KEY, TERMINATED)

    wait_for(is_ended(dooms, child))

    assert child.known_at_its_end == []


def test_a_coordinator_that_does_not_answer_holds_nobody_up(
    dooms: Dooms, child: Any, coordinator: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers = threading.Event()
    monkeypatch.setattr(coordinator, "put", lambda *_, **__: answers.wait(60))
    began_at = time.monotonic()

    dooms.add(child, KEY, TERMINATED)
    dooms.carry_out(began_at)
    assert not child.was_killed
    dooms.carry_out(began_at + 60)

    assert child.was_killed
    assert time.monotonic() - began_at < 30  # nobody waited for the answer
    answers.set()


def test_a_task_that_has_ended_meanwhile_costs_no_process(
    dooms: Dooms, child: Any, coordinator: Any
) -> None:
    dooms.add(child, KEY, TERMINATED)
    wait_for(lambda: coordinator.scan("fate/"))
    child.board.begin(0, slot_key("another/0"), time.monotonic(), None)

    def is_forgotten() -> bool:
        dooms.carry_out(time.monotonic())
        return not coordinator.scan("fate/")

    wait_for(is_forgotten)

    assert not child.was_killed
    assert child.doomed == {}
