"""Chords: their parts counted, their bodies sent with the results, or failed with an error.

A repeat of any of it does no harm: parts count once, and the ids of what follows from a chord
derive from the chord's, whoever joins its last part.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from umbel.canvas.expansion import Expansion
from umbel.canvas.policies import COLLECT, IGNORE, policy_of
from umbel.canvas.references import stored
from umbel.canvas.unreached import errbacks_of
from umbel.error_info import error_info
from umbel.errors import ChordError, DecodeError, UmbelError
from umbel.ids import derived_id
from umbel.interfaces.backend import BackendCapability
from umbel.outcomes import ChordPart, ErrorInfo
from umbel.requests import Request
from umbel.results.codec import JSON
from umbel.signatures import Signature
from umbel.states import PROPAGATE_STATES
from umbel.worker.follow_ups import errback_messages, messages_of
from umbel.worker.joinings import Beyond, Joiner, Joining
from umbel.worker.kept_results import PLACE, are_long, kept_aside
from umbel.workflow_store import Opened

if TYPE_CHECKING:
    from umbel.interfaces.backend import Backend
    from umbel.messages import Message
    from umbel.outcomes import StoredResult
    from umbel.worker.follow_ups import FollowUps
    from umbel.worker.host import Host
    from umbel.worker.revocations import Revocations

logger = logging.getLogger("umbel.worker")

#: Why a body can't be sent: besides our own errors what one of foreign make comes to, whose options
#: may be of any type, and which may be nested at any depth.
_UNSENDABLE = (UmbelError, TypeError, ValueError, AttributeError, LookupError, RecursionError)


class Counter(Opened, Protocol):
    """The part of a backend that chords need."""

    def grow_chord(self, group_id: str, task_ids: Sequence[str], *, ttl_s: float | None) -> bool:
        """Say that a chord has a part more for each new id; tell whether it is open."""

    def join_chord(self, parts: Sequence[ChordPart]) -> Mapping[str, Sequence[ChordPart]]:
        """Count `parts`; return all parts of those chords that are complete."""

    def close_chord(self, group_ids: Sequence[str]) -> None:
        """Forget the parts of chords whose body was sent."""


class Refusal(NamedTuple):
    """A message is refused for good, and it may be the body of a chord."""

    error: Exception
    #: Whether anything will be sent: if not, no chord that ends now can send its body.
    sends: bool = True


class Ended(NamedTuple):
    """What is over once the messages are sent that follow from it."""

    #: Chords, to be closed.
    group_ids: list[str]
    #: Pieces of workflows that were passed on, by their keys.
    keys: list[str]


class Chords:
    """Counts the parts of chords, for one settler."""

    def __init__(
        self,
        host: Host,
        backend: Backend | None,
        *,
        counter: Counter | None = None,
        revocations: Revocations | None = None,
    ) -> None:
        """Store results in `backend`; count parts in `counter`, or there where it can do that."""
        self._host = host
        self._joiner = Joiner(host)
        self._store = host.workflow_store
        if backend is not None and BackendCapability.CHORD in backend.capabilities:
            counter = counter or backend
        self._backend, self._counter = backend, counter
        self._revocations = revocations
        self._has_told = False
        #: Chords that are over, where the backend couldn't be told yet.
        self._unclosed: list[str] = []
        #: Whether the last `settle` was to send the body of a chord.
        self.has_sent = False

    def settle(
        self, beyond: Sequence[Beyond], sends: list[Message], refusal: Refusal | None = None
    ) -> Ended:
        """Keep what messages refer to, open chords that begin, and count parts that have come to their end.

        Args:
            beyond: What outcomes that are stored mean to chords.
            sends: The messages that follow from them; those that follow from chords are added.
            refusal: Why a try before this one came to nothing: bodies that would have been sent
                then have failed.
        Returns: What is over once `sends` are sent, for `close`.
        Raises: what the backend does; all of it may be repeated.
        """
        ended = Ended([], [])
        self.has_sent = False
        for each in beyond:
            self._begin(each.following)
            if each.following.grown is not None and self._counter is not None:
                # Before the part of the task that adds them: the chord isn't over without them.
                group_id, task_ids, *_ = each.following.grown
                self._counter.grow_chord(group_id, task_ids, ttl_s=self._joiner.ttl_s)
            ended.keys.extend(each.following.passed_on)
        results = [result for each in beyond for result in each.unreached]
        waiting = [
            (joining if joining.body is not None else self._with_body(joining), each.request)
            for each in beyond
            for joining in each.joinings
        ]
        while waiting:
            complete = self._complete([joining for joining, _ in waiting])
            known = {
                joining.part.group_id: (joining.body, parent)
                for joining, parent in waiting
                if joining.body is not None
            }
            aborting = {each.part.group_id: each.part for each, _ in waiting if each.part.aborts}
            waiting = []
            for group_id, parts in complete.items():
                if group_id in ended.group_ids:
                    continue  # a part more, of one that has failed already
                if group_id not in known:
                    logger.error("chord %s: no message tells what its body is", group_id)
                    continue
                chord = self._chord(group_id, *known[group_id], aborting.get(group_id), ended)
                # A body that can't run may be a part of a chord itself.
                failed = self._end(chord, parts, sends, results, refusal)
                waiting += [(each, chord.parent) for each in failed]
            if refusal is not None and refusal.sends:
                refusal = None  # those that end since one of these fails weren't tried yet
        if results and self._backend is not None:
            self._backend.store(results)
        return ended

    def _with_body(self, joining: Joining) -> Joining:
        """Return a part that couldn't be read with the body of its chord, where that is known."""
        if joining.part.result is None or self._counter is None:
            return joining
        group_id = joining.part.group_id
        try:
            body = self._store.chord_body(self._counter, group_id)
            return joining if body is None else self._joiner.with_body(joining, body)
        except DecodeError as exc:
            logger.error("chord %s: its body can't be read: %s", group_id, exc)
            return joining

    def _chord(
        self,
        group_id: str,
        raw: Any,
        parent: Request,
        aborting: ChordPart | None,
        ended: Ended,
    ) -> _Chord:
        """Return a chord that is over, its body read; note what will be over with it."""
        body = Signature.from_dict(raw)
        policy = policy_of(body)
        ended.group_ids.append(group_id)
        if isinstance(body, stored):
            ended.keys.append(body.key)
            body = self._store.load(body)
        return _Chord(group_id, body, policy, parent, aborting)

    def _begin(self, following: FollowUps | Expansion) -> None:
        """Keep and open what messages need that are about to be sent."""
        if following.pieces:
            self._store.keep(following.pieces)
        if self._counter is not None and following.chords:
            expires_s = self._joiner.expires_s
            self._store.open_chords(self._counter, following.chords, expires_s=expires_s)

    def keep_added(self, following: FollowUps) -> None:
        """Keep what a task has added to its chord, before its success is stored.

        Who finds that success, and settles it anew, finds this too.
        """
        grown = following.grown
        if grown is not None and self._store.is_usable:
            self._store.put(grown.key, grown.raw, ttl_s=self._store.ttl_s)

    def close(self, ended: Ended) -> None:
        """Forget what is over. Raises nothing: what is left of it expires by itself."""
        self._unclosed += ended.group_ids
        try:
            if self._counter is not None and self._unclosed:
                self._counter.close_chord(self._unclosed)
                self._unclosed = []
            if ended.keys:
                self._store.passed_on(ended.keys)
        except Exception as exc:  # noqa: BLE001 - a plugin's own errors count as an outage
            logger.debug("what is over of workflows can't be forgotten now: %s", exc)

    def _complete(self, joinings: Sequence[Joining]) -> Mapping[str, Sequence[ChordPart] | None]:
        """Return the parts of the chords that are over; None of those that nobody counts."""
        if self._counter is not None:
            return self._counter.join_chord([each.part for each in joinings])
        of_chords = [each.part for each in joinings if each.body is not None]
        if of_chords and not self._has_told:
            self._has_told = True
            logger.error("%s; the bodies of chords fail", self._why_not())
        # By one of its parts alone, so that it fails once.
        return {part.group_id: None for part in of_chords if not part.index}

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
        refusal: Refusal | None,
    ) -> list[Joining]:
        """Send the body of a chord that is over, or let it fail; return what that joins."""
        try:
            if parts is None:
                raise ChordError(self._why_not())
            self._check_revoked(chord.group_id, parts)
            values = self._values(parts, chord)
            if refusal is not None:
                raise ChordError(f"Callback error: {refusal.error}")
            if isinstance(chord.body, stored):
                raise ChordError(f"its body is no longer kept, under the key {chord.body.key!r}")
            expansion = chord.expansion(self._host)
            if are_long(parts, self._store):
                expansion.add(chord.body, [PLACE], "body")
                expansion.calls = kept_aside(expansion.calls, values, self._store)
            else:
                expansion.add(chord.body, [values], "body")
            messages = messages_of(expansion, chord.parent, self._host)
        except OSError:  # an outage
            raise
        except _UNSENDABLE as exc:
            failed = exc if isinstance(exc, ChordError) else ChordError(f"Callback error: {exc}")
            error = error_info(failed, with_traceback=False)
            return self._fail(chord, error, sends, results)
        self._begin(expansion)
        sends.extend(messages)
        self.has_sent = True
        return []

    def _check_revoked(self, group_id: str, parts: Sequence[ChordPart]) -> None:
        """Raise ChordError where what the body follows from was revoked, be it over or not."""
        if not self._revocations:
            return
        for each in parts:
            if self._revocations.stops(each.task_id):
                raise ChordError(f"Dependency {each.task_id} raised TaskRevokedError('revoked')")
        if self._revocations.stops(group_id):
            raise ChordError(f"Group {group_id} raised TaskRevokedError('revoked')")

    def _values(self, parts: Sequence[ChordPart], chord: _Chord) -> list[Any]:
        """Return the results of all parts, and of those that failed what the policy says.

        Raises: ChordError: a failed part fails the body.
        """
        loads = self._host.serializer(JSON).loads
        values = []
        for part in parts:
            value = loads(part.result or b"null")
            if part.state in PROPAGATE_STATES:
                if chord.policy == IGNORE:
                    continue
                if chord.policy != COLLECT:
                    raise ChordError(f"Dependency {part.task_id} raised {_shown(value)}")
            values.append(value)
        if chord.aborting is not None:
            # It said before that it succeeded, and that stands; others may be missing.
            value = loads(chord.aborting.result or b"null")
            raise ChordError(f"Dependency {chord.aborting.task_id} raised {_shown(value)}")
        return values

    def _fail(
        self, chord: _Chord, error: ErrorInfo, sends: list[Message], results: list[StoredResult]
    ) -> list[Joining]:
        """Let a body fail that can't run; return the chords that it is a part of."""
        logger.error("chord %s: its body won't run: %s", chord.group_id, error.exc_message[0])
        for index, (errback, task_id) in enumerate(errbacks_of(chord.body, self._store.load)):
            # Of the body, which never ran, no more is known.
            failed = Request(id=task_id, task=chord.body.task, called_directly=False)
            expansion = chord.expansion(self._host)
            what = (errback, failed, error, f"errback:{index}")
            messages = errback_messages(*what, expansion, chord.parent, self._host)
            if messages:
                self._begin(expansion)
                sends.extend(messages)
        now = self._host.clock.time()
        joinings, failures = self._joiner.of_unreached([chord.body], error, now)
        results += failures
        return joinings


class _Chord(NamedTuple):
    group_id: str
    body: Signature[Any]
    #: What a failed part means.
    policy: str
    #: Whose end was the end of the header.
    parent: Request
    #: The part that lets it fail before all are there; None: all are.
    aborting: ChordPart | None

    def expansion(self, host: Host) -> Expansion:
        """Return an empty one: what follows from a chord is the same whatever part was the last."""
        return host.workflow_store.expansion(lambda place: derived_id(self.group_id, place))


def _shown(value: Any) -> str:
    """Return the repr of an error in Celery's JSON form."""
    if not isinstance(value, dict) or "exc_type" not in value:
        return repr(value)
    message = value.get("exc_message")
    args = message if isinstance(message, list) else [message]
    return f"{value['exc_type']}({', '.join(map(repr, args))})"
