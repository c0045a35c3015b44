"""What the parts of `BackendSuite` that are about chords share."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

import pytest

from umbel.errors import CapabilityError
from umbel.ids import new_id
from umbel.interfaces.backend import BackendCapability
from umbel.outcomes import ChordPart
from umbel_testing.backend_kit import BackendKit

#: How long chords are kept, where a test doesn't wait for their end.
TTL_S = 3600.0
#: An error in Celery's JSON form.
ERROR = b'{"exc_type": "ValueError", "exc_message": ["bad"], "exc_module": "builtins"}'

S = TypeVar("S", bound=BackendKit)


def chords(test: Callable[[S], None]) -> Callable[[S], None]:
    """Mark a test of CHORD: where it isn't declared, the calls are checked to be refused."""

    @functools.wraps(test)
    def run(self: S) -> None:
        backend = self.open()
        if BackendCapability.CHORD in backend.capabilities:
            test(self)
            return
        for call in (
            lambda: backend.open_chord("kit", 1, ttl_s=None),
            lambda: backend.grow_chord("kit", ["more"], ttl_s=None),
            lambda: backend.join_chord([part("kit")]),
            lambda: backend.close_chord(["kit"]),
            lambda: backend.chord_progress(["kit"]),
        ):
            with pytest.raises(CapabilityError):
                call()

    return run


def part(
    group_id: str,
    index: int | None = 0,
    *,
    task_id: str | None = None,
    state: str = "SUCCESS",
    result: bytes | None = b"5",
    ttl_s: float | None = TTL_S,
    aborts: bool = False,
) -> ChordPart:
    """Return a part such as a worker joins."""
    return ChordPart(
        group_id=group_id,
        index=index,
        task_id=new_id() if task_id is None else task_id,
        state=state,
        result=result,
        ttl_s=ttl_s,
        aborts=aborts,
    )


def failed(group_id: str, index: int | None = 0, *, aborts: bool = False) -> ChordPart:
    """Return the part of a task that failed."""
    return part(group_id, index, state="FAILURE", result=ERROR, aborts=aborts)


def parts_of(group_id: str, size: int) -> list[ChordPart]:
    """Return all parts of a chord, each with a value of its own."""
    return [part(group_id, index, result=b"%d" % index) for index in range(size)]


#: What a part says; a store may write its JSON in another way, and needn't tell how long it is kept.
_Told = dict[str, list[tuple[str, str, str]]]


def told(found: Mapping[str, Sequence[ChordPart]]) -> _Told:
    """Return what `join_chord` answered: of each part its task, state and value."""
    return {
        group: [(one.task_id, str(one.state), _same_json(one.result)) for one in parts]
        for group, parts in found.items()
    }


def _same_json(result: bytes | None) -> str:
    assert result is not None, "a part without a result isn't to come back"
    return json.dumps(json.loads(result), sort_keys=True)


def complete(parts: Sequence[ChordPart]) -> _Told:
    """Return what `told` is when the chord of `parts` is complete."""
    return told({parts[0].group_id: parts})
