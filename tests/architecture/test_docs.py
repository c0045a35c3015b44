"""The documentation names what there is."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path
from types import ModuleType

import pytest

from umbel.plugins import Kind, PluginManager

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted(
    path
    for path in ROOT.rglob("*.md")
    if not any(part.startswith(".") for part in path.relative_to(ROOT).parts)
)


@pytest.fixture(scope="module")
def docs():
    spec = importlib.util.spec_from_file_location("docs_build", ROOT / "docs" / "build.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_every_hook_is_documented(docs):
    page = (ROOT / "docs" / "reference" / "hooks.md").read_text()
    specified = re.findall(
        r"^@hookspec.*\ndef (umbel_\w+)",
        "\n".join(path.read_text() for path in ROOT.glob("packages/*/src/*/hookspecs.py")),
        flags=re.MULTILINE,
    )

    assert len(specified) > 20
    assert [name for name in specified if f"#### `{name}`" not in page] == []


def test_every_hook_says_when_it_is_called(docs):
    hooks = [
        hook for path in ROOT.glob("packages/*/src/*/hookspecs.py") for hook in docs.hooks_of(path)
    ]

    assert [hook.name for hook in hooks if len(hook.doc) < 15] == []


def test_plugins_in_the_guide_are_accepted():
    guide = (ROOT / "docs" / "plugins.md").read_text()
    sources = re.findall(r"```python\n(# umbel_\w+/hooks\.py\n.*?)```", guide, flags=re.DOTALL)
    modules = []
    for number, source in enumerate(sources):
        module = ModuleType(f"plugin_{number}")
        exec(source, vars(module))
        modules.append(module)
    plugins = PluginManager(modules, installed=False)

    assert [plugin.error for plugin in plugins.report()] == [None, None]
    assert plugins.names(Kind.BROKER) == ["acme"]
    assert len(plugins.listeners("task_finished")) == 1


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_links_between_pages_lead_somewhere(page):
    targets = re.findall(r"\]\((?!https?:|#)([^)#\s]+)", page.read_text())

    assert [target for target in targets if not (page.parent / target).exists()] == []
