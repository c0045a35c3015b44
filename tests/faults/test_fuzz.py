"""Messages that no sender of ours makes, straight in the table: each ends, and none does harm."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from hostile_messages import HostileMessages
from project import Project, wait_for
from queue_rows import ANY, DEAD, EXPIRES, FAILS, RUNS, Row, buried, insert, left_in_queue

pytestmark = pytest.mark.faults

GOOD, HUGE = 220, 3


@pytest.fixture
def project(tmp_path: Path) -> Iterator[Project]:
    made = Project(tmp_path / "project", worker_lease_s=2.0, worker_unknown_task_hold_s=1.0)
    yield made
    made.close()


def states(project: Project, rows: list[Row]) -> dict[str, str]:
    """Return the state of each row's task that has a result."""
    stored = project.app.backend.load([row.key for row in rows])
    return {key: each.state for key, each in stored.items()}


def wrong(row: Row, ran: int, reasons: list[str], state: str | None) -> str | None:
    """Tell what is wrong with what became of `row`; None: nothing."""
    is_dead = ran == 0 and len(reasons) == 1 and bool(reasons[0])
    as_it_should = {
        RUNS: ran == 1 and not reasons and state == "SUCCESS",
        DEAD: is_dead and state in (None, "FAILURE"),
        FAILS: not reasons and state == "FAILURE",
        EXPIRES: ran == 0 and not reasons and state == "REVOKED",
        ANY: (ran == 1) != is_dead,
    }
    if as_it_should[row.fate]:
        return None
    return f"{row.key} should be {row.fate}: ran {ran} times, {state}, {reasons}"


@pytest.mark.parametrize(
    "bad, options", [(2000, ("-c", "2")), (500, ("--pool", "threads", "-c", "4"))]
)
def test_bad_messages_end_as_dead_letters_and_the_good_ones_among_them_run(
    project: Project, bad: int, options: tuple[str, ...]
) -> None:
    forbidden = project.folder / "forbidden"
    rows = HostileMessages(bad, forbidden).mixed(bad, GOOD, HUGE)
    project.app.broker.check()
    insert(project.database, rows)
    worker = project.worker(*options)
    children = worker.children()

    wait_for(lambda: not list(left_in_queue(project.database)), 120, worker.tell)

    ran, reasons, found = project.ledger("begin"), buried(project.database), states(project, rows)
    assert [
        complaint
        for row in rows
        if (complaint := wrong(row, ran[row.key], reasons.get(row.mark, []), found.get(row.key)))
    ] == []
    assert set(ran) <= {row.key for row in rows if row.fate in (RUNS, FAILS, ANY)}
    assert not forbidden.exists()
    assert worker.children() == children, worker.tell()
    assert worker.stop() == 0
