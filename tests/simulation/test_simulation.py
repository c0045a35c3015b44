"""The invariants of the design, checked over ten thousand fleets that break in all ways.

A seed that fails is printed with its trace, and replays:
``pytest tests/simulation --umbel-seed 4711``.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from simulation.planted import PLANTED, Planted
from simulation.world import simulate

SUPPORT = Path(__file__).parent.parent / "support"
SEEDS, AT_ONCE, PROCESSES = 10_000, 1000, 2
#: Within which each planted bug must be found.
ENOUGH = 1500


def run_seeds(*seeds: int, **environment: str) -> subprocess.Popen[str]:
    """Run a range of seeds, or one with its whole trace, in a process of its own."""
    return subprocess.Popen(
        [sys.executable, "-m", "simulation", *map(str, seeds)],
        cwd=SUPPORT,
        env={**os.environ, **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


@pytest.mark.slow
@pytest.mark.parametrize("first", range(0, SEEDS, AT_ONCE))
def test_ten_thousand_seeds_keep_the_invariants(first: int):
    size = AT_ONCE // PROCESSES
    parts = [run_seeds(at, at + size) for at in range(first, first + AT_ONCE, size)]
    told = [part.communicate()[0] for part in parts]

    failed = [text for part, text in zip(parts, told, strict=True) if part.returncode]
    assert not failed, "\n".join(failed)


def test_seed_of_the_command_line(request):
    seed = request.config.getoption("umbel_seed", default=None)
    ending = simulate(0 if seed is None else seed, is_verbose=True)

    assert ending.broken is None, f"{ending.story}\n{ending.broken}"


def test_seed_tells_the_same_story_in_every_process():
    stories = []
    for hash_seed in ("1", "2"):
        process = run_seeds(7, PYTHONHASHSEED=hash_seed)
        stories.append(process.communicate()[0])

    first, second = (story.splitlines()[:-1] for story in stories)
    assert len(first) > 50
    assert first == second


@pytest.mark.parametrize("planted", PLANTED, ids=repr)
def test_planted_bug_is_found(planted: Planted):
    endings = (simulate(seed, planted) for seed in range(ENOUGH))

    assert any(ending.broken for ending in endings), f"not found within {ENOUGH} seeds"
