"""Which dead letters are meant: by filter, or by name."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from fnmatch import fnmatchcase
from typing import TypedDict

import msgspec

from umbel.errors import DeadLetterError, near_matches
from umbel.messages import DeadLetter, Malformed

#: Characters that the beginning of an id needs to stand for it: receipts may be short numbers.
SHORTEST_PREFIX = 4

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


def task_of(letter: DeadLetter) -> str | None:
    """Return the name of the letter's task; None where it can't be read."""
    return None if isinstance(letter.message, Malformed) else letter.message.task


def id_of(letter: DeadLetter) -> str | None:
    """Return the id of the letter's task; None where it can't be read."""
    return None if isinstance(letter.message, Malformed) else letter.message.id


class Named:
    """Finds letters by task id, by the beginning of one, or by receipt."""

    def __init__(self, names: Iterable[str]) -> None:
        self._found: dict[str, list[DeadLetter]] = {name: [] for name in names}
        #: Names that are receipts stand for nothing else.
        self._receipts: set[str] = set()

    def offer(self, letter: DeadLetter) -> None:
        """Look at one letter of all that there are."""
        task_id = id_of(letter) or ""
        for name, found in self._found.items():
            if name == letter.receipt:
                found[:] = [letter]
                self._receipts.add(name)
            elif name not in self._receipts and _stands_for(name, task_id):
                found.append(letter)

    def letters(self) -> list[DeadLetter]:
        """Return what was found, in the order of the names, each once.

        Raises: DeadLetterError: a name stands for none, or for several.
        """
        chosen: dict[str, DeadLetter] = {}
        for name, found in self._found.items():
            exact = [letter for letter in found if id_of(letter) == name] or found
            if not exact:
                raise DeadLetterError(
                    f"there is no dead letter {name!r}; name one by its task's id, the first "
                    f"{SHORTEST_PREFIX} or more characters of it, or its receipt"
                )
            if len(exact) > 1:
                shown = ", ".join(f"{one.receipt} ({id_of(one)})" for one in exact[:5])
                raise DeadLetterError(
                    f"{name!r} stands for {len(exact)} dead letters; name one by its receipt: "
                    f"{shown}{' …' if len(exact) > 5 else ''}"
                )
            chosen[exact[0].receipt] = exact[0]
        return list(chosen.values())


def _stands_for(name: str, task_id: str) -> bool:
    return task_id == name or (len(name) >= SHORTEST_PREFIX and task_id.startswith(name))
