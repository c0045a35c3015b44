"""What the README tells a newcomer to type does what it says."""

from __future__ import annotations

import re
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

README = (Path(__file__).resolve().parents[2] / "README.md").read_text()


@pytest.fixture
def worker(own_folder: Path) -> Iterator[None]:
    """The README's task module in the current folder, and its worker."""
    (module,) = re.findall(r"```python\n(# tasks\.py\n.*?)```", README, flags=re.DOTALL)
    Path("tasks.py").write_text(module)
    (command,) = re.findall(r"^\$ umbel (-A tasks worker) &$", README, flags=re.MULTILINE)
    arguments = [sys.executable, "-m", "umbel", *shlex.split(command), "-c", "1"]
    with subprocess.Popen(arguments) as process:
        try:
            yield
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(timeout=60)


@pytest.mark.usefixtures("worker")
def test_first_task_prints_what_the_readme_shows():
    (call, shown) = re.findall(r"^\$ python (-c .*)\n(.*)\n```", README, flags=re.MULTILINE)[0]
    done = subprocess.run(
        [sys.executable, *shlex.split(call)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    assert (done.stdout, done.stderr) == (f"{shown}\n", "")


@pytest.mark.usefixtures("own_folder")
def test_workflow_of_the_readme_counts_all_words():
    blocks = re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL)
    module, workflow = (
        next(each for each in blocks if begin in each) for begin in ("# tasks.py", "workflow =")
    )
    Path("tasks.py").write_text("one two three")
    Path("notes.txt").write_text("four five")
    names: dict[str, Any] = {"__name__": "tasks"}
    exec(module, names)
    with names["app"] as app, app.worker(pool="threads", concurrency=2):
        exec(workflow, names)

    assert names["words"] == 5
