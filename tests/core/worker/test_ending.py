from __future__ import annotations

import threading

import pytest

from umbel.worker import ending
from umbel.worker.ending import Ending


def test_steps_are_done_in_order_and_an_error_ends_none_of_the_others(
    caplog: pytest.LogCaptureFixture,
) -> None:
    done: list[str] = []

    def fail() -> None:
        raise OSError("on purpose")

    taken = Ending()
    taken.take(lambda: done.append("first"), fail, lambda: done.append("last"))

    assert (done, taken.was_cut_short) == (["first", "last"], False)
    assert "did not end in order" in caplog.text


def test_what_does_not_answer_is_not_waited_for(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(ending, "_END_S", 0.05)
    answered = threading.Event()
    done: list[str] = []
    taken = Ending()

    taken.take(lambda: answered.wait(60), lambda: done.append("never"))
    taken.take(lambda: done.append("neither"))

    assert (done, taken.was_cut_short) == ([], True)
    assert "goes to others when its lease runs out" in caplog.text
    answered.set()
