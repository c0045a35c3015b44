"""How much memory processes have, and when it is too much."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from umbel.worker import memory
from umbel.worker.board import Board, slot_key
from umbel.worker.memory import MemoryMeter, MemoryWatch, memory_of

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="memory isn't known on Windows")

MIB = 1024 * 1024


@pytest.fixture
def board() -> Iterator[Board]:
    made = Board.create(1)
    yield made
    made.close()


@pytest.fixture
def sizes(monkeypatch: pytest.MonkeyPatch) -> dict[int | None, int | None]:
    """What each process has, for a test to say; None: this one."""
    made: dict[int | None, int | None] = {}
    monkeypatch.setattr(memory, "memory_of", lambda pid=None: made.get(pid))
    return made


def test_this_process_has_some_and_more_with_more() -> None:
    before = memory_of()
    kept = bytearray(os.urandom(1024)) * (64 * 1024)
    after = memory_of()

    assert before is not None
    assert after is not None
    assert 4 * MIB < before < after
    assert after - before > 32 * MIB
    del kept


@pytest.mark.skipif(sys.platform != "linux", reason="of other processes on Linux only")
def test_of_other_processes_it_is_known_while_they_live() -> None:
    parent = memory_of(os.getppid())
    assert parent is not None
    assert parent > 0
    assert memory_of(2**22 + 1) is None


def test_a_meter_looks_now_and_then_and_finds_what_is_too_much(
    sizes: dict[int | None, int | None], board: Board, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "umbel.worker")
    meter = MemoryMeter(100 * MIB, board)
    sizes[None] = 99 * MIB
    assert not meter.is_over(10.0)
    assert board.memory_bytes == 99 * MIB

    sizes[None] = 101 * MIB
    assert not meter.is_over(10.05)  # too early to look again
    assert meter.is_over(10.2)
    assert "over worker_max_memory_per_child (102400 kilobytes)" in caplog.text


def test_a_meter_that_cannot_tell_finds_nothing(
    sizes: dict[int | None, int | None], board: Board
) -> None:
    sizes[None] = None

    assert not MemoryMeter(1, board).is_over(10.0)


def test_a_child_has_a_meter_where_there_is_something_to_do(
    board: Board, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert MemoryMeter.for_child(MIB, None) is not None
    monkeypatch.setattr(memory, "_IS_LINUX", True)
    assert MemoryMeter.for_child(None, board) is None
    monkeypatch.setattr(memory, "_IS_LINUX", False)
    assert MemoryMeter.for_child(None, board) is not None
    assert MemoryMeter.for_child(None, None) is None


def test_a_watch_finds_who_is_over_the_ceiling(
    sizes: dict[int | None, int | None], board: Board
) -> None:
    small: Any = SimpleNamespace(pid=1, board=board, memory_bytes=None)
    large: Any = SimpleNamespace(pid=2, board=board, memory_bytes=None)
    sizes.update({1: 5 * MIB, 2: 50 * MIB})

    assert MemoryWatch(10 * MIB).look([small, large], 10.0) == [large]
    assert (small.memory_bytes, large.memory_bytes) == (5 * MIB, 50 * MIB)
    assert MemoryWatch(None).look([small, large], 10.0) == []


def test_a_watch_looks_less_often_at_those_that_run_nothing(
    sizes: dict[int | None, int | None], board: Board
) -> None:
    child: Any = SimpleNamespace(pid=1, board=board, memory_bytes=None)
    watch = MemoryWatch(None)
    for at, size in ((10.0, 1), (10.5, 2)):
        sizes[1] = size * MIB
        watch.look([child], at)
    assert child.memory_bytes == MIB

    board.begin(0, slot_key("r"), 10.5, None)
    watch.look([child], 10.55)
    assert child.memory_bytes == 2 * MIB


def test_what_a_process_had_is_remembered_when_it_is_gone(
    sizes: dict[int | None, int | None], board: Board
) -> None:
    child: Any = SimpleNamespace(pid=1, board=board, memory_bytes=7 * MIB)
    sizes[1] = None
    MemoryWatch(None).look([child], 10.0)

    assert child.memory_bytes == 7 * MIB
