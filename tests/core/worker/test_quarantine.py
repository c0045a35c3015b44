"""What has killed a process before runs alone in the next one."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from umbel import Umbel
from umbel.worker.jobs import Job
from umbel.worker.quarantine import Quarantine, patience_s


@pytest.fixture(autouse=True)
def tasks(app: Umbel) -> None:
    app.task(name="work")(lambda: 1)


def test_the_struck_are_kept_and_the_others_are_not(job: Callable[..., Job]) -> None:
    quarantine = Quarantine()
    good, struck = job("work"), job("work", strikes=1)

    assert quarantine.keep([struck, good], 100.0) == [good]
    assert list(quarantine.waiting) == [struck]


def test_nothing_else_begins_until_the_last_one_has_run(job: Callable[..., Job]) -> None:
    quarantine = Quarantine()
    assert not quarantine
    first, second = job("work", strikes=1), job("work", strikes=2)
    quarantine.keep([first, second], 100.0)
    assert quarantine

    assert quarantine.next() is first
    assert quarantine.next() is second
    assert quarantine  # it runs yet
    assert quarantine.next() is None
    assert not quarantine


def test_what_waits_for_too_long_is_given_up(job: Callable[..., Job]) -> None:
    quarantine, struck = Quarantine(), job("work", strikes=1)
    quarantine.keep([struck], 100.0)

    assert quarantine.give_up(100.9) == []
    assert quarantine.give_up(101.1) == [struck]
    assert not quarantine


def test_what_waits_too_long_behind_one_that_runs_alone_is_given_up(
    job: Callable[..., Job],
) -> None:
    quarantine = Quarantine()
    first, second = job("work", strikes=1), job("work", strikes=1)
    quarantine.keep([first, second], 100.0)
    assert quarantine.next() is first

    assert quarantine.give_up(100.9) == []
    assert quarantine.give_up(101.1) == [second]
    assert quarantine  # the first one runs yet
    assert quarantine.next() is None
    assert not quarantine


def test_each_time_in_vain_makes_it_wait_for_longer(job: Callable[..., Job]) -> None:
    tried = [patience_s(job("work", strikes=1, token=2 + vain)) for vain in range(4)]

    assert tried == [1.0, 2.0, 4.0, 8.0]
    assert patience_s(job("work", strikes=2, token=900)) == 3600.0
