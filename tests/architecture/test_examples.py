"""The example of a plugin stays as small as it says that it is."""

from __future__ import annotations

import ast
import re
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
EXAMPLE = ROOT / "examples/broker-directory"
MOST = 100


def code_lines(path: Path) -> int:
    """Count the lines that are neither blank nor comment nor docstring."""
    text = path.read_text()
    docs: set[int] = set()
    for node in ast.walk(ast.parse(text)):
        documented = (ast.Module, ast.ClassDef, ast.FunctionDef)
        if isinstance(node, documented) and ast.get_docstring(node) is not None:
            docs |= {*range(node.body[0].lineno, node.body[0].end_lineno + 1)}
    lines = enumerate(text.splitlines(), start=1)
    return sum(1 for number, line in lines if number not in docs and line.split("#")[0].strip())


def test_broker_is_under_a_hundred_lines_with_its_hooks():
    counts = {path.name: code_lines(path) for path in EXAMPLE.glob("src/*/*.py")}

    assert 0 < sum(counts.values()) < MOST


def test_readme_tells_the_number_of_lines():
    told = dict(
        re.findall(
            r"^\| `(src/\S+)` \| (\d+) \|", (EXAMPLE / "README.md").read_text(), re.MULTILINE
        )
    )

    assert told
    assert {name: int(count) for name, count in told.items()} == {
        name: code_lines(EXAMPLE / name) for name in told
    }


def test_example_needs_what_is_released_and_nothing_else():
    project = tomllib.loads((EXAMPLE / "pyproject.toml").read_text())["project"]
    core = tomllib.loads((ROOT / "packages/core/pyproject.toml").read_text())["project"]

    assert project["dependencies"] == ["umbel>=0.1,<0.2"]
    assert core["version"].startswith("0.1")
