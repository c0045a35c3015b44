"""A long task never sits on short ones, whatever they were taken with."""

from __future__ import annotations

import pytest
from project import Project

SHORT = 100


@pytest.mark.parametrize(
    "options",
    [
        ("-c", "2"),
        ("-c", "2", "--prefetch-multiplier", "10"),
        ("--pool", "threads", "-c", "2"),
    ],
    ids=" ".join,
)
def test_short_tasks_end_long_before_the_long_one_that_was_sent_with_them(
    project: Project, options: tuple[str, ...]
) -> None:
    worker = project.worker(*options)
    calls = [("tasks.work", (f"short{i}", 0.01)) for i in range(SHORT)]
    calls.insert(3, ("tasks.work", ("long", 10.0)))
    results = project.app.send_many(calls)
    long = results.pop(3)

    for result in results:
        result.get(timeout=30)
    begun = {key: float(at) for what, key, _, at in project.lines() if what == "begin"}
    ended = [float(at) for what, _, _, at in project.lines() if what == "end"]

    assert long.state != "SUCCESS"
    assert project.ledger("end")["long"] == 0
    assert max(ended) - min(begun.values()) < 6.0, worker.tell()  # 1.5 s where nothing else runs
