"""Every hook, of whichever package, is documented with its arguments, and has a test.

For the hooks of core the test is in tests/e2e/test_hooks.py, which demands every one of them.
"""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SPECS = sorted(ROOT.glob("packages/*/src/*/hookspecs.py"))


def load_docs():
    spec = importlib.util.spec_from_file_location("docs_build", ROOT / "docs" / "build.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


DOCS = load_docs()
HOOKS = [
    pytest.param(hook, path.parent.name, id=hook.name)
    for path in SPECS
    for hook in DOCS.hooks_of(path)
]


@pytest.mark.parametrize("hook, package", HOOKS)
def test_hook_is_in_the_reference_with_its_arguments(hook, package):
    page = (ROOT / "docs/reference/hooks.md").read_text()
    part = page.partition(f"#### `{hook.name}`")[2].partition("\n#### ")[0]

    assert hook.signature in part
    assert hook.doc in part


@pytest.mark.parametrize("hook, package", HOOKS)
def test_hook_is_on_a_page_for_authors_with_its_arguments(hook, package):
    pages = [path.read_text() for path in ROOT.glob("docs/plugins/*.md")]

    assert [page for page in pages if hook.signature in page and hook.doc in page]


@pytest.mark.parametrize("hook, package", HOOKS)
def test_hook_has_a_test_that_implements_it(hook, package):
    if package == "umbel":
        source = (ROOT / "tests/e2e/test_hooks.py").read_text()
        assert '@pytest.mark.parametrize("hook", EVENTS)' in source
        assert '@pytest.mark.parametrize("kind", Kind' in source
        return
    implemented = re.compile(rf"^\s*def {hook.name}\(", flags=re.MULTILINE)
    tests = [path.read_text() for path in ROOT.glob("tests/**/test_*.py")]

    assert any(implemented.search(text) and "hookimpl" in text.lower() for text in tests)


def test_generated_parts_of_the_pages_are_complete():
    texts = {path.name: path.read_text() for path in ROOT.glob("docs/plugins/*.md")}
    opened = re.compile(r"<!-- (interface|code|hooks?): ")

    assert sum(len(opened.findall(text)) for text in texts.values()) > 20
    for name, text in texts.items():
        assert len(opened.findall(text)) == text.count("<!-- end -->"), name


def test_example_is_walked_through_to_its_last_line():
    page = (ROOT / "docs/plugins/brokers.md").read_text()
    shown = {line.strip() for line in page.splitlines()}
    folder = ROOT / "examples/broker-directory"
    sources = [*folder.glob("src/**/*.py"), *folder.glob("tests/*.py"), folder / "pyproject.toml"]
    lines = [
        line.strip()
        for path in sources
        if path.name != "__init__.py"
        for line in path.read_text().splitlines()
        if line.strip()
    ]

    assert len(lines) > 200
    assert [line for line in lines if line not in shown] == []
