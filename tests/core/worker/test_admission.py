from collections.abc import Callable

import msgspec
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


def test_a_promoted_job_runs_before_its_time(job: Callable[..., Job]) -> None:
    """Its broker keeps to `due_at`; what has an eta alone, as from a foreign sender, it can't."""
    foreign = job("work", headers={"eta": to_iso(NOW + 5)})
    message = msgspec.structs.replace(foreign.delivery.message, due_at=NOW + 5)
    promoted = msgspec.structs.replace(
        foreign, delivery=msgspec.structs.replace(foreign.delivery, message=message)
    )

    def decide_of_keeper(one: Job) -> Admission:
        return admit(one, now=NOW, revoked=False, max_deliveries=3, keeps_time=True)

    assert decide_of_keeper(promoted) == RUN
    assert decide_of_keeper(foreign) == Hold(NOW + 5)
    assert decide(promoted) == Hold(NOW + 5)


def test_a_job_that_killed_its_process_too_often_fails(job: Callable[..., Job]) -> None:
    assert decide(job("work", strikes=2)) == RUN

    decision = decide(job("work", strikes=3))
    assert isinstance(decision, Drop)
    assert isinstance(decision.outcome, Failure)
    assert decision.outcome.error.exc_type == "WorkerLostError"
    assert decision.outcome.dead_letter is not None
