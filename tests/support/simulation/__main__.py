"""Runs seeds: one with its whole trace, or a range; exits 1 where an invariant is broken."""

from __future__ import annotations

import logging
import sys
import time

from simulation.world import simulate

#: Broken seeds after which a range is given up.
_ENOUGH = 3


def main(argv: list[str]) -> int:
    """Run the seeds that `argv` names: one, or a range."""
    logging.getLogger("umbel").setLevel(logging.CRITICAL + 1)
    is_alone = len(argv) == 1
    first = int(argv[0])
    seeds = range(first, first + 1 if is_alone else int(argv[1]))
    began, broken = time.process_time(), 0
    for seed in seeds:
        ending = simulate(seed, is_verbose=is_alone)
        if is_alone or ending.broken:
            print(ending.story)
        if ending.broken:
            broken += 1
            print(f"{ending.broken}\nreplay it: pytest tests/simulation --umbel-seed {seed}\n")
            if broken >= _ENOUGH:
                break
    took = time.process_time() - began
    print(f"{len(seeds)} seeds, {broken} broken, in {took:.1f} s of the processor")
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
