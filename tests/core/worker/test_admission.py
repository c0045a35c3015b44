from collections.abc import Callable

import pytest

from umbel import Umbel
from umbel.clock import to_iso
from umbel.outcomes import Failure, Revoked
from umbel.worker.admission import RUN, Admission, Drop, Hold, admit
from umbel.worker.jobs import Job

NOW = 1_000_000.0


@pytest.fixture(autouse=True)
def work(app: Umbel) -> None:
    app.task(name="work")(lambda: None)


def decide(job: Job, *, revoked: bool = False) -> Admission:
    return admit(job, now=NOW, revoked=revoked, max_deliveries=3)


def test_an_ordinary_job_runs(job: Callable[..., Job]) -> None:
    assert decide(job("work")) == RUN


def test_a_revoked_job_is_dropped(job: Callable[..., Job]) -> None:
    assert decide(job("work"), revoked=True) == Drop(Revoked("revoked"))


def test_an_expired_job_is_dropped(job: Callable[..., Job]) -> None:
    assert decide(job("work", headers={"expires": to_iso(NOW)})) == Drop(Revoked("expired"))
    assert decide(job("work", headers={"expires": to_iso(NOW + 1)})) == RUN


def test_a_job_before_its_time_is_held_until_then(job: Callable[..., Job]) -> None:
    assert decide(job("work", headers={"eta": to_iso(NOW + 5)})) == Hold(NOW + 5)
    assert decide(job("work", headers={"eta": to_iso(NOW)})) == RUN


def test_a_job_that_killed_its_process_too_often_fails(job: Callable[..., Job]) -> None:
    assert decide(job("work", strikes=2)) == RUN

    decision = decide(job("work", strikes=3))
    assert isinstance(decision, Drop)
    assert isinstance(decision.outcome, Failure)
    assert decision.outcome.error.exc_type == "WorkerLostError"
    assert decision.outcome.dead_letter is not None
