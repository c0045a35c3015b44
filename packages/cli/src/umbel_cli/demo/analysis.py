"""Count what is in one Python source file. Pure: knows nothing of umbel.

Complexity is McCabe's: 1 for each function, and 1 more for each place in it where the flow
forks. A module's is the sum over its functions, plus 1 and the forks outside of them.
"""

from __future__ import annotations

import ast
import warnings
from typing import Any, NamedTuple, TypedDict

_FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)
#: Nodes where the flow forks once.
_FORKS = (
    ast.If,
    ast.IfExp,
    ast.For,
    ast.AsyncFor,
    ast.While,
    ast.ExceptHandler,
    ast.Assert,
    ast.match_case,
)
#: How many functions a report names.
_NAMED_FUNCTIONS = 3


class FunctionReport(TypedDict):
    """One function of a file."""

    name: str
    line: int
    complexity: int


class SourceReport(TypedDict):
    """What was counted in a file. Plain types, so that it travels as JSON."""

    #: Why it isn't valid Python; None where it is. Then only `lines` counts.
    problem: str | None
    lines: int
    functions: int
    classes: int
    branches: int
    complexity: int
    #: The most complex functions, worst first.
    worst: list[FunctionReport]


class _Scope(NamedTuple):
    """A node to look at, and the function that it belongs to (0: the module's own level)."""

    node: ast.AST
    function: int
    prefix: str


def analyse(source: bytes) -> SourceReport:
    """Count lines, functions, classes, branches and complexity in the text of a file."""
    lines = source.count(b"\n") + (not source.endswith(b"\n") and source != b"")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of old escapes; they are not ours to mend
            tree = ast.parse(source)
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        return _report(lines, problem=f"{type(error).__name__}: {error}")
    return _count(tree, lines)


def _count(tree: ast.Module, lines: int) -> SourceReport:
    functions: list[FunctionReport] = [{"name": "<module>", "line": 1, "complexity": 1}]
    classes = branches = 0
    # A stack of our own: generated test files nest deeper than Python recurses.
    stack = [_Scope(tree, 0, "")]
    while stack:
        node, function, prefix = stack.pop()
        if isinstance(node, _FUNCTIONS):
            prefix += node.name
            functions.append({"name": prefix, "line": node.lineno, "complexity": 1})
            function, prefix = len(functions) - 1, f"{prefix}."
        elif isinstance(node, ast.ClassDef):
            classes += 1
            prefix += f"{node.name}."
        elif forks := _forks(node):
            branches += forks
            functions[function]["complexity"] += forks
        stack.extend(_Scope(child, function, prefix) for child in ast.iter_child_nodes(node))
    named = sorted(functions[1:], key=lambda found: (-found["complexity"], found["line"]))
    return _report(
        lines,
        functions=len(functions) - 1,
        classes=classes,
        branches=branches,
        complexity=sum(found["complexity"] for found in functions),
        worst=named[:_NAMED_FUNCTIONS],
    )


def _forks(node: ast.AST) -> int:
    if isinstance(node, _FORKS):
        return 1
    if isinstance(node, ast.BoolOp):
        return len(node.values) - 1
    if isinstance(node, ast.comprehension):
        return 1 + len(node.ifs)
    return 0


def _report(lines: int, **counts: Any) -> SourceReport:
    empty: SourceReport = {
        "problem": None,
        "lines": lines,
        "functions": 0,
        "classes": 0,
        "branches": 0,
        "complexity": 0,
        "worst": [],
    }
    return {**empty, **counts}  # type: ignore[typeddict-item]
