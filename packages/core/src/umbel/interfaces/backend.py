"""The contract of a result backend: store and load batches of results, and wait for them.

A backend handle belongs to one process. Its methods may be called from several threads at once.
"""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import Any, ClassVar, Protocol

from umbel.clock import Clock
from umbel.errors import CapabilityError
from umbel.outcomes import ChordPart, ChordProgress, StoredResult
from umbel.states import SUCCESS, is_final

_FIRST_POLL_S = 0.005
_LONGEST_POLL_S = 0.5
#: Before the id of a group that is kept as a result.
_GROUP = "group:"


class BackendCapability(StrEnum):
    """What a backend can do beyond store and load."""

    #: `wait` is told of results, and doesn't poll.
    PUSH = "push"
    #: Results outlive the processes that use it.
    DURABLE = "durable"
    #: Results reach other processes.
    SHARED = "shared"
    #: Drops expired results by itself, without `expire`.
    EXPIRES = "expires"
    #: `open_chord`, `chord_body`, `grow_chord`, `join_chord`, `close_chord`, `chord_progress`.
    CHORD = "chord"


class Backend(ABC):
    """Keeps the results of tasks."""

    capabilities: ClassVar[frozenset[BackendCapability]] = frozenset()

    @abstractmethod
    def store(self, results: Sequence[StoredResult]) -> Sequence[str]:
        """Store `results`; return once they are as durable as the store makes them.

        A result replaces one of its task unless that one is of a higher `rank`, or of the same
        rank and its state of a higher `umbel.states.order_in_rank`. So a repeat is harmless, a
        late write of a superseded delivery is refused, and a late STARTED hides no progress.

        Returns: Ids of the tasks whose result was refused. Empty in the ordinary case.
        Raises: BackendUnavailableError: unknown whether it was done; the call may be repeated.
        """

    @abstractmethod
    def load(self, task_ids: Sequence[str]) -> Mapping[str, StoredResult]:
        """Return what is stored for `task_ids`; unknown and expired ones are left out."""

    @abstractmethod
    def forget(self, task_ids: Sequence[str]) -> None:
        """Drop the results of `task_ids`; unknown ones are passed over."""

    def wait(self, task_ids: Sequence[str], *, timeout_s: float) -> Mapping[str, StoredResult]:
        """Wait until at least one of `task_ids` has a final result, at most `timeout_s`.

        Returns: The final results among `task_ids`, at least one or, at the time's end or after
            `interrupt`, none. A missed notification costs at most a second.
        """
        pause, waited = _FIRST_POLL_S, 0.0
        while True:
            found = {key: r for key, r in self.load(task_ids).items() if is_final(r.state)}
            if found or waited >= timeout_s:
                return found
            pause = min(pause, timeout_s - waited)
            if self._interrupted.wait(pause):
                self._interrupted.clear()
                return {}
            waited += pause
            pause = min(pause * 1.5, _LONGEST_POLL_S)

    def interrupt(self) -> None:
        """Make a `wait` in another thread return at once."""
        self._interrupted.set()

    def expire(self, *, limit: int = 1000) -> int:
        """Drop up to `limit` expired results; returns how many. Not needed under EXPIRES."""
        return 0

    # -- groups that were saved ---------------------------------------------------------------

    def save_group(self, group_id: str, document: bytes, *, ttl_s: float | None) -> None:
        """Keep what a group is made of, in the place of what was saved of it before.

        Args:
            document: JSON, ``{"result": [[id, parent], [result tuples]]}``.
            ttl_s: Seconds that it is kept; None: for ever.
        Raises: BackendUnavailableError: unknown whether it was done; the call may be repeated.
        """
        key = _GROUP + group_id
        self.store([StoredResult(task_id=key, state=SUCCESS, body=document, ttl_s=ttl_s)])

    def load_group(self, group_id: str) -> bytes | None:
        """Return what was saved of a group; None where nothing is, or no longer."""
        key = _GROUP + group_id
        found = self.load([key]).get(key)
        return None if found is None else found.body

    def delete_group(self, group_id: str) -> None:
        """Drop what was saved of a group; its results stay."""
        self.forget([_GROUP + group_id])

    # -- CHORD --------------------------------------------------------------------------------

    def open_chord(
        self, group_id: str, size: int, *, ttl_s: float | None, body: bytes | None = None
    ) -> None:
        """Say that the chord or group of `group_id` has `size` parts; before any of them is sent.

        Repeatable: of an open chord, the parts that were joined stay, and so do what it has grown
        by and, where none is given, its `body`; a closed one begins anew.

        Args:
            body: What to keep for `chord_body`, any bytes; None: a group, or it isn't known.
        """
        self._need(BackendCapability.CHORD)

    def chord_body(self, group_id: str) -> bytes | None:
        """Return what `open_chord` was given as the body of a chord that is open; None: nothing.

        Asked for where a part can't be read, so that no message tells what its chord ends with.
        """
        return None

    def grow_chord(self, group_id: str, task_ids: Sequence[str], *, ttl_s: float | None) -> bool:
        """Say that a chord has a part more for each of `task_ids` that wasn't told before.

        Args:
            task_ids: Any ids, each of which makes a call that is repeated harmless.
            ttl_s: Seconds that the chord is kept from now on, as by a part.
        Returns: Whether the chord is open. One that is unknown or closed doesn't grow.
        Raises: BackendUnavailableError: unknown whether it was done; the call may be repeated.
        """
        self._need(BackendCapability.CHORD)
        return False

    def join_chord(self, parts: Sequence[ChordPart]) -> Mapping[str, Sequence[ChordPart]]:
        """Count `parts`, each once by its task and index however often it comes.

        A part without a result is counted for `chord_progress` alone: it isn't kept, makes no
        chord complete, and never comes back from here. What a part said first stands. A part of
        a closed chord does nothing.

        Returns: By group id, all parts so far in order of their index, for each chord among
            `parts` that is open and either complete or aborted by one of these `parts`, which may
            have been counted before: its body is to be sent, or to fail, then the chord closed.
            Two callers may be told so of one chord: the body's id makes them one. A chord that
            was never opened stays incomplete.
        Raises: BackendUnavailableError: unknown whether it was done; the call may be repeated.
        """
        self._need(BackendCapability.CHORD)
        return {}

    def close_chord(self, group_ids: Sequence[str]) -> None:
        """Forget the parts of chords whose body was sent: what is joined later counts no more.

        `chord_progress` knows them until their time is over all the same, or for a day.
        """
        self._need(BackendCapability.CHORD)

    def chord_progress(self, group_ids: Sequence[str]) -> Mapping[str, ChordProgress]:
        """Return how far chords and groups have come, at the same cost for any size.

        Returns: By group id; those that were never opened and those whose time is over are left
            out.
        """
        self._need(BackendCapability.CHORD)
        return {}

    def _need(self, capability: BackendCapability) -> None:
        """Raise CapabilityError unless a subclass declares (and so overrides) `capability`."""
        raise CapabilityError(type(self).__name__, capability)

    def check(self) -> None:
        """Raise BackendError where the backend can't be used."""

    def close(self) -> None:
        """Free connections. Repeatable."""

    def __init__(self) -> None:
        self._interrupted = threading.Event()


class BackendFactory(Protocol):
    """Makes a backend handle for this process. Opens nothing before its first use."""

    def __call__(self, url: str, *, options: Mapping[str, Any], clock: Clock) -> Backend:
        """Return the backend that `url` names.

        Args:
            url: As the user wrote it, password included.
            options: ``result_backend_transport_options``.
            clock: Where to read the time.
        Raises: ConfigError: the URL or an option is wrong.
        """
