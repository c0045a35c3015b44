"""What is known of tasks that kill their processes, and when they run again."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from umbel import Umbel
from umbel.interfaces.coordinator import Coordinator
from umbel.messages import DeathKind
from umbel.worker.strikes import Attempt, Attempts, back_off_s, poison, signal_name


def attempt(**changes: Any) -> Attempt:
    known: dict[str, Any] = {
        "at": 1.0,
        "exit": None,
        "signal": "SIGSEGV",
        "pid": 7,
        "hostname": "w@host",
        "memory_bytes": 3 * 1024 * 1024,
    }
    return Attempt(**known | changes)


@pytest.fixture
def coordinator(app: Umbel) -> Iterator[Coordinator]:
    made = app.open_coordinator()
    assert made is not None
    yield made
    made.close()


def test_each_strike_is_followed_by_a_longer_wait() -> None:
    assert [back_off_s(strikes) for strikes in range(5)] == [1.0, 5.0, 25.0, 25.0, 25.0]


@pytest.mark.parametrize(
    "changes, text",
    [
        ({}, "SIGSEGV, 3 MiB of memory"),
        ({"signal": None, "exit": 3, "memory_bytes": None}, "exit code 3"),
        ({"signal": None, "memory_bytes": None}, "reason unknown"),
        (
            {"fault": "over worker_memory_ceiling_bytes (9)", "memory_bytes": None},
            "over worker_mem",
        ),
    ],
)
def test_a_death_is_told_in_words(changes: dict[str, Any], text: str) -> None:
    assert attempt(**changes).describe().startswith(text)


def test_a_poisonous_task_fails_with_how_often_and_how_last() -> None:
    failure = poison(2, [attempt(), attempt(at=2.0, signal=None, exit=9)])

    assert failure.dead_letter == (
        "its process died 2 times while running it (last: exit code 9, 3 MiB of memory)"
    )
    assert failure.death is DeathKind.POISON
    assert [each["at"] for each in failure.details["attempts"]] == [1.0, 2.0]
    assert failure.error.exc_type == "WorkerLostError"


def test_a_poisonous_task_of_which_nothing_is_known_fails_all_the_same() -> None:
    assert poison(3).dead_letter == "its process died 3 times while running it"
    assert poison(3).details == {}


def test_what_the_supervisor_ended_is_told_with_its_reason() -> None:
    (shown,) = poison(1, [attempt(fault="over it")]).details["attempts"]

    assert shown["fault"] == "over it"


def test_deaths_are_kept_from_one_delivery_to_the_next(coordinator: Coordinator) -> None:
    Attempts(coordinator).add("id", attempt(), strikes=0)
    known = Attempts(coordinator).add("id", attempt(at=2.0), strikes=1)

    assert known == [attempt(), attempt(at=2.0)]
    assert Attempts(coordinator).load("id") == known


def test_a_death_that_is_noted_again_after_an_outage_counts_once(coordinator: Coordinator) -> None:
    attempts = Attempts(coordinator)
    for _ in range(2):
        attempts.add("id", attempt(), strikes=0)
    for _ in range(2):
        attempts.add("id", attempt(at=2.0), strikes=1)

    assert attempts.load("id") == [attempt(), attempt(at=2.0)]


def test_what_is_known_of_an_earlier_message_of_the_task_is_left_out(
    coordinator: Coordinator,
) -> None:
    attempts = Attempts(coordinator)
    attempts.add("id", attempt(), strikes=0)

    assert attempts.add("id", attempt(at=9.0), strikes=0) == [attempt(at=9.0)]


def test_what_is_known_of_a_dead_letter_is_dropped(coordinator: Coordinator) -> None:
    attempts = Attempts(coordinator)
    attempts.add("id", attempt(), strikes=0)
    attempts.add("other", attempt(), strikes=0)
    attempts.forget(["id", None])

    assert set(coordinator.scan("attempts/")) == {"attempts/other"}


@pytest.mark.parametrize("task_id", ["id", None])
def test_without_a_coordinator_or_an_id_the_last_death_is_known(task_id: str | None) -> None:
    attempts = Attempts(None)
    attempts.add(task_id, attempt(), strikes=0)

    assert attempts.add(task_id, attempt(at=2.0), strikes=1) == [attempt(at=2.0)]
    assert attempts.load(task_id) == []
    attempts.forget([task_id])


def test_an_outage_of_the_coordinator_costs_no_more_than_what_it_keeps(
    coordinator: Coordinator, fault: Callable[..., Any], caplog: pytest.LogCaptureFixture
) -> None:
    attempts = Attempts(coordinator)
    fault(coordinator, "get", "put", "delete")

    assert attempts.add("id", attempt(), strikes=1) == [attempt()]
    attempts.forget(["id"])
    assert "can't keep what task id died of" in caplog.text


def test_what_is_kept_by_something_else_is_passed_over(coordinator: Coordinator) -> None:
    coordinator.put("attempts/id", b"[1, {")

    assert Attempts(coordinator).add("id", attempt(), strikes=2) == [attempt()]


@pytest.mark.parametrize("code, name", [(-11, "SIGSEGV"), (-250, None), (1, None), (None, None)])
def test_a_signal_has_a_name(code: int | None, name: str | None) -> None:
    assert signal_name(code) == name
