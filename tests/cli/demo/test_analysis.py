from __future__ import annotations

import pytest

from umbel_cli.demo.analysis import analyse

_SOURCE = b'''\
"""A module."""
import os

if os.name == "nt" and os.sep:
    X = 1


class A:
    def plain(self):
        return 1

    async def forked(self, items):
        for item in items:
            if item:
                yield item
        try:
            pass
        except ValueError:
            return
        def inner(x):
            return 1 if x else 2
'''


def test_lines_functions_classes_and_branches_are_counted():
    report = analyse(_SOURCE)

    assert report["problem"] is None
    assert report["lines"] == 21
    assert report["functions"] == 3
    assert report["classes"] == 1
    # if, and; for, if, except; the conditional expression
    assert report["branches"] == 6


def test_complexity_is_one_for_each_function_and_branch_and_the_module():
    assert analyse(_SOURCE)["complexity"] == 1 + 3 + 6


def test_most_complex_functions_come_first_with_their_path():
    assert analyse(_SOURCE)["worst"] == [
        {"name": "A.forked", "line": 12, "complexity": 4},
        {"name": "A.forked.inner", "line": 20, "complexity": 2},
        {"name": "A.plain", "line": 9, "complexity": 1},
    ]


@pytest.mark.parametrize(
    "source, branches",
    [
        (b"[x for x in y if x if not x]", 3),
        (b"a or b or c", 2),
        (b"while x: pass", 1),
        (b"assert x", 1),
        (b"match x:\n case 1: pass\n case _: pass", 2),
        (b"lambda: 0", 0),
    ],
)
def test_each_fork_is_a_branch(source, branches):
    assert analyse(source)["branches"] == branches


@pytest.mark.parametrize(
    "source, lines", [(b"", 0), (b"x", 1), (b"x\n", 1), (b"x\n\n", 2), (b"\n", 1)]
)
def test_lines_are_counted_with_and_without_a_last_newline(source, lines):
    assert analyse(source)["lines"] == lines


@pytest.mark.parametrize("source", [b"print 'x'", b"x = (", b"\0", b"# coding: no-such\nx"])
def test_what_is_not_python_is_reported_not_raised(source):
    report = analyse(source)

    assert report["problem"]
    assert (report["functions"], report["complexity"]) == (0, 0)


def test_deep_nesting_is_counted():
    deep = (
        b"x = "
        + b"-" * 60
        + b"1\n"
        + b"".join(b" " * at + b"if x:\n" for at in range(60))
        + b" " * 60
        + b"pass\n"
    )

    assert analyse(deep)["branches"] == 60
