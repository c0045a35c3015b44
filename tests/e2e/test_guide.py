"""What the guide says of workflows runs as it stands there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from umbel import Umbel
from umbel.errors import ChordError

GUIDE = (Path(__file__).resolve().parents[2] / "docs" / "guide.md").read_text()
SECTIONS = [
    "Workflows",
    "Workflows",
    "Running workflows",
    "Errors in workflows",
    "Progress",
    "Stopping a workflow",
    "Long chains and large groups",
    "With Celery's workers",
]


def code_of(section: str) -> str:
    """Return the Python in a section of the guide."""
    (text,) = re.findall(rf"^## {section}\n(.*?)(?=^## )", GUIDE, flags=re.DOTALL | re.MULTILINE)
    return "\n".join(re.findall(r"```python\n(.*?)```", text, flags=re.DOTALL))


@pytest.mark.usefixtures("own_folder")
def test_workflows_of_the_guide_run():
    Path("a.txt").write_text("one two three")
    Path("b.txt").write_text("four five")
    with Umbel("tasks", broker="memory://", backend="memory://") as app:
        names = {"app": app, "__name__": "tasks"}
        with app.worker(pool="threads", concurrency=4):
            for section in SECTIONS:
                exec(compile(code_of(section), f"guide: {section}", "exec"), names)

            assert names["workflow"]().get(timeout=10) == 5
            assert names["count_all"].delay(["a.txt", "b.txt"]).get(timeout=10) == 5
            assert names["workflow"].apply().get() == 5
            with pytest.raises(ChordError, match=r"Dependency .* raised FileNotFoundError"):
                names["strict"].get(timeout=10)
            assert names["lenient"].get(timeout=10) == 3
            assert names["full"].get() == "1 counted, missing: ['FileNotFoundError']"
