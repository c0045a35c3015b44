"""The tests on the page about testing, and in the package's README, pass as they stand."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

pytest_plugins = ["pytester"]

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize("page", ["docs/testing.md", "packages/testing/README.md"])
def test_examples_pass(page, pytester):
    blocks = re.findall(r"```python\n(def test_.*?)```", (ROOT / page).read_text(), flags=re.DOTALL)
    pytester.makepyfile("\n\n".join(blocks))

    assert len(blocks) >= 2
    pytester.runpytest_inprocess().assert_outcomes(passed=len(blocks))
