"""Write the pages of docs/reference/ that come from the code: settings and hooks.

``nox -s docs`` writes them; ``nox -s docs_check`` (``--check``) fails when one is stale.
"""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from umbel.plugins import installed_plugins
from umbel.settings.reference import settings_reference
from umbel.settings.table import SETTINGS

ROOT = Path(__file__).resolve().parent.parent
REFERENCE = ROOT / "docs" / "reference"

_SECTION = re.compile(r"^# -- (?P<title>.+?) -+$")
_NOTE = "<!-- Written by `nox -s docs`; don't edit it here. -->"


def main(argv: list[str]) -> int:
    """Write the pages, or with ``--check`` tell which aren't up to date."""
    check = "--check" in argv
    stale = []
    for path, text in pages().items():
        if path.exists() and path.read_text(encoding="utf-8") == text:
            continue
        stale.append(path.relative_to(ROOT).as_posix())
        if not check:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8", newline="\n")
    if not stale:
        print("docs/reference is up to date")
        return 0
    print(f"{'stale' if check else 'written'}: {', '.join(stale)}")
    if check:
        print("run `nox -s docs` and commit what it writes")
    return 1 if check else 0


def pages() -> dict[Path, str]:
    """Return all generated pages."""
    return {REFERENCE / "hooks.md": hooks_page(), REFERENCE / "settings.md": settings_page()}


# -- hooks ------------------------------------------------------------------------------------


class Hook(NamedTuple):
    """A hook as its specification reads."""

    name: str
    section: str
    signature: str
    doc: str


def hooks_page() -> str:
    """Render the hooks of all packages, in the order of their specifications."""
    parts = ["# Hooks", _NOTE]
    for path in sorted(ROOT.glob("packages/*/src/*/hookspecs.py"), key=core_first):
        module = f"{path.parent.name}.hookspecs"
        parts += [f"## `{module}`", *intro(path)]
        section = ""
        for hook in hooks_of(path):
            if hook.section != section:
                section = hook.section
                parts.append(f"### {section[0].upper()}{section[1:]}")
            parts.append(f"#### `{hook.name}`\n\n```python\n{hook.signature}\n```\n\n{hook.doc}")
    return "\n\n".join(parts) + "\n"


def core_first(path: Path) -> tuple[bool, str]:
    """Sort key: core's page before those of the plugins."""
    return (path.parent.name != "umbel", path.parent.name)


def intro(path: Path) -> list[str]:
    """Return a module's docstring without its first line, as paragraphs of Markdown."""
    doc = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
    return [markdown(part) for part in doc.split("\n\n")[1:]]


def hooks_of(path: Path) -> Iterator[Hook]:
    """Read the hooks that a module specifies, from its source."""
    source = path.read_text(encoding="utf-8")
    sections = {
        number: match["title"]
        for number, line in enumerate(source.splitlines(), start=1)
        if (match := _SECTION.match(line))
    }
    for node in ast.parse(source).body:
        if isinstance(node, ast.FunctionDef) and any(map(is_hookspec, node.decorator_list)):
            above = [number for number in sections if number < node.lineno]
            yield Hook(
                name=node.name,
                section=sections[max(above)] if above else "",
                signature=signature(node),
                doc=markdown(ast.get_docstring(node) or ""),
            )


def is_hookspec(decorator: ast.expr) -> bool:
    """Tell whether it is ``@hookspec`` or ``@hookspec(…)``."""
    target = decorator.func if isinstance(decorator, ast.Call) else decorator
    return isinstance(target, ast.Name) and target.id == "hookspec"


def signature(node: ast.FunctionDef) -> str:
    """Render a function's first line, over several where it is long."""
    arguments = [ast.unparse(argument) for argument in node.args.args]
    returns = ast.unparse(node.returns) if node.returns else "None"
    line = f"def {node.name}({', '.join(arguments)}) -> {returns}"
    if len(line) <= 88:
        return line
    inner = "".join(f"    {argument},\n" for argument in arguments)
    return f"def {node.name}(\n{inner}) -> {returns}"


def markdown(text: str) -> str:
    """Turn the double backquotes of docstrings into Markdown's single ones."""
    return text.replace("``", "`")


# -- settings ---------------------------------------------------------------------------------


def settings_page() -> str:
    """Render all settings: core's, then those of the plugins of this repository."""
    known = {setting.name for setting in SETTINGS}
    offered = [row for _, rows in installed_plugins().settings() for row in rows]
    page = settings_reference((*SETTINGS, *(row for row in offered if row.name not in known)))
    title, rest = page.split("\n", 1)
    return f"{title}\n\n{_NOTE}\n{rest.rstrip()}\n"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
