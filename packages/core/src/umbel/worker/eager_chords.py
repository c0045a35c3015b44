"""The chords of one eager run: begun, counted and ended in one thread."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import inf

from umbel.outcomes import ChordPart


class EagerChords:
    """Counts as a backend does that has the capability CHORD."""

    def __init__(self) -> None:
        self._sizes: dict[str, int] = {}
        self._parts: dict[str, dict[tuple[str, int | None], ChordPart]] = {}

    def open_chord(self, group_id: str, size: int, *, ttl_s: float | None) -> None:
        """Say how many parts a chord has; it lasts as long as the run."""
        self._sizes[group_id] = size

    def join_chord(self, parts: Sequence[ChordPart]) -> Mapping[str, Sequence[ChordPart]]:
        """Count `parts`; return all parts of those chords that are complete."""
        for part in parts:
            known = self._parts.setdefault(part.group_id, {})
            known.setdefault((part.task_id, part.index), part)
        return {
            group_id: sorted(
                self._parts[group_id].values(),
                key=lambda part: inf if part.index is None else part.index,
            )
            for group_id in {part.group_id for part in parts}
            if len(self._parts[group_id]) >= self._sizes.get(group_id, inf)
        }

    def close_chord(self, group_ids: Sequence[str]) -> None:
        """Forget chords whose body was sent."""
        for group_id in group_ids:
            self._parts.pop(group_id, None)
            self._sizes.pop(group_id, None)
