"""Which dead letters are meant by a filter."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from fnmatch import fnmatchcase
from typing import TypedDict

import msgspec

from umbel.errors import DeadLetterError, near_matches
from umbel.listed import task_of
from umbel.messages import DeadLetter

#: A moment, or seconds before now.
Age = float | int | timedelta | datetime


class LetterFilter(TypedDict, total=False):
    """Which dead letters; all that are given must fit."""

    queue: str | None
    #: The task's name, or a pattern such as ``"shop.*"``.
    task: str | None
    #: A `DeathKind`, such as ``"failed"``.
    kind: str | None
    #: Part of the reason; case doesn't matter.
    reason: str | None
    #: Died so many seconds ago or earlier, or before this moment (without a zone: UTC).
    older_than: Age | None
    #: Died so many seconds ago or later, or after this moment.
    newer_than: Age | None


_FIELDS = tuple(LetterFilter.__annotations__)


class Selection(msgspec.Struct, frozen=True, kw_only=True):
    """A filter made ready. Times are unix seconds."""

    queue: str | None = None
    task: str | None = None
    kind: str | None = None
    reason: str | None = None
    until: float | None = None
    since: float | None = None

    def fits(self, letter: DeadLetter) -> bool:
        """Tell whether `letter` is meant."""
        if self.kind is not None and letter.kind != self.kind:
            return False
        if self.until is not None and letter.died_at > self.until:
            return False
        if self.since is not None and letter.died_at < self.since:
            return False
        if self.reason is not None and self.reason not in letter.reason.lower():
            return False
        return self.task is None or fnmatchcase(task_of(letter) or "", self.task)


def selection(now: float, given: LetterFilter) -> Selection:
    """Return the selection of a filter at `now` (unix seconds).

    Raises: DeadLetterError: it has a field that there isn't. To pass it over would mean them all.
    """
    for name in given:
        if name not in _FIELDS:
            close = near_matches(name, _FIELDS, limit=1)
            hint = f"did you mean {close[0]!r}?" if close else f"there are {', '.join(_FIELDS)}"
            raise DeadLetterError(f"dead letters can't be chosen by {name!r}; {hint}")
    reason = given.get("reason")
    return Selection(
        queue=given.get("queue"),
        task=given.get("task"),
        kind=given.get("kind"),
        reason=None if reason is None else reason.lower(),
        until=_moment(given.get("older_than"), now),
        since=_moment(given.get("newer_than"), now),
    )


def _moment(age: Age | None, now: float) -> float | None:
    match age:
        case None:
            return None
        case datetime():
            return (age if age.tzinfo is not None else age.replace(tzinfo=UTC)).timestamp()
        case timedelta():
            return now - age.total_seconds()
        case float() | int():
            return now - age
        case _:
            raise DeadLetterError(f"an age is seconds, a timedelta or a datetime, not {age!r:.80}")
