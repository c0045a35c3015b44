"""Which outcomes end with the dead letters, and what is told of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from umbel import Reject, Umbel
from umbel.errors import InvalidTaskError
from umbel.messages import Burial, DeathKind, Delivery, Malformed
from umbel.outcomes import (
    ErrorInfo,
    Failure,
    Ignored,
    Outcome,
    Rejected,
    Revoked,
    Success,
)
from umbel.worker.burials import Burials
from umbel.worker.decode import Decoder
from umbel.worker.jobs import Job, Settlement

ERROR = ErrorInfo("ValueError", "builtins", ["no"], "Traceback …", "ValueError('no')")
FAILED = Failure(ERROR)
EXPECTED = Failure(ERROR, expected=True)
POISON = Failure(ERROR, dead_letter="it died", death=DeathKind.POISON, details={"attempts": [1]})
UNKNOWN = Failure(ERROR, dead_letter="unknown", death=DeathKind.UNKNOWN)
UNDELIVERABLE = Failure(ERROR, dead_letter="refused")

Bury = Callable[..., Burial | None]


@pytest.fixture
def bury(app: Umbel, job: Callable[..., Job]) -> Bury:
    """Return the burial of an outcome of a task with these options, under these settings."""

    def of(outcome: Outcome, *, setting: str = "poison", **options: Any) -> Burial | None:
        app.conf.update(task_dead_letter=setting)
        app.task(name="work", replace=True, **options)(lambda: None)
        made = job("work")
        return Burials(setting, "w@host").of(Settlement(made.delivery, outcome, made))

    return of


@pytest.mark.parametrize("outcome", [FAILED, EXPECTED])
@pytest.mark.parametrize(
    "setting,option,is_buried",
    [
        ("poison", None, False),
        ("failed", None, True),
        ("never", None, False),
        ("poison", "failed", True),
        ("failed", "poison", False),
        ("failed", "never", False),
    ],
)
def test_failures_are_buried_as_setting_and_task_say(
    bury: Bury, outcome: Outcome, setting: str, option: str | None, is_buried: bool
) -> None:
    assert (bury(outcome, setting=setting, dead_letter=option) is not None) is is_buried


@pytest.mark.parametrize(
    "setting,option,is_buried",
    [
        ("poison", None, True),
        ("failed", None, True),
        ("never", None, False),
        ("never", "poison", True),
        ("poison", "never", False),
    ],
)
def test_poison_is_buried_unless_never(
    bury: Bury, setting: str, option: str | None, is_buried: bool
) -> None:
    assert (bury(POISON, setting=setting, dead_letter=option) is not None) is is_buried


@pytest.mark.parametrize(
    "outcome,kind",
    [
        (Rejected("refused"), DeathKind.REJECTED),
        (Rejected("bad", death=DeathKind.MALFORMED), DeathKind.MALFORMED),
        (UNKNOWN, DeathKind.UNKNOWN),
        (UNDELIVERABLE, DeathKind.UNDELIVERABLE),
    ],
)
def test_what_cannot_be_run_or_delivered_is_always_buried(
    bury: Bury, outcome: Outcome, kind: DeathKind
) -> None:
    found = bury(outcome, setting="never", dead_letter="never")

    assert found is not None
    assert found.kind is kind


@pytest.mark.parametrize(
    "outcome",
    [Success(b"1"), Ignored(), Revoked("expired"), Rejected("later", requeue=True)],
    ids=lambda outcome: type(outcome).__name__,
)
def test_nothing_else_is_buried(bury: Bury, outcome: Outcome) -> None:
    assert bury(outcome, setting="failed") is None


def test_a_task_that_is_not_acknowledged_on_failure_is_buried(bury: Bury) -> None:
    found = bury(FAILED, setting="never", acks_on_failure_or_timeout=False)

    assert found is not None
    assert found.kind is DeathKind.FAILED


def test_a_policy_that_there_is_not_is_refused(app: Umbel) -> None:
    app.task(name="odd", dead_letter="sometimes")(lambda: None)  # type: ignore[call-overload]

    with pytest.raises(InvalidTaskError, match="must be poison, failed, never or None"):
        app.finalize()


def test_a_failed_task_tells_its_exception_with_traceback(bury: Bury) -> None:
    found = bury(FAILED, setting="failed")

    assert found is not None
    assert (found.reason, found.kind) == ("failed: ValueError('no')", DeathKind.FAILED)
    assert found.details == {
        "hostname": "w@host",
        "exception": {
            "type": "ValueError",
            "message": "ValueError('no')",
            "traceback": "Traceback …",
        },
    }


def test_poison_tells_its_attempts(bury: Bury) -> None:
    found = bury(POISON)

    assert found is not None
    assert found.reason == "it died"
    assert found.details["attempts"] == [1]


def test_a_failure_read_from_its_result_has_a_reason_too(bury: Bury) -> None:
    found = bury(Failure(ErrorInfo("ValueError", "builtins", ["no", 1])), setting="failed")

    assert found is not None
    assert found.reason == "failed: ValueError('no', 1)"


def test_a_reason_has_no_password_and_is_bounded(bury: Bury) -> None:
    found = bury(Rejected("can't reach redis://me:secret@host/0 \ud800 " + "x" * 10_000))

    assert found is not None
    assert "secret" not in found.reason
    assert len(found.reason) <= 1010
    assert found.reason.encode()


def test_a_malformed_message_is_buried_as_such(app: Umbel) -> None:
    delivery = Delivery(message=Malformed(raw=b"?", reason="odd"), queue="q", receipt="r")
    settlement = Decoder(app, "w@host").decode(delivery)
    assert isinstance(settlement, Settlement)
    found = Burials("never", "w@host").of(settlement)

    assert found is not None
    assert (found.reason, found.kind) == ("malformed message: odd", DeathKind.MALFORMED)


def test_a_rejecting_task_tells_why(
    app: Umbel, job: Callable[..., Job], run: Callable[[Job], Outcome]
) -> None:
    @app.task(name="refuse")
    def refuse() -> None:
        raise Reject("too hot")

    made = job("refuse")
    found = Burials("poison", "w@host").of(Settlement(made.delivery, run(made), made))

    assert found is not None
    assert (found.reason, found.kind) == ("too hot", DeathKind.REJECTED)
