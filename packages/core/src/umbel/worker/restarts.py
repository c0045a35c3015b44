"""When the next child may be started, after some that died. Pure: told the time."""

from __future__ import annotations

#: Starts that fail in a row, after which a worker without any child gives up.
_MOST_START_FAILURES = 5
_FIRST_START_PAUSE_S, _LONGEST_START_PAUSE_S = 0.2, 30.0
#: The same for children that die before they have finished a task; then nobody gives up.
_FIRST_RESTART_PAUSE_S, _LONGEST_RESTART_PAUSE_S = 0.05, 5.0
#: … where each ran a task then: it waits before it runs again, and may do that a few times only.
_LONGEST_POISON_PAUSE_S = 0.25
_MOST_DOUBLINGS = 20


class Restarts:
    """Counts deaths without a purpose, and paces starts by them."""

    def __init__(self) -> None:
        #: Starts in a row after which no child had loaded the app; those at once count as one.
        self.start_failures = 0
        self._has_lived = False
        self._failed_at = 0.0
        self._fruitless_deaths = 0
        self._not_before = 0.0

    def may_start(self, now: float) -> bool:
        """Tell whether a child may be started at `now` (monotonic seconds)."""
        return now >= self._not_before

    @property
    def are_hopeless(self) -> bool:
        """Whether so many failed to start that another try makes no sense without any living.

        Never once a child has lived: then it is the machine that is short of something, or a file
        that is away, and both may pass.
        """
        return not self._has_lived and self.start_failures >= _MOST_START_FAILURES

    def note_alive(self) -> None:
        """A child has loaded the app."""
        self.start_failures, self._has_lived = 0, True

    def note_start_failure(self, born_at: float, now: float) -> None:
        """A child born at `born_at` died before it had loaded the app, or couldn't be started at all."""
        if self.start_failures and born_at < self._failed_at:
            return  # started with one that has failed: there is one reason, and one pause
        self.start_failures += 1
        self._failed_at = now
        longest_s = _LONGEST_RESTART_PAUSE_S if self._has_lived else _LONGEST_START_PAUSE_S
        self._pause(now, _FIRST_START_PAUSE_S, self.start_failures, longest_s)

    def note_death(self, now: float, *, done: int, was_running: bool = False) -> None:
        """A child died that had loaded the app and had finished `done` tasks.

        `was_running`: it ran something as it died, so it is that which is to blame.
        """
        self._fruitless_deaths = 0 if done else self._fruitless_deaths + 1
        if not done:
            longest_s = _LONGEST_POISON_PAUSE_S if was_running else _LONGEST_RESTART_PAUSE_S
            self._pause(now, _FIRST_RESTART_PAUSE_S, self._fruitless_deaths, longest_s)

    def note_end(self) -> None:
        """A child ended in order."""
        self._fruitless_deaths = 0

    def _pause(self, now: float, first_s: float, times: int, longest_s: float) -> None:
        self._not_before = now + min(first_s * 2 ** min(times - 1, _MOST_DOUBLINGS), longest_s)
