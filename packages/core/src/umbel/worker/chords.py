"""Chords: their parts counted, their bodies sent with the results, or failed with an error.

A repeat of any of it does no harm: parts count once, and the ids of what follows from a chord
derive from the chord's, whoever joins its last part.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from umbel.canvas.expansion import ChordSize, Expansion
from umbel.canvas.unreached import errbacks_of
from umbel.error_info import error_info
from umbel.errors import ChordError, UmbelError
from umbel.ids import derived_id
from umbel.interfaces.backend import BackendCapability
from umbel.outcomes import ChordPart, ErrorInfo
from umbel.requests import Request
from umbel.results.codec import JSON
from umbel.signatures import Signature
from umbel.states import PROPAGATE_STATES
from umbel.worker.errbacks import errback_call
from umbel.worker.follow_ups import messages_of
from umbel.worker.joinings import Beyond, Joiner, Joining

if TYPE_CHECKING:
    from umbel.interfaces.backend import Backend
    from umbel.messages import Message
    from umbel.outcomes import StoredResult
    from umbel.worker.host import Host

logger = logging.getLogger("umbel.worker")


class Counter(Protocol):
    """The part of a backend that chords need."""

    def open_chord(self, group_id: str, size: int, *, ttl_s: float | None) -> None:
        """Say how many parts a chord has."""

    def join_chord(self, parts: Sequence[ChordPart]) -> Mapping[str, Sequence[ChordPart]]:
        """Count `parts`; return all parts of those chords that are complete."""

    def close_chord(self, group_ids: Sequence[str]) -> None:
        """Forget the parts of chords whose body was sent."""


class Chords:
    """Counts the parts of chords, for one settler."""

    def __init__(
        self, host: Host, backend: Backend | None, *, counter: Counter | None = None
    ) -> None:
        """Store results in `backend`; count parts in `counter`, or there where it can do that."""
        self._host = host
        self._joiner = Joiner(host)
        if backend is not None and BackendCapability.CHORD in backend.capabilities:
            counter = counter or backend
        self._backend, self._counter = backend, counter
        self._has_told = False
        #: Chords that are over, where the backend couldn't be told yet.
        self._unclosed: list[str] = []

    def settle(self, beyond: Sequence[Beyond], sends: list[Message]) -> list[str]:
        """Open chords that begin, and count parts that have come to their end.

        Args:
            beyond: What outcomes that are stored mean to chords.
            sends: The messages that follow from them; those that follow from chords are added.
        Returns: The chords that are over, to be closed once `sends` are sent.
        Raises: what the backend does; all of it may be repeated.
        """
        for each in beyond:
            self._open(each.chords)
        results = [result for each in beyond for result in each.unreached]
        over: list[str] = []
        waiting = [(joining, each.request) for each in beyond for joining in each.joinings]
        while waiting:
            by_group = {joining.part.group_id: (joining, parent) for joining, parent in waiting}
            complete = self._complete([joining for joining, _ in waiting])
            waiting = []
            for group_id, parts in complete.items():
                joining, parent = by_group[group_id]
                chord = _Chord(group_id, Signature.from_dict(joining.body), parent)
                over.append(group_id)
                # A body that can't run may be a part of a chord itself.
                waiting += [(each, parent) for each in self._end(chord, parts, sends, results)]
        if results and self._backend is not None:
            self._backend.store(results)
        return over

    def _open(self, chords: Sequence[ChordSize]) -> None:
        if self._counter is not None:
            for each in chords:
                self._counter.open_chord(each.group_id, each.size, ttl_s=self._joiner.ttl_s)

    def close(self, group_ids: Sequence[str]) -> None:
        """Forget chords that are over. Raises nothing: what is left of them expires by itself."""
        if self._counter is None or not (group_ids or self._unclosed):
            return
        self._unclosed += group_ids
        try:
            self._counter.close_chord(self._unclosed)
        except Exception as exc:  # noqa: BLE001 - a plugin's own errors count as an outage
            logger.debug("chords that are over can't be closed now: %s", exc)
        else:
            self._unclosed = []

    def _complete(self, joinings: Sequence[Joining]) -> Mapping[str, Sequence[ChordPart] | None]:
        """Return the parts of the chords that are over; None of those that nobody counts."""
        if self._counter is not None:
            return self._counter.join_chord([each.part for each in joinings])
        if not self._has_told:
            self._has_told = True
            logger.error("%s; the bodies of chords fail", self._why_not())
        # By one of its parts alone, so that it fails once.
        return {each.part.group_id: None for each in joinings if not each.part.index}

    def _why_not(self) -> str:
        if self._backend is None:
            return "chords can't be counted: there is no result backend; set result_backend"
        name = type(self._backend).__name__
        return f"chords can't be counted: {name} has no capability 'chord'; use another backend"

    def _end(
        self,
        chord: _Chord,
        parts: Sequence[ChordPart] | None,
        sends: list[Message],
        results: list[StoredResult],
    ) -> list[Joining]:
        """Send the body of a chord that is over, or let it fail; return what that joins."""
        try:
            if parts is None:
                raise ChordError(self._why_not())
            values = self._values(parts)
            expansion = chord.expansion()
            expansion.add(chord.body, [values], "body")
            messages = messages_of(expansion, chord.parent, self._host)
        except UmbelError as exc:
            failed = exc if isinstance(exc, ChordError) else ChordError(f"Callback error: {exc}")
            error = error_info(failed, with_traceback=False)
            return self._fail(chord, error, sends, results)
        self._open(expansion.chords)
        sends.extend(messages)
        return []

    def _values(self, parts: Sequence[ChordPart]) -> list[Any]:
        """Return the results of all parts. Raises: ChordError: one of them has none."""
        loads = self._host.serializer(JSON).loads
        values = []
        for part in parts:
            value = loads(part.result)
            if part.state in PROPAGATE_STATES:
                raise ChordError(f"Dependency {part.task_id} raised {_shown(value)}")
            values.append(value)
        return values

    def _fail(
        self, chord: _Chord, error: ErrorInfo, sends: list[Message], results: list[StoredResult]
    ) -> list[Joining]:
        """Let a body fail that can't run; return the chords that it is a part of."""
        logger.error("chord %s: its body won't run: %s", chord.group_id, error.exc_message[0])
        expansion = chord.expansion()
        for index, (errback, task_id) in enumerate(errbacks_of(chord.body)):
            # Of the body, which never ran, no more is known.
            failed = Request(id=task_id, task=chord.body.task, called_directly=False)
            call, args = errback_call(errback, failed, error, self._host)
            expansion.add(call, args, f"errback:{index}")
        self._open(expansion.chords)
        sends.extend(messages_of(expansion, chord.parent, self._host))
        now = self._host.clock.time()
        results += self._joiner.results_of_unreached([chord.body], error, now)
        return self._joiner.of_unreached([chord.body], error)


class _Chord(NamedTuple):
    group_id: str
    body: Signature
    #: Whose end was the end of the header.
    parent: Request

    def expansion(self) -> Expansion:
        """Return an empty one: what follows from a chord is the same whatever part was the last."""
        return Expansion(lambda place: derived_id(self.group_id, place))


def _shown(value: Any) -> str:
    """Return the repr of an error in Celery's JSON form."""
    if not isinstance(value, dict) or "exc_type" not in value:
        return repr(value)
    message = value.get("exc_message")
    args = message if isinstance(message, list) else [message]
    return f"{value['exc_type']}({', '.join(map(repr, args))})"
