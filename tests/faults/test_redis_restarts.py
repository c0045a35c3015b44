"""Redis is killed in the middle of everything and comes back with its append-only file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from project import Project
from redis_load import PATIENT, Load

pytestmark = pytest.mark.faults

TASKS = 5000


def test_three_kills_in_the_middle_of_5000_tasks_lose_none(tmp_path: Path, redis_aof: Any) -> None:
    url = redis_aof.url
    project = Project(tmp_path / "project", broker=url, backend=url, worker_lease_s=10.0, **PATIENT)
    load = Load(project)
    try:
        worker = project.worker("-c", "2")
        with load.sending(TASKS):
            for done in (TASKS // 5, TASKS // 2, TASKS * 4 // 5):
                load.wait_done(done, worker.tell)
                redis_aof.restart()
        repeats = load.check_none_lost(worker.tell)
        print("ran twice:", repeats)
        # What ran twice: was given back to a queue whose worker had begun it.
        assert repeats <= 50, worker.tell()
        assert worker.stop() == 0
    finally:
        project.close()
