"""The result backend of ``memory://``; waiting is told, never polled."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Self

from umbel.builtin.memory.space import Space, open_space
from umbel.builtin.memory.waiting import Waiter
from umbel.clock import Clock
from umbel.interfaces.backend import Backend, BackendCapability
from umbel.outcomes import ChordPart, ChordProgress, StoredResult
from umbel.states import is_final


class MemoryBackend(Backend):
    """A handle on the results of a space."""

    capabilities: ClassVar[frozenset[BackendCapability]] = frozenset(
        {BackendCapability.PUSH, BackendCapability.EXPIRES, BackendCapability.CHORD}
    )

    def __init__(self, space: Space, clock: Clock) -> None:
        super().__init__()
        self._store = space.results
        self._changed = self._store.changed
        self._clock = clock
        self._waiter = Waiter(self._changed, clock)

    @classmethod
    def from_url(cls, url: str, *, options: Mapping[str, Any], clock: Clock) -> Self:
        """Return a handle on what `url` names. Raises: ConfigError."""
        return cls(open_space(url, options), clock)

    def store(self, results: Sequence[StoredResult]) -> Sequence[str]:
        """Store `results`; returns ids of the tasks whose result was refused."""
        with self._changed:
            now = self._clock.monotonic()
            refused = [result.task_id for result in results if not self._store.put(result, now)]
            self._changed.notify_all()
            return refused

    def load(self, task_ids: Sequence[str]) -> Mapping[str, StoredResult]:
        """Return what is stored for `task_ids`."""
        with self._changed:
            return self._store.get(task_ids, self._clock.monotonic())

    def forget(self, task_ids: Sequence[str]) -> None:
        """Drop the results of `task_ids`."""
        with self._changed:
            self._store.drop(task_ids, self._clock.monotonic())

    def wait(self, task_ids: Sequence[str], *, timeout_s: float) -> Mapping[str, StoredResult]:
        """Wait until at least one of `task_ids` has a final result, at most `timeout_s`."""

        def final() -> dict[str, StoredResult]:
            found = self._store.get(task_ids, self._clock.monotonic())
            return {key: result for key, result in found.items() if is_final(result.state)}

        return self._waiter.wait_for(final, timeout_s=timeout_s)

    def interrupt(self) -> None:
        """End the waits of this handle, or else its next one that would wait."""
        self._waiter.interrupt()

    def expire(self, *, limit: int = 1000) -> int:
        """Drop up to `limit` expired results; `store` does it too."""
        with self._changed:
            return self._store.expire(self._clock.monotonic(), limit)

    def open_chord(
        self, group_id: str, size: int, *, ttl_s: float | None, body: bytes | None = None
    ) -> None:
        """Say that the chord of `group_id` has `size` parts."""
        with self._changed:
            self._store.chords.open(group_id, size, self._clock.monotonic(), ttl_s, body)

    def chord_body(self, group_id: str) -> bytes | None:
        """Return what an open chord was opened with."""
        with self._changed:
            return self._store.chords.body(group_id, self._clock.monotonic())

    def grow_chord(self, group_id: str, task_ids: Sequence[str], *, ttl_s: float | None) -> bool:
        """Say that a chord has a part more for each new id; tell whether it is open."""
        with self._changed:
            return self._store.chords.grow(group_id, task_ids, self._clock.monotonic(), ttl_s)

    def join_chord(self, parts: Sequence[ChordPart]) -> Mapping[str, Sequence[ChordPart]]:
        """Count `parts`; returns all parts of those chords that are complete or aborted."""
        with self._changed:
            return self._store.chords.join(parts, self._clock.monotonic())

    def close_chord(self, group_ids: Sequence[str]) -> None:
        """Forget the parts of chords whose body was sent."""
        with self._changed:
            self._store.chords.close(group_ids, self._clock.monotonic())

    def chord_progress(self, group_ids: Sequence[str]) -> Mapping[str, ChordProgress]:
        """Return how far chords and groups have come."""
        with self._changed:
            return self._store.chords.progress(group_ids, self._clock.monotonic())

    def close(self) -> None:
        """End waiting calls. Repeatable."""
        self.interrupt()
