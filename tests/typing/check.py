"""Check what a user's type checker makes of the samples beside this file.

A sample says on the line in question what mypy is to find there: ``# E: part of an error`` or
``# R: the revealed type``. What is found beyond that is wrong too. ``nox -s types`` runs this.
"""

from __future__ import annotations

import re
import subprocess
import sys
from collections import defaultdict
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent

_FOUND = re.compile(r"^(?P<file>[^:]+\.py):(?P<line>\d+): (?P<kind>error|note): (?P<text>.*)$")
_EXPECTED = re.compile(r"# (?P<kind>[ER]): (?P<text>.*?)\s*(?=# [ER]: |$)")
_REVEALED = re.compile(r'^Revealed type is "(?P<type>.*)"$')

#: The modules in ``umbel.results.AsyncResult[int]``: where a class is kept is nobody's concern.
_MODULES = re.compile(r"\b(?:\w+\.)+(?=\w)")

#: Where, and then what: "E" an error, "R" a revealed type.
Findings = dict[tuple[str, int], list[tuple[str, str]]]


def main() -> int:
    """Compare all samples with what mypy says of them; return 1 if something differs."""
    samples = sorted(path for path in HERE.glob("*.py") if path != Path(__file__).resolve())
    expected, found = expectations(samples), findings(samples)
    wrong = [
        problem
        for place in sorted(expected.keys() | found.keys())
        for problem in compare(place, expected.get(place, []), found.get(place, []))
    ]
    print("\n".join(wrong), end="\n" if wrong else "")
    checked = sum(len(here) for here in expected.values())
    print(f"{len(samples)} samples, {checked} expectations, {len(wrong)} not met", flush=True)
    return 1 if wrong or not checked else 0


def expectations(samples: list[Path]) -> Findings:
    """Read what the samples say."""
    expected: Findings = defaultdict(list)
    for path in samples:
        for number, line in enumerate(path.read_text().splitlines(), start=1):
            for match in _EXPECTED.finditer(line):
                expected[path.name, number].append((match["kind"], match["text"]))
    return expected


def findings(samples: list[Path]) -> Findings:
    """Run mypy over the samples, strict and without this project's own configuration."""
    command = [sys.executable, "-m", "mypy", "--strict", "--config-file=", "--no-error-summary"]
    command.append(f"--cache-dir={ROOT / '.mypy_cache' / 'typing'}")
    done = subprocess.run(
        [*command, *(path.name for path in samples)],
        cwd=HERE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    found: Findings = defaultdict(list)
    for line in done.stdout.splitlines():
        match = _FOUND.match(line)
        if match is None:
            sys.exit(f"mypy: {done.stdout}")
        if match["kind"] == "error":
            found[match["file"], int(match["line"])].append(("E", match["text"]))
        elif revealed := _REVEALED.match(match["text"]):
            short = _MODULES.sub("", revealed["type"])
            found[match["file"], int(match["line"])].append(("R", short))
    return found


def compare(
    place: tuple[str, int], expected: list[tuple[str, str]], found: list[tuple[str, str]]
) -> list[str]:
    """Return what differs at one line, for people."""
    where = f"tests/typing/{place[0]}:{place[1]}"
    left = list(found)
    problems = []
    for kind, text in expected:
        met = next((f for f in left if f[0] == kind and is_met(kind, text, f[1])), None)
        if met is None:
            problems.append(f"{where}: expected {kind}: {text}; found {found or 'nothing'}")
        else:
            left.remove(met)
    return problems + [f"{where}: unexpected {kind}: {text}" for kind, text in left]


def is_met(kind: str, expected: str, found: str) -> bool:
    """Tell whether a finding is the expected one: a type is the same, an error contains it."""
    return expected == found if kind == "R" else expected in found


if __name__ == "__main__":
    sys.exit(main())
