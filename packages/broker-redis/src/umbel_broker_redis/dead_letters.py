"""What won't be tried again by itself: kept whole beside its lane, with the reason.

A record is four parts, with a line break behind each of the first three: unix milliseconds of the
death, reason and kind as JSON, details as JSON, and the entry, whatever its bytes are.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, Final, NamedTuple

import msgspec

from umbel.errors import BrokerError
from umbel.messages import Burial, DeadLetter, DeathKind, Message
from umbel_broker_redis.claims import hold_for
from umbel_broker_redis.entries import read_entry
from umbel_broker_redis.envelope import Codec
from umbel_broker_redis.keys import STEPS, Keys, Lane
from umbel_broker_redis.lua import NOW, ONCE_KEY, WHOLE
from umbel_broker_redis.paging import Merged
from umbel_broker_redis.queue_names import used_queues
from umbel_broker_redis.receipts import by_lane
from umbel_broker_redis.replaying import Replay, Replayer
from umbel_redis_client import Call, Client, Script, raised

#: Most that one script buries or drops.
_CHUNK: Final = 200

#: Moves what is held to the dead letters. They are in order by the microsecond of their burial,
#: whatever clock `now` is of; no two of a lane have the same. What was sent once isn't known any
#: more.
#: KEYS: pending, dead, dead_records. ARGV: now, what the keys of what was sent once begin with, then
#: in turn field, what the record says of the reason.
_BURY: Final = Script(
    NOW
    + WHOLE
    + ONCE_KEY
    + """
local at, time = now(ARGV[1]), redis.call('TIME')
local order = time[1] * 1000000 + time[2]
local last = redis.call('ZRANGE', KEYS[2], -1, -1, 'WITHSCORES')[2]
if last then order = math.max(order, last + 1) end
for index = 3, #ARGV, 2 do
  local field = ARGV[index]
  local entry = redis.call('HGET', KEYS[1], field)
  if entry then
    local id = field
    -- What was claimed is named by its bytes, which another one may have, unreadable as it.
    if redis.call('ZSCORE', KEYS[2], id) then id = id .. '.' .. whole(order) end
    redis.call('HSET', KEYS[3], id, whole(at) .. '\\n' .. ARGV[index + 1] .. '\\n' .. entry)
    redis.call('ZADD', KEYS[2], whole(order), id)
    redis.call('HDEL', KEYS[1], field)
    local once = once_key(ARGV[2], entry)
    if once then redis.call('DEL', once) end
    order = order + 1
  end
end
return 1
"""
)
#: KEYS: dead, dead_records. ARGV: ids. Returns: how many were there.
_DROP: Final = Script(
    """
redis.call('HDEL', KEYS[2], unpack(ARGV))
return redis.call('ZREM', KEYS[1], unpack(ARGV))
"""
)
_STEPS: Final = frozenset(map(str, STEPS))
_encode_json: Final = msgspec.json.Encoder().encode


class _Place(NamedTuple):
    """Where a dead letter lies."""

    lane: Lane
    id: str


class DeadLetters:
    """Buries, lists, drops and replays."""

    def __init__(self, client: Client, keys: Keys, codec: Codec) -> None:
        self._client, self._keys, self._codec = client, keys, codec
        self._replayer = Replayer(client, keys, codec)

    def bury(self, burials: Sequence[Burial], *, now: str) -> None:
        """Move each delivery to the dead letters of its lane; what isn't held is passed over.

        Args:
            burials: What to bury, and why.
            now: Unix milliseconds; empty: the server's own clock.
        Raises: BrokerError: details aren't JSON; nothing was buried.
            ReplyError, ConnectionLostError.
        """
        reasons = {id(each.delivery): _reason(each) for each in burials}
        groups = by_lane(self._keys, [one.delivery for one in burials])
        hold_for(self._client, groups)
        for lane, consumer, each in groups:
            keys = (lane.pending(consumer), lane.dead, lane.dead_records)
            for start in range(0, len(each), _CHUNK):
                args: list[str | bytes] = [now, self._keys.once(lane, "")]
                for receipt, delivery in each[start : start + _CHUNK]:
                    args += (receipt.field, reasons[id(delivery)])
                self._client.eval(_BURY, keys, args)

    def dead_letters(self, queue: str | None, *, limit: int, offset: int) -> list[DeadLetter]:
        """Return dead letters, newest first; of all queues where `queue` is None.

        Raises: ReplyError, ConnectionLostError.
        """
        names = used_queues(self._client, self._keys) if queue is None else [queue]
        lanes = [lane for name in names for lane in self._keys.lanes(name)]
        merged = Merged(self._client, [lane.dead for lane in lanes], newest_first=True)
        page = [
            _Place(lanes[each.source], each.member.decode()) for each in merged.page(limit, offset)
        ]
        records = self._do([Call.of("HGET", place.lane.dead_records, place.id) for place in page])
        return [
            self._letter(place, record)
            for place, record in zip(page, records, strict=True)
            if record is not None  # dropped since the page was looked up
        ]

    def drop_dead(self, receipts: Sequence[str]) -> int:
        """Remove dead letters for good; return how many. Raises: as `dead_letters`."""
        ids: dict[Lane, list[str]] = {}
        for receipt in receipts:
            if (place := self._read(receipt)) is not None:
                ids.setdefault(place.lane, []).append(place.id)
        runs = [
            ((lane.dead, lane.dead_records), some[start : start + _CHUNK])
            for lane, some in ids.items()
            for start in range(0, len(some), _CHUNK)
        ]
        return sum(raised(self._client.scripts(_DROP, runs))) if runs else 0

    def replay(self, replays: Sequence[tuple[str, Message]], *, at: float, now: str) -> list[str]:
        """Send a message in the place of each dead letter; return the receipts of what was gone.

        Args:
            replays: Receipt of a dead letter, and what to send.
            at: Unix seconds by this machine's clock.
            now: Unix milliseconds for scripts; empty: the server's own clock.
        Raises: BrokerError: one can't be sent; none was. ReplyError, ConnectionLostError.
        """
        gone, known = [], []
        for receipt, message in replays:
            place = self._read(receipt)
            if place is None:
                gone.append(receipt)
            else:
                known.append(Replay(receipt, place.lane, place.id, message))
        missing = {*gone, *self._replayer.replay(known, at=at, now=now)}
        return [receipt for receipt, _ in replays if receipt in missing]

    def _letter(self, place: _Place, record: bytes) -> DeadLetter:
        queue = place.lane.queue
        died_at, reason, kind, details, raw = _read_record(record)
        entry = read_entry(raw)
        return DeadLetter(
            message=self._codec.decode(entry.envelope, queue),
            queue=queue,
            reason=reason,
            kind=kind,
            details=details,
            died_at=died_at,
            deliveries=entry.deliveries + 1,
            receipt=f"{place.lane.step}/{place.id}/{queue}",
        )

    def _read(self, receipt: str) -> _Place | None:
        """Return what `receipt` names; None: it is none of ours."""
        step, _, rest = receipt.partition("/")
        letter, bar, queue = rest.partition("/")
        if not bar or step not in _STEPS:
            return None
        return _Place(self._keys.lane(queue, int(step)), letter)

    def _do(self, calls: Sequence[Call]) -> list[Any]:
        return raised(self._client.pipeline(calls))


def _reason(burial: Burial) -> bytes:
    # ASCII alone, so that lone surrogates survive.
    words = json.dumps([burial.reason, str(burial.kind)]).encode()
    return words + b"\n" + _details(burial)


def _details(burial: Burial) -> bytes:
    try:
        try:
            return _encode_json(burial.details)
        except UnicodeEncodeError:  # a lone surrogate; the standard library escapes it
            return json.dumps(burial.details).encode()
    except (TypeError, ValueError, OverflowError, RecursionError) as error:
        raise BrokerError(
            f"the details of dead letter {burial.delivery.receipt!r} can't be stored as JSON: "
            f"{error}"
        ) from error


def _read_record(record: bytes) -> tuple[float, str, str, dict[str, Any], bytes]:
    """Return when, why, of which kind, details and entry."""
    try:
        died_at, words, details, raw = record.split(b"\n", 3)
        reason, kind = json.loads(words)
        known = json.loads(details)
        return int(died_at) / 1000, str(reason), str(kind), dict(known), raw
    except (ValueError, TypeError, RecursionError):
        return 0.0, "its record is damaged", DeathKind.MALFORMED, {}, record
