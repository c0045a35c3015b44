"""Random programs: what the client sends."""

from __future__ import annotations

import random
from typing import Any

from simulation.oracle import Item
from simulation.stage import APP

_KINDS = ("plain", "plain", "fail", "flaky", "poison", "early", "quiet", "rated")


def make_program(rng: random.Random) -> list[Item]:
    """Return up to ten tasks, with follow-ups on some."""
    return [_item(rng, n) for n in range(1, rng.randint(2, 10))]


def _item(rng: random.Random, n: int) -> Item:
    kind = rng.choice(_KINDS)
    args: tuple[Any, ...] = (n,)
    if kind == "flaky":
        args = (n, rng.randint(0, 3))
    elif kind == "poison":
        args = (n, rng.randint(1, 4))
    options: dict[str, Any] = {}
    if rng.random() < 0.2:
        options["countdown"] = rng.choice((1, 7, 40))
    if rng.random() < 0.2:
        options["priority"] = rng.randint(0, 9)
    if rng.random() < 0.3:
        options["queue"] = "second"
    good: list[str] = []
    bad: list[str] = []
    follow = APP.tasks["simulation.stage.follow"]

    def edges(prefix: str, most: int) -> list[str]:
        return [f"{prefix}{index}" for index in range(rng.randint(0, most))]

    if rng.random() < 0.4:
        callbacks, steps, bad = edges("callback", 2), edges("step", 2), edges("errback", 2)
        good = callbacks + steps
        options["link"] = [follow.s(n, edge) for edge in callbacks]
        options["link_error"] = [follow.s(n, edge) for edge in bad]
        # The next step is the last of the list.
        options["chain"] = [follow.s(n, edge).to_dict() for edge in reversed(steps)]
    return Item(n, kind, args, options, tuple(good), tuple(bad))
