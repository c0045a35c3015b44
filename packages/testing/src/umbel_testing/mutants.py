"""Shows that a suite can fail: broken plugins, each with the tests that notice it.

For authors of suites. A mutant is a subclass of a sound plugin with one fault planted; it notes
exactly which tests of the suite fail with it. All runs in virtual time, without pytest's
machinery, so that a hundred mutants take seconds.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from functools import partial
from typing import Any, TypeVar

import pytest

from umbel_testing.clock import FakeClock
from umbel_testing.kit import Suite

M = TypeVar("M", bound=type[Any])

#: Makes what a suite's one fixture returns, from a mutant and the clock of the run.
Maker = Callable[[type[Any], FakeClock], Callable[[], Any]]

_SLOW_WORDS = (
    "waiting", "woken", "wakes", "interrupt", "no_longer", "who_wait", "end_a_wait", "ended_by",
    "concurrent", "one_winner", "returns_what_is", "returns_at_once", "threads", "thousand",
)  # fmt: skip


class Mutants(Collection[type[Any]]):
    """The mutants of one suite, or of one part of it.

    Args:
        suite: All of its tests are run on each mutant.
        part: The base of `suite` whose tests must all be caught here.
        make: Makes the handles of one run.
    """

    def __init__(self, suite: type[Suite], part: type[Suite], make: Maker) -> None:
        self._suite, self._part, self._make = suite, part, make
        self._caught_by: dict[type[Any], frozenset[str]] = {}

    def __iter__(self) -> Iterator[type[Any]]:
        """Go through the mutants."""
        return iter(self._caught_by)

    def __len__(self) -> int:
        """Count the mutants."""
        return len(self._caught_by)

    def __contains__(self, mutant: object) -> bool:
        """Tell whether `mutant` was noted."""
        return mutant in self._caught_by

    def caught_by(self, *tests: str) -> Callable[[M], M]:
        """Note a class as a mutant that fails exactly `tests`."""

        def note(mutant: M) -> M:
            self._caught_by[mutant] = frozenset(tests)
            return mutant

        return note

    def check(self, mutant: type[Any]) -> None:
        """Fail unless exactly the tests noted for `mutant` fail with it."""
        expected = self._caught_by[mutant]
        found = failures(self._suite, partial(self._make, mutant), also=expected)
        text = "\n".join(f"  {name}: {error!r:.200}" for name, error in found.items())
        assert set(found) == expected, f"with {mutant.__name__} these failed:\n{text}"

    def uncaught(self) -> set[str]:
        """Return the tests of the part that no mutant fails."""
        return tests_of(self._part).difference(*self._caught_by.values())


def tests_of(suite: type[Suite]) -> set[str]:
    """Return the names of all tests of `suite`."""
    return {name for name in dir(suite) if name.startswith("test_")}


def failures(
    suite: type[Suite],
    make: Callable[[FakeClock], Callable[[], Any]],
    *,
    also: Collection[str] = (),
) -> dict[str, BaseException]:
    """Run the tests of `suite` in virtual time; return which failed, and how.

    Args:
        make: Makes what the suite's one fixture returns, for the clock of one test.
        also: Tests to run though they are slow: those that start threads and wait for them.
    """
    driven: type[Any] = type(f"Driven{suite.__name__}", (_InVirtualTime, suite), {})
    found: dict[str, BaseException] = {}
    for name in sorted(tests_of(suite)):
        if name not in also and any(word in name for word in _SLOW_WORDS):
            continue
        test = driven()
        if name not in also:  # it passes, so patience costs nothing, and a busy machine needs it
            test.patience_s, test.grace_s = Suite.patience_s, Suite.grace_s
        test.clock = FakeClock()
        test.begin(make(test.clock))
        # The clock's move frees threads that a broken wait left behind.
        for step in (getattr(test, name), partial(test.clock.advance, "30d"), test.end):
            try:
                step()
            except (Exception, pytest.fail.Exception) as error:  # noqa: BLE001  it is the result
                found.setdefault(name, error)
    return found


class _InVirtualTime:
    #: Of the tests that are to fail: they wait for what doesn't come.
    patience_s = 0.2
    grace_s = 0.3
    clock: FakeClock

    def now(self) -> float:
        return self.clock.time()

    def pass_time(self, seconds: float) -> None:
        self.clock.advance(seconds)
