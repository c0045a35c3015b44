"""The chords of one eager run: begun, counted and ended in one thread."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import inf

from umbel.outcomes import ChordPart


class EagerChords:
    """Counts as a backend does that has the capability CHORD."""

    def __init__(self) -> None:
        self._sizes: dict[str, int] = {}
        self._bodies: dict[str, bytes] = {}
        self._grown: dict[str, set[str]] = {}
        self._parts: dict[str, dict[tuple[str, int | None], ChordPart]] = {}

    def open_chord(
        self, group_id: str, size: int, *, ttl_s: float | None, body: bytes | None = None
    ) -> None:
        """Say how many parts a chord has; it lasts as long as the run."""
        self._sizes[group_id] = size
        if body is not None:
            self._bodies[group_id] = body

    def chord_body(self, group_id: str) -> bytes | None:
        """Return what an open chord was opened with."""
        return self._bodies.get(group_id)

    def grow_chord(self, group_id: str, task_ids: Sequence[str], *, ttl_s: float | None) -> bool:
        """Say that a chord has a part more for each new id; tell whether it is open."""
        if group_id not in self._sizes:
            return False
        self._grown.setdefault(group_id, set()).update(task_ids)
        return True

    def join_chord(self, parts: Sequence[ChordPart]) -> Mapping[str, Sequence[ChordPart]]:
        """Count `parts`; return all parts of those chords that are complete or aborted."""
        joined = [part for part in parts if part.result is not None]
        for part in joined:
            known = self._parts.setdefault(part.group_id, {})
            known.setdefault((part.task_id, part.index), part)
        aborted = {part.group_id for part in joined if part.aborts}
        return {
            group_id: sorted(
                self._parts[group_id].values(),
                key=lambda part: inf if part.index is None else part.index,
            )
            for group_id in {part.group_id for part in joined}
            if group_id in self._sizes
            and (group_id in aborted or len(self._parts[group_id]) >= self._total(group_id))
        }

    def close_chord(self, group_ids: Sequence[str]) -> None:
        """Forget chords whose body was sent."""
        for group_id in group_ids:
            self._parts.pop(group_id, None)
            self._sizes.pop(group_id, None)
            self._grown.pop(group_id, None)
            self._bodies.pop(group_id, None)

    def _total(self, group_id: str) -> int:
        return self._sizes[group_id] + len(self._grown.get(group_id, ()))
