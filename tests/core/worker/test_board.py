import multiprocessing
import os
import threading
from collections.abc import Iterator

import pytest
from board_child import write_and_die

from umbel.outcomes import ErrorInfo, Failure, Success
from umbel.worker.board import JOURNAL_BYTES, Board, Doing, JournalEntry, slot_key


@pytest.fixture
def board() -> Iterator[Board]:
    made = Board.create(slots=3)
    yield made
    made.close()


def test_a_running_slot_is_seen_with_its_deadline(board: Board) -> None:
    board.begin(1, slot_key("r-1"), begun_at=100.0, hard_limit_s=2.5)

    (slot,) = board.running()

    assert (slot.index, slot.key, slot.begun_at) == (1, slot_key("r-1"), 100.0)
    assert slot.hard_deadline_at == 102.5


def test_a_slot_without_a_limit_has_no_deadline(board: Board) -> None:
    board.begin(0, slot_key("r"), 5.0, None)

    assert next(board.running()).hard_deadline_at is None


def test_an_ended_slot_is_idle(board: Board) -> None:
    board.begin(2, slot_key("r"), 5.0, None)
    board.end(2)

    assert list(board.running()) == []


def test_long_receipts_have_keys_of_the_same_length() -> None:
    long_one, other = "x" * 400, "x" * 399 + "y"

    assert len(slot_key(long_one)) == len(slot_key("short"))
    assert slot_key(long_one) != slot_key(other)


def test_the_journal_gives_back_what_was_noted(board: Board) -> None:
    failure = Failure(ErrorInfo("ValueError", "builtins", ["no"]), 0.5)
    board.note(JournalEntry("r-1", Success(b"3", 0.1), 10.0))
    board.note(JournalEntry("r-2", failure, 11.0))

    found = {each.receipt: (each.outcome, each.done_at) for each in board.journal()}

    assert found == {"r-1": (Success(b"3", 0.1), 10.0), "r-2": (failure, 11.0)}


def test_a_journal_is_replaced_as_a_whole(board: Board) -> None:
    for turn in range(5):
        board.note(JournalEntry(f"old-{turn}", Success(b"3"), 1.0))
        board.rewrite_journal([JournalEntry(f"new-{turn}", Success(b"4"), 2.0)])
        assert [each.receipt for each in board.journal()] == [f"new-{turn}"]
        board.note(JournalEntry("more", Success(b"5"), 3.0))
        assert [each.receipt for each in board.journal()] == [f"new-{turn}", "more"]

    board.rewrite_journal([])
    assert board.journal() == []


def test_a_journal_that_is_being_replaced_holds_the_old_entries_until_it_is(board: Board) -> None:
    seen: list[list[str]] = []
    board.note(JournalEntry("old", Success(b"3"), 1.0))

    def entries() -> Iterator[JournalEntry]:
        for name in ("new-1", "new-2"):
            yield JournalEntry(name, Success(b"4"), 2.0)
            seen.append([each.receipt for each in board.journal()])

    board.rewrite_journal(entries())

    assert seen == [["old"], ["old"]]
    assert [each.receipt for each in board.journal()] == ["new-1", "new-2"]


def test_a_full_journal_says_so_and_keeps_what_it_has(board: Board) -> None:
    assert board.note(JournalEntry("r", Success(b"3"), 1.0))

    assert not board.note(JournalEntry("big", Success(b"x" * JOURNAL_BYTES), 1.0))
    assert [each.receipt for each in board.journal()] == ["r"]


def test_a_value_that_only_this_process_can_hold_is_told_not_to_fit(board: Board) -> None:
    for odd in (2**100, object(), "\ud800"):
        failure = Failure(ErrorInfo("ValueError", "builtins", [odd]))
        assert not board.note(JournalEntry("r", failure, 1.0))

    assert board.journal() == []


@pytest.mark.parametrize("damage", [b"\xc1\xc1\xc1\xc1", b"\x94\xa3\xff\xff"])
def test_a_damaged_journal_gives_back_what_can_be_read(board: Board, damage: bytes) -> None:
    board.note(JournalEntry("r-1", Success(b"3"), 1.0))
    end = board._journal_at + board._used
    board.note(JournalEntry("r-2", Success(b"4"), 2.0))
    board._memory[end + 4 : end + 8] = damage

    assert [each.receipt for each in board.journal()] == ["r-1"]


def test_a_slot_that_changes_while_it_is_read_is_never_seen_half_written(board: Board) -> None:
    stop = threading.Event()

    def churn() -> None:
        number = 0
        while not stop.is_set():
            number += 1
            board.begin(0, slot_key(f"r-{number}"), float(number), 1000.0)
            board.end(0)

    writer = threading.Thread(target=churn)
    writer.start()
    try:
        for _ in range(20_000):
            for slot in board.running():
                number = int(slot.key.rstrip(b"\0").removeprefix(b"r-"))
                assert (slot.begun_at, slot.hard_deadline_at) == (number, number + 1000.0)
    finally:
        stop.set()
        writer.join()


METHODS = [each for each in multiprocessing.get_all_start_methods() if each != "fork"]


@pytest.mark.parametrize("method", METHODS)
def test_a_killed_child_leaves_its_board_behind(board: Board, method: str) -> None:
    child = multiprocessing.get_context(method).Process(target=write_and_die, args=(board,))
    child.start()
    child.join()

    assert board.is_ready
    assert [each.receipt for each in board.journal()] == ["done"]
    assert [slot.key for slot in board.running()] == [slot_key("running")]


def test_a_board_whose_file_is_forgotten_stays_usable(board: Board) -> None:
    board.forget_file()
    board.set_lease(3.0, 7.0)

    assert (board.lease_since, board.lease_until) == (3.0, 7.0)


@pytest.mark.skipif(os.name == "nt", reason="open files can't be removed there")
def test_a_board_has_no_name_that_could_be_left_behind(board: Board) -> None:
    assert board._path is None


def test_what_the_consuming_thread_does_is_seen(board: Board) -> None:
    assert (board.doing, board.turned_at, board.answered_at) == (Doing.STARTING, 0.0, 0.0)

    board.set_doing(Doing.RECEIVING, 12.5)
    board.set_answered(13.5)
    assert (board.doing, board.turned_at, board.answered_at) == (Doing.RECEIVING, 12.5, 13.5)


def test_a_broken_child_cannot_say_what_nobody_understands(board: Board) -> None:
    board._memory[80:84] = b"\xff\xff\xff\xff"

    assert board.doing is Doing.WORKING


def test_a_child_says_that_it_retires_and_what_memory_it_has(board: Board) -> None:
    assert (board.is_retiring, board.memory_bytes) == (False, 0)

    board.set_retiring()
    board.set_memory(5 * 2**32)
    assert (board.is_retiring, board.memory_bytes) == (True, 5 * 2**32)
    assert (board.has_ended, board.done, list(board.running())) == (False, 0, [])
