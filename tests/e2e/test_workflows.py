"""Chains, groups and chords of a project: sent by a program of its own, carried out by its workers."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import pytest
from project import Project, wait_for
from stores import every_store

from umbel import Umbel, chain, chord, group
from umbel.errors import ChordError

TASKS = """

@app.task
def total(numbers):
    return sum(numbers)


@app.task
def text(i):
    return f"{i}" + "x" * 1000


@app.task
def sizes(texts, *more):
    note("begin", "sizes")
    return [len(texts), sum(map(len, texts)), *more]
"""

HEARD = """

@app.task
def heard(task_id):
    note("heard", task_id)
"""

#: What a user's own program does, run as ``python -c``.
CLIENT = """
import json
from umbel import chain, chord, group
from tasks import add, fail, sizes, text, total

found = {
    "chain": chain(add.s(1, 2), add.s(3), add.s(4))().get(timeout=60),
    "group": group(add.s(i, i) for i in range(50))().get(timeout=60),
    "chord": chord([add.s(i, i) for i in range(50)], total.s())().get(timeout=60),
    "operators": (group(add.s(1, 1), add.s(2, 2)) | total.s() | add.s(10)).delay().get(timeout=60),
    "by reference": chord([text.s(i) for i in range(100)], group(sizes.s(n) for n in range(2)))().get(
        timeout=60
    ),
}
try:
    chord([add.s(1, 1), fail.s("no")], total.s())().get(timeout=60)
except Exception as error:
    found["failed"] = [type(error).__name__, str(error)]
print(json.dumps(found))
"""


def run_client(project: Project, program: str = CLIENT) -> Any:
    """Run a program in the project's folder; return the JSON that it prints."""
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=project.folder,
        env=project.environment(),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, f"{done.stderr}\n{project.workers[0].tell()}"
    return json.loads(done.stdout)


@every_store
def test_program_gets_the_values_of_its_workflows(project: Project) -> None:
    project.rewrite(TASKS)
    project.worker("-c", "2")
    found = run_client(project)

    sizes = [100, sum(1000 + len(str(i)) for i in range(100))]
    name, message = found.pop("failed")
    assert name == "ChordError"
    assert "ValueError('no')" in message
    assert found == {
        "chain": 10,
        "group": [2 * i for i in range(50)],
        "chord": sum(2 * i for i in range(50)),
        "operators": 16,
        "by reference": [[*sizes, 0], [*sizes, 1]],
    }
    assert project.ledger("begin")["sizes"] == 2


def test_long_chain_is_carried_on_by_several_workers(project: Project) -> None:
    for _ in range(2):
        project.worker("-c", "1", wait=False)
    add = project.app.signature("tasks.add")
    result = chain(add.clone((0, 1)), *[add.clone((1,))] * 199).apply_async()

    assert result.get(timeout=60) == 200
    assert result.parent.parent.get(timeout=60) == 198


@every_store
def test_chord_ends_whose_last_or_all_messages_are_too_large_for_its_worker(
    project: Project,
) -> None:
    with Umbel("sender", **project.settings) as sender:
        project.rewrite(TASKS + HEARD, task_message_max_bytes=10_000)
        project.worker("-c", "1", wait=False)
        text, total, heard = map(sender.signature, ("tasks.text", "tasks.total", "tasks.heard"))
        found = {}
        for large in ({2}, {0, 1, 2}):
            name = f"{len(large)}-too-large"
            header = [
                text.clone(("x" * 20_000 if n in large else n,), task_id=f"{name}-{n}")
                for n in range(3)
            ]
            body = total.set(task_id=name, link_error=heard)
            found[name] = chain(chord(header, body), total).apply_async()
        for (name, result), part in zip(found.items(), (2, 0), strict=True):
            with pytest.raises(ChordError, match=f"^Dependency {name}-{part} raised InvalidTask"):
                result.get(timeout=60)
            assert sender.AsyncResult(name).failed()
    wait_for(lambda: dict(project.ledger("heard")) == dict.fromkeys(found, 1), 60)


def test_chord_waits_for_workers_that_come_later(project: Project) -> None:
    project.rewrite(TASKS)
    add, total = map(project.app.signature, ("tasks.add", "tasks.total"))
    result = chord(group(add.clone((i, i)) for i in range(20)), total).apply_async()
    project.worker("-c", "1", wait=False)

    assert result.get(timeout=60) == sum(2 * i for i in range(20))
