"""Requests to store messages and to settle deliveries beside them: what the script is told.

On a single server one run does all. In a Cluster there is a run for each slot, the settling last.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple

import msgspec

from umbel.errors import AlreadySentError, QueueFullError
from umbel.messages import Delivery, Message, OnConflict
from umbel_broker_redis.consumed import Consumed
from umbel_broker_redis.entries import mark_of
from umbel_broker_redis.keys import Keys, Lane
from umbel_broker_redis.receipts import Held, by_lane, foreign
from umbel_broker_redis.send_script import SEND
from umbel_redis_client import Call, Client, Run, raised

#: Milliseconds that a message stays known while nobody settles it, after its due time: a Celery
#: worker that takes it from a shared queue leaves its key behind.
KNOWN_MS: Final = 7 * 86_400_000


class _Item(msgspec.Struct):
    """One message in a request; numbers are those of KEYS, 0 is none."""

    queue: str
    ready: int
    delayed: int
    once: int
    #: Unix milliseconds; 0: at once.
    due: int
    #: Text, since the msgpack of Redis knows no bytes.
    envelope: str
    #: How its mark writes the key by which it is known.
    mark: str
    #: The envelope of an earlier `send` that may have stored it; empty: there was none.
    doubted: str
    #: Which one that was; 0: none.
    doubt: int
    own: str
    channel: str
    #: It goes into the list also where it isn't due yet: nobody looks at the delay set.
    is_listed: bool


class _Bound(msgspec.Struct):
    queue: str
    most: int
    ready: list[int]
    delayed: list[int]
    #: How many wait where the script can't look: in other slots of a Cluster.
    elsewhere: int


class _Acks(msgspec.Struct):
    pending: int
    claimed: int
    fields: list[str]
    once: list[int]


class _Request(msgspec.Struct):
    """What the script is told."""

    now: str
    conflict: str
    #: Milliseconds.
    window: int
    keep: int
    #: Whether what waits may be replaced later, so that its place must be known.
    replaceable: bool
    #: How far a list is searched for what a `send` may have stored a moment ago.
    far: int = 200_000
    items: list[_Item] = []
    bounds: list[_Bound] = []
    acks: list[_Acks] = []


class Draft(NamedTuple):
    """A message with its envelope and lane."""

    message: Message
    lane: Lane
    envelope: bytes
    #: The envelope of an earlier `send` that may have stored it; empty: there was none.
    doubted: bytes = b""
    doubt: int = 0


class Terms(NamedTuple):
    """What goes for all messages of a call."""

    #: Unix milliseconds; empty: the server's own clock.
    now: str
    #: None: they aren't sent once.
    on_conflict: OnConflict | None
    bounds: Mapping[str, int]
    #: Seconds that they stay known once the broker is done with them.
    window_s: float = 0.0
    #: Whether what waits may be replaced later, so that its place must be known.
    replaceable: bool = False


class Prepared(NamedTuple):
    """Messages to be stored, and deliveries to be dropped, as a run of the script."""

    run: Run
    drafts: Sequence[Draft]
    held: Sequence[Held]
    #: Deliveries whose receipt is none of this broker's.
    foreign: list[Delivery]
    terms: Terms

    def told(self, reply: Any) -> tuple[list[str], list[Delivery]]:
        """Return what the script's reply tells: see `Runner.run`."""
        known, lost = _told(reply, self.drafts, self.held, self.terms)
        return known, self.foreign + lost


class _KeyTable:
    """Numbers the keys of one run."""

    def __init__(self) -> None:
        self._numbers: dict[str, int] = {}

    def __call__(self, key: str) -> int:
        return self._numbers.setdefault(key, len(self._numbers) + 1)

    def all(self) -> list[str]:
        return list(self._numbers)


class Runner:
    """Runs the script."""

    def __init__(self, client: Client, keys: Keys) -> None:
        self._client, self._keys = client, keys
        self._consumed = Consumed(client, keys)

    def run(
        self, drafts: Sequence[Draft], terms: Terms, acks: Sequence[Delivery] = ()
    ) -> tuple[list[str], list[Delivery]]:
        """Store `drafts` and drop what `acks` holds.

        Returns: Ids of the known ones, and deliveries that weren't held any more.
        Raises: AlreadySentError, QueueFullError: nothing was stored (in a Cluster: of that slot).
            ReplyError, ConnectionLostError.
        """
        if not self._client.is_cluster:
            made = self.prepared(drafts, terms, acks)
            return made.told(self._client.eval(*made.run))
        held = by_lane(self._keys, acks)
        lost = foreign(acks, held)
        slots = _by_slot(drafts)
        if len(slots) > 1:
            self._check_bounds(drafts, terms.bounds)
        known = []
        for some in slots:
            found, _ = self._run(some, (), terms)
            known += found
        for group in held:
            _, more = self._run((), (group,), terms)
            lost += more
        return known, lost

    def prepared(
        self, drafts: Sequence[Draft], terms: Terms, acks: Sequence[Delivery] = ()
    ) -> Prepared:
        """Return what `run` does on a single server, to be done along with other things."""
        held = by_lane(self._keys, acks)
        run = self._script_run(drafts, held, terms)
        return Prepared(run, drafts, held, foreign(acks, held), terms)

    def _run(
        self, drafts: Sequence[Draft], held: Sequence[Held], terms: Terms
    ) -> tuple[list[str], list[Delivery]]:
        run = self._script_run(drafts, held, terms)
        reply = self._client.eval(run.script, run.keys, run.args)
        return _told(reply, drafts, held, terms)

    def _script_run(self, drafts: Sequence[Draft], held: Sequence[Held], terms: Terms) -> Run:
        table = _KeyTable()
        once = terms.on_conflict is not None
        request = _Request(
            now=terms.now,
            conflict=str(terms.on_conflict or OnConflict.RETURN),
            window=round(terms.window_s * 1000),
            keep=KNOWN_MS,
            replaceable=terms.replaceable,
            items=[self._item(draft, table, once=once) for draft in drafts],
            bounds=self._bounds(drafts, terms.bounds, table),
            acks=[self._acks(group, table) for group in held],
        )
        return Run(SEND, table.all(), (msgspec.msgpack.encode(request),))

    def _item(self, draft: Draft, table: _KeyTable, *, once: bool) -> _Item:
        message, lane = draft.message, draft.lane
        key = message.once_key
        return _Item(
            queue=message.queue,
            ready=table(lane.ready),
            delayed=table(lane.delayed),
            once=table(self._keys.once(lane, key)) if once else 0,
            due=0 if message.due_at is None else round(message.due_at * 1000),
            envelope=draft.envelope.decode(),
            mark=mark_of(key) if once else "",
            doubted=draft.doubted.decode() if once else "",
            doubt=draft.doubt if once else 0,
            own=lane.own,
            channel=self._keys.channel(message.queue),
            is_listed=message.due_at is not None and self._consumed.is_celerys(message.queue),
        )

    def _acks(self, group: Held, table: _KeyTable) -> _Acks:
        lane = group.lane
        return _Acks(
            pending=table(lane.pending(group.consumer)),
            claimed=table(lane.claimed(group.consumer)),
            fields=[receipt.field for receipt, _ in group.each],
            once=[
                table(self._keys.once(lane, receipt.once)) if receipt.once else 0
                for receipt, _ in group.each
            ],
        )

    # -- bounds -------------------------------------------------------------------------------

    def _bounds(
        self, drafts: Sequence[Draft], bounds: Mapping[str, int], table: _KeyTable
    ) -> list[_Bound]:
        if not bounds:
            return []
        found = []
        for queue in dict.fromkeys(draft.message.queue for draft in drafts):
            if queue not in bounds:
                continue
            lanes, elsewhere = self._keys.lanes(queue), 0
            if self._client.is_cluster:  # then all drafts are of one lane
                elsewhere = self._waiting([lane for lane in lanes if lane != drafts[0].lane])
                lanes = [drafts[0].lane]
            ready = [table(lane.ready) for lane in lanes]
            delayed = [table(lane.delayed) for lane in lanes]
            found.append(_Bound(queue, bounds[queue], ready, delayed, elsewhere))
        return found

    def _check_bounds(self, drafts: Sequence[Draft], bounds: Mapping[str, int]) -> None:
        """Refuse what can't fit, before any of several slots of a Cluster is written to."""
        for queue, most in bounds.items():
            adding = sum(draft.message.queue == queue for draft in drafts)
            if adding and self._waiting(self._keys.lanes(queue)) + adding > most:
                raise QueueFullError.no_room(queue, most, adding)

    def _waiting(self, lanes: Sequence[Lane]) -> int:
        calls = []
        for lane in lanes:
            calls += [Call.of("LLEN", lane.ready), Call.of("ZCARD", lane.delayed)]
        return sum(raised(self._client.pipeline(calls)))


def _told(
    reply: Any, drafts: Sequence[Draft], held: Sequence[Held], terms: Terms
) -> tuple[list[str], list[Delivery]]:
    """Return what the script's reply tells: see `Runner.run`."""
    word, *details = reply
    if word == b"full":
        queue = details[0].decode()
        raise QueueFullError.no_room(queue, terms.bounds[queue], details[1])
    known = [drafts[index].message.id for index in details[0]]
    if word != b"sent":
        raise AlreadySentError(known)
    lost = zip(details[1][::2], details[1][1::2], strict=True)
    return known, [held[group].each[index][1] for group, index in lost]


def _by_slot(drafts: Sequence[Draft]) -> list[list[Draft]]:
    groups: dict[str, list[Draft]] = {}
    for draft in drafts:
        groups.setdefault(draft.lane.own, []).append(draft)
    return list(groups.values())
