"""Write what comes from the code: docs/reference/, and parts of docs/plugins/.

``nox -s docs`` writes them; ``nox -s docs_check`` (``--check``) fails when one is stale. A page of
docs/plugins/ is written by hand, but for what stands between two comments. The first of them says
what belongs there; the second one is ``<!-- end -->``:

    interface: FILE NAME …   classes without the bodies of their methods
    code: FILE               a file; FILE head: up to its first class or function; FILE NAME …:
                             functions, methods (CLASS.METHOD), or classes up to their first method
    hook: NAME …             hooks as they are specified
    hooks: SECTION           all hooks of a section of umbel.hookspecs
"""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from textwrap import dedent
from typing import NamedTuple

from umbel.plugins import installed_plugins
from umbel.settings.reference import settings_reference
from umbel.settings.table import SETTINGS

ROOT = Path(__file__).resolve().parent.parent
REFERENCE = ROOT / "docs" / "reference"
PLUGINS = ROOT / "docs" / "plugins"

_SECTION = re.compile(r"^# -- (?P<title>.+?) -+$")
_BLOCK = re.compile(
    r"<!-- (?P<kind>interface|code|hooks?): (?P<what>[^>]+?) -->\n.*?<!-- end -->", flags=re.DOTALL
)
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
        print("the pages that come from the code are up to date")
        return 0
    print(f"{'stale' if check else 'written'}: {', '.join(stale)}")
    if check:
        print("run `nox -s docs` and commit what it writes")
    return 1 if check else 0


def pages() -> dict[Path, str]:
    """Return all pages that are generated, or hold generated parts."""
    filled = {path: filled_page(path.read_text("utf-8")) for path in sorted(PLUGINS.glob("*.md"))}
    reference = {"hooks.md": hooks_page(), "settings.md": settings_page()}
    return {REFERENCE / name: text for name, text in reference.items()} | filled


# -- hooks ------------------------------------------------------------------------------------


Definition = ast.ClassDef | ast.FunctionDef


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


# -- parts of pages ---------------------------------------------------------------------------


def filled_page(text: str) -> str:
    """Return a page with its generated parts as the code has them now."""
    return _BLOCK.sub(lambda found: block(found["kind"], found["what"]), text)


def block(kind: str, what: str) -> str:
    """Render one generated part, with the comments around it."""
    if kind in {"hook", "hooks"}:
        inner = hooks_part(what.split() if kind == "hook" else [], section=what)
    else:
        file, *names = what.split()
        render = interface_of if kind == "interface" else code_of
        language = file.rpartition(".")[2].replace("py", "python")
        inner = f"```{language}\n{render(ROOT / file, names)}\n```"
    return f"<!-- {kind}: {what} -->\n\n{inner}\n\n<!-- end -->"


def hooks_part(names: list[str], *, section: str) -> str:
    """Render hooks by name, or all of a section."""
    every = [hook for path in ROOT.glob("packages/*/src/*/hookspecs.py") for hook in hooks_of(path)]
    chosen = [hook for hook in every if hook.name in names or hook.section == section]
    if not chosen or len(chosen) < len(names):
        raise SystemExit(f"there are no such hooks: {section}")
    return "\n\n".join(f"```python\n{hook.signature}\n```\n\n{hook.doc}" for hook in chosen)


def code_of(path: Path, names: list[str]) -> str:
    """Return a file, or the parts of it that `names` name, dedented."""
    text = path.read_text("utf-8").rstrip()
    if not names:
        return text
    lines = text.splitlines()
    found = definitions(ast.parse(text))
    parts = []
    for name in names:
        if name == "head":
            part = lines[: min(first_line(node) for node in found.values()) - 1]
        else:
            node = found[name]
            end = node.end_lineno or node.lineno
            if isinstance(node, ast.ClassDef):
                end = min(first_line(each) for each in methods(node)) - 1
            part = lines[first_line(node) - 1 : end]
        parts.append(dedent("\n".join(part)).rstrip())
    return "\n\n".join(parts)


def interface_of(path: Path, names: list[str]) -> str:
    """Return classes as their source has them, without the bodies of methods."""
    text = path.read_text("utf-8")
    lines, found = text.splitlines(), definitions(ast.parse(text))
    return "\n\n\n".join("\n".join(interface_lines(lines, found[name])) for name in names)


def interface_lines(lines: list[str], cls: Definition) -> Iterator[str]:
    """Yield the lines of a class that an author needs."""
    yield from lines[first_line(cls) - 1 : cls.body[0].end_lineno]
    for node in cls.body[1:]:
        start, end = first_line(node), node.end_lineno or node.lineno
        if isinstance(node, ast.FunctionDef):
            if node.name.startswith("_") and node.name not in {"__init__", "__call__"}:
                continue
            if ast.get_docstring(node) is not None:
                end = node.body[0].end_lineno or end
        while lines[start - 2].lstrip().startswith("#:"):
            start -= 1
        if lines[start - 3].lstrip().startswith("# -- "):
            yield from ("", lines[start - 3].partition(" ---")[0])
        if not lines[start - 2].strip():
            yield ""
        yield from lines[start - 1 : end]


def definitions(module: ast.Module) -> dict[str, Definition]:
    """Return classes, functions and methods by name; methods as ``Class.method``."""
    found: dict[str, Definition] = {}
    for node in module.body:
        if isinstance(node, (ast.ClassDef, ast.FunctionDef)):
            found[node.name] = node
        if isinstance(node, ast.ClassDef):
            found |= {f"{node.name}.{each.name}": each for each in methods(node)}
    return found


def methods(cls: ast.ClassDef) -> list[ast.FunctionDef]:
    """Return the methods of a class."""
    return [node for node in cls.body if isinstance(node, ast.FunctionDef)]


def first_line(node: ast.stmt) -> int:
    """Return the line where a statement begins, its decorators included."""
    decorators = node.decorator_list if isinstance(node, (ast.ClassDef, ast.FunctionDef)) else []
    return min([node.lineno, *(each.lineno for each in decorators)])


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
