"""The chords of one space. Methods are called with `changed` held; `now` is monotonic seconds."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from math import inf

from umbel.builtin.memory.expiring import ExpiringMap
from umbel.outcomes import ChordPart, ChordProgress
from umbel.states import PROPAGATE_STATES

#: Seconds for which a chord is known to be closed that wasn't known before.
_CLOSED_S = 300.0
#: Seconds for which one is known, at most, that is over.
_OVER_S = 86_400.0


class _Chord:
    __slots__ = ("body", "counted", "done", "failed", "grown", "is_closed", "parts", "size")

    def __init__(self) -> None:
        #: None: it wasn't opened yet.
        self.size: int | None = None
        #: Ids that it has a part more for.
        self.grown: set[str] = set()
        #: By task and index; the first one that came stands.
        self.parts: dict[tuple[str, int | None], ChordPart] = {}
        #: Tasks and indexes of parts without a result.
        self.counted: set[tuple[str, int | None]] = set()
        self.done = self.failed = 0
        self.body: bytes | None = None
        self.is_closed = False

    def count(self, part: ChordPart) -> None:
        """Take `part` in, unless it is known."""
        key = (part.task_id, part.index)
        if key in (self.counted if part.result is None else self.parts):
            return
        if part.result is None:
            self.counted.add(key)
        else:
            self.parts[key] = part
        self.done += 1
        self.failed += part.state in PROPAGATE_STATES

    def total(self) -> int | None:
        """Return how many parts it has; None: it wasn't opened yet."""
        return None if self.size is None else self.size + len(self.grown)


class ChordStore:
    """What a memory backend knows of chords."""

    def __init__(self) -> None:
        self._chords: ExpiringMap[_Chord] = ExpiringMap()

    def open(
        self, group_id: str, size: int, now: float, ttl_s: float | None, body: bytes | None
    ) -> None:
        """Say how many parts it has, and what it ends with."""
        chord = self._chord(group_id, now)
        if chord.is_closed:
            chord = _Chord()
        chord.size = size
        chord.body = chord.body if body is None else body
        self._keep(group_id, chord, now, ttl_s)

    def body(self, group_id: str, now: float) -> bytes | None:
        """Return what it ends with, while it is open."""
        return self._chord(group_id, now).body

    def grow(self, group_id: str, task_ids: Iterable[str], now: float, ttl_s: float | None) -> bool:
        """Say that it has a part more for each new id; tell whether it is open."""
        chord = self._chord(group_id, now)
        if chord.size is None or chord.is_closed:
            return False
        chord.grown.update(task_ids)
        self._keep(group_id, chord, now, ttl_s)
        return True

    def join(self, parts: Iterable[ChordPart], now: float) -> Mapping[str, Sequence[ChordPart]]:
        """Count `parts`; return all those of the chords that are complete or aborted."""
        joined: dict[str, _Chord] = {}
        aborted = set()
        for part in parts:
            chord = self._chord(part.group_id, now)
            if chord.is_closed:
                continue
            chord.count(part)
            self._keep(part.group_id, chord, now, part.ttl_s)
            if part.result is not None:
                joined[part.group_id] = chord
                if part.aborts:
                    aborted.add(part.group_id)
        return {
            group_id: sorted(chord.parts.values(), key=_place)
            for group_id, chord in joined.items()
            if (total := chord.total()) is not None
            and (len(chord.parts) >= total or group_id in aborted)
        }

    def close(self, group_ids: Iterable[str], now: float) -> None:
        """Forget the parts, and count no more."""
        for group_id in group_ids:
            chord = self._chords.get(group_id, now)
            if chord is None:
                chord = _Chord()
                self._keep(group_id, chord, now, _CLOSED_S)
            else:
                self._chords.shorten(group_id, now + _OVER_S)
            chord.is_closed, chord.body = True, None
            chord.parts.clear()
            chord.counted.clear()

    def progress(self, group_ids: Iterable[str], now: float) -> dict[str, ChordProgress]:
        """Return how far those have come that are known."""
        found = {}
        for group_id in group_ids:
            chord = self._chord(group_id, now)
            total = chord.total()
            if total is not None:
                found[group_id] = ChordProgress(total, chord.done, chord.failed)
        return found

    def _chord(self, group_id: str, now: float) -> _Chord:
        return self._chords.get(group_id, now) or _Chord()

    def _keep(self, group_id: str, chord: _Chord, now: float, ttl_s: float | None) -> None:
        self._chords.put(group_id, chord, now, None if ttl_s is None else now + ttl_s)


def _place(part: ChordPart) -> float:
    return inf if part.index is None else part.index
