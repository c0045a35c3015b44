"""The chords of one space. Methods are called with `changed` held; `now` is monotonic seconds."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from math import inf

from umbel.builtin.memory.expiring import ExpiringMap
from umbel.outcomes import ChordPart

#: Seconds for which a closed chord is known as such: what is joined later than that is alone.
_CLOSED_S = 300.0


class _Chord:
    __slots__ = ("is_closed", "parts", "size")

    def __init__(self) -> None:
        #: None: it wasn't opened yet.
        self.size: int | None = None
        #: By task and index; the first one that came stands.
        self.parts: dict[tuple[str, int | None], ChordPart] = {}
        self.is_closed = False


class ChordStore:
    """What a memory backend knows of chords."""

    def __init__(self) -> None:
        self._chords: ExpiringMap[_Chord] = ExpiringMap()

    def open(self, group_id: str, size: int, now: float, ttl_s: float | None) -> None:
        """Say how many parts it has."""
        chord = self._chord(group_id, now)
        if chord.is_closed:
            chord = _Chord()
        chord.size = size
        self._keep(group_id, chord, now, ttl_s)

    def join(self, parts: Iterable[ChordPart], now: float) -> Mapping[str, Sequence[ChordPart]]:
        """Count `parts`; return all those of the chords that are complete."""
        touched: dict[str, _Chord] = {}
        for part in parts:
            chord = self._chord(part.group_id, now)
            if not chord.is_closed:
                chord.parts.setdefault((part.task_id, part.index), part)
                self._keep(part.group_id, chord, now, part.ttl_s)
                touched[part.group_id] = chord
        return {
            group_id: sorted(chord.parts.values(), key=_place)
            for group_id, chord in touched.items()
            if chord.size is not None and len(chord.parts) >= chord.size
        }

    def close(self, group_ids: Iterable[str], now: float) -> None:
        """Forget the parts, and count no more."""
        for group_id in group_ids:
            chord = _Chord()
            chord.is_closed = True
            self._keep(group_id, chord, now, _CLOSED_S)

    def _chord(self, group_id: str, now: float) -> _Chord:
        return self._chords.get(group_id, now) or _Chord()

    def _keep(self, group_id: str, chord: _Chord, now: float, ttl_s: float | None) -> None:
        self._chords.put(group_id, chord, now, None if ttl_s is None else now + ttl_s)


def _place(part: ChordPart) -> float:
    return inf if part.index is None else part.index
