"""Random workflows on real worker processes and servers, all at once: see `test_random_workflows`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from project import wait_for
from workflows.options import WorkflowOptions
from workflows.projects import FIRST, RandomProject

pytestmark = pytest.mark.usefixtures("umbel_is_quiet")

#: Seconds after which nobody should have to wait any more.
_PATIENCE_S = 60.0


@pytest.mark.slow
@pytest.mark.parametrize("store, count", [("redis", 400), ("sqlite", 60)])
def test_random_workflows_come_to_what_they_must_on(
    store: str,
    count: int,
    tmp_path: Path,
    request: pytest.FixtureRequest,
    workflow_options: WorkflowOptions,
) -> None:
    # A busy machine is no reason to run anything twice.
    settings: dict[str, Any] = {"canvas_max_inline": 8, "worker_lease_s": _PATIENCE_S}
    if store == "redis":
        url = request.getfixturevalue("redis_server").url
        settings |= {"broker": url, "backend": url}
    seeds = workflow_options.seeds(count, FIRST)
    trial = RandomProject(tmp_path / "project", seeds, **settings)
    try:
        worker = trial.project.worker("-c", "2", "-l", "CRITICAL", wait=False)
        trial.send()
        wait_for(trial.is_over, _PATIENCE_S, worker.tell)

        assert not (found := trial.differences(is_once=True)), found
        assert worker.stop() == 0
    finally:
        trial.close()
