"""Dead letters with real workers: kept, looked at, sent again."""

from __future__ import annotations

import json

import pytest
from project import Project, wait_for
from stores import every_store

FRAGILE = """
@app.task(max_retries=1, autoretry_for=(OSError,), retry_kwargs={"countdown": 0})
def fragile(text):
    note("begin", text)
    return text + open("fixed").read()
"""


@every_store
def test_a_failed_task_is_replayed_once_its_code_is_fixed(project: Project) -> None:
    project.rewrite(FRAGILE, task_dead_letter="failed")
    project.worker("-c", "1")
    app = project.app
    result = app.send_task("tasks.fragile", ("abc",))
    with pytest.raises(FileNotFoundError):
        result.get(timeout=30)
    wait_for(app.dead_letters.count)
    assert project.ledger("begin")["abc"] == 2

    (project.folder / "fixed").write_text("def")
    replayed = project.umbel("-A", "tasks", "dlq", "replay", result.id, "--json")

    assert json.loads(replayed.stdout)["replayed"] == 1, replayed.stderr
    again = app.AsyncResult(result.id)
    assert again.get(timeout=30) == "abcdef"
    assert again.state == "SUCCESS"
    assert project.ledger("begin")["abc"] == 3
    assert app.dead_letters.count() == 0


@every_store
def test_a_task_that_only_the_next_release_knows_is_run_by_it(project: Project) -> None:
    old = project.worker("-c", "1")
    result = project.app.send_task("tasks.fragile", ("abc",))
    wait_for(lambda: "isn't registered here; held" in old.log, describe=old.tell)
    assert old.stop() == 0

    project.rewrite(FRAGILE)
    (project.folder / "fixed").write_text("def")
    project.worker("-c", "1")

    assert project.app.AsyncResult(result.id).get(timeout=30) == "abcdef"
    assert project.app.dead_letters.count() == 0
