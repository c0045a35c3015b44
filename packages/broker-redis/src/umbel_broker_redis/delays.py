"""What waits for its time: list it, make it ready at once, drop it.

A receipt names the lane, the time and a digest of the entry: what was given back for later
meanwhile, or replaced, isn't what was listed.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from hashlib import blake2b
from typing import Any, Final, NamedTuple

import msgspec

from umbel.messages import Delayed, Malformed
from umbel_broker_redis.entries import read_entry
from umbel_broker_redis.envelope import Codec
from umbel_broker_redis.instants import moment
from umbel_broker_redis.keys import STEPS, Keys, Lane
from umbel_broker_redis.lua import MAKE_READY, NOW, ONCE_KEY
from umbel_broker_redis.paging import Merged
from umbel_broker_redis.queue_names import used_queues
from umbel_redis_client import Call, Client, Script, raised

#: Entries of one time that are read at once to find those that are meant.
_READ: Final = 100
#: Most that one script moves or drops.
_CHUNK: Final = 200
_DIGEST_BYTES: Final = 10

#: Waits there still, for that time: KEYS: ready, delayed. ARGV: now, what the keys of what was sent
#: once begin with, then in turn entry, score, the entry as it is to be.
_IS_LATER: Final = (
    NOW
    + ONCE_KEY
    + """
local at, count = now(ARGV[1]), 0
local function is_later(entry, score)
  local found = redis.call('ZSCORE', KEYS[2], entry)
  return found and tonumber(found) == tonumber(score) and tonumber(found) > at
end
"""
)
#: KEYS, ARGV: as above. Returns: how many were made ready.
_PROMOTE: Final = Script(
    _IS_LATER
    + MAKE_READY
    + """
for index = 3, #ARGV, 3 do
  local entry, becomes = ARGV[index], ARGV[index + 2]
  if is_later(entry, ARGV[index + 1]) then
    make_ready(KEYS[1], becomes)
    redis.call('ZREM', KEYS[2], entry)
    local once = once_key(ARGV[2], becomes)
    if once and becomes ~= entry then
      local place = cmsgpack.pack({KEYS[1], KEYS[2], becomes})
      redis.call('SET', once, place, 'XX', 'KEEPTTL')
    end
    count = count + 1
  end
end
return count
"""
)
#: KEYS, ARGV: as above. Returns: how many were dropped.
_DROP: Final = Script(
    _IS_LATER
    + """
for index = 3, #ARGV, 3 do
  local entry = ARGV[index]
  if is_later(entry, ARGV[index + 1]) then
    redis.call('ZREM', KEYS[2], entry)
    local once = once_key(ARGV[2], entry)
    if once then redis.call('DEL', once) end
    count = count + 1
  end
end
return count
"""
)
_MILLISECONDS: Final = re.compile(r"[0-9]{1,15}")
_STEPS: Final = frozenset(map(str, STEPS))
_decode: Final = msgspec.json.Decoder(dict[str, Any]).decode
_encode: Final = msgspec.json.Encoder().encode


class _Time(NamedTuple):
    """Where something waits, and until when (unix milliseconds)."""

    lane: Lane
    score: int


class Delays:
    """Lists what is delayed, and changes that."""

    def __init__(self, client: Client, keys: Keys, codec: Codec) -> None:
        self._client, self._keys, self._codec = client, keys, codec

    def delayed(self, queue: str | None, *, limit: int, offset: int, now: str) -> list[Delayed]:
        """Return what is due after `now`, the next one first; of all queues for None.

        Args:
            queue: Whose.
            limit: How many at most.
            offset: How many to leave out.
            now: Unix milliseconds; empty: the server's own clock.
        Raises: ReplyError, ConnectionLostError.
        """
        names = used_queues(self._client, self._keys) if queue is None else [queue]
        lanes = [lane for name in names for lane in self._keys.lanes(name)]
        above = f"({moment(self._client, now)}"
        page = Merged(self._client, [lane.delayed for lane in lanes], above=above)
        return [
            self._delayed(lanes[index], entry, score)
            for index, entry, score in page.page(limit, offset)
        ]

    def promote(self, receipts: Sequence[str], *, now: str) -> int:
        """Make ready what `receipts` name and is due after `now`; return how many.

        What Celery sent loses the eta in its headers: a worker would keep to it. What umbel sent
        says that it had a due time, and is as it was.

        Raises: ReplyError, ConnectionLostError.
        """
        return self._change(_PROMOTE, receipts, now)

    def drop(self, receipts: Sequence[str], *, now: str) -> int:
        """Remove what `receipts` name and is due after `now`; return how many.

        Raises: ReplyError, ConnectionLostError.
        """
        return self._change(_DROP, receipts, now)

    def _delayed(self, lane: Lane, entry: bytes, score: int) -> Delayed:
        return Delayed(
            message=self._codec.decode(read_entry(entry).envelope, lane.queue),
            queue=lane.queue,
            due_at=score / 1000,
            receipt=f"{score}/{lane.step}/{_digest(entry)}/{lane.queue}",
        )

    def _change(self, script: Script, receipts: Sequence[str], now: str) -> int:
        wanted: dict[_Time, set[str]] = {}
        for receipt in receipts:
            if (read := self._read(receipt)) is not None:
                wanted.setdefault(read[0], set()).add(read[1])
        changed = 0
        times = list(wanted)
        for start in range(0, len(times), _CHUNK):
            by_lane: dict[Lane, list[tuple[bytes, int]]] = {}
            for time, entries in self._find(times[start : start + _CHUNK], wanted):
                by_lane.setdefault(time.lane, []).extend((each, time.score) for each in entries)
            for lane, entries_of_lane in by_lane.items():
                changed += self._run(script, lane, entries_of_lane, now)
        return changed

    def _run(
        self, script: Script, lane: Lane, entries: Sequence[tuple[bytes, int]], now: str
    ) -> int:
        changed = 0
        for start in range(0, len(entries), _CHUNK):
            args: list[str | int | bytes] = [now, self._keys.once(lane, "")]
            for entry, score in entries[start : start + _CHUNK]:
                args += (entry, score, self._at_once(lane, entry) if script is _PROMOTE else b"")
            changed += self._client.eval(script, (lane.ready, lane.delayed), args)
        return changed

    def _at_once(self, lane: Lane, entry: bytes) -> bytes:
        """Return `entry` as it is to be ready."""
        envelope = read_entry(entry).envelope
        message = self._codec.decode(envelope, lane.queue)
        if (
            isinstance(message, Malformed)
            or message.due_at is not None
            or not message.headers.get("eta")
        ):
            return entry
        read = _decode(envelope)
        read["headers"]["eta"] = None
        return entry[: len(entry) - len(envelope) + 1] + _encode(read)[1:]

    def _find(
        self, times: Sequence[_Time], wanted: Mapping[_Time, set[str]]
    ) -> Iterator[tuple[_Time, list[bytes]]]:
        """Read what waits for `times`; go through the entries whose digests are wanted.

        The entries are looked for here, so that Redis never goes through many of one time.
        """
        replies = self._read_entries([(time, 0) for time in times])
        for time, first in zip(times, replies, strict=True):
            entries, found, missing, start = first, [], set(wanted[time]), 0
            while entries:
                found += [each for each in entries if _digest(each) in missing]
                missing -= {_digest(each) for each in found}
                start += len(entries)
                if not missing or len(entries) < _READ:
                    break
                [entries] = self._read_entries([(time, start)])
            yield time, found

    def _read_entries(self, places: Sequence[tuple[_Time, int]]) -> list[list[bytes]]:
        calls = [
            Call.of(
                "ZRANGEBYSCORE", time.lane.delayed, time.score, time.score, "LIMIT", start, _READ
            )
            for time, start in places
        ]
        return raised(self._client.pipeline(calls))

    def _read(self, receipt: str) -> tuple[_Time, str] | None:
        """Return the time and the digest that `receipt` names; None: it is none of ours."""
        parts = receipt.split("/", 3)
        if len(parts) < 4 or not _MILLISECONDS.fullmatch(parts[0]) or parts[1] not in _STEPS:
            return None
        score, step, digest, queue = parts
        return _Time(self._keys.lane(queue, int(step)), int(score)), digest


def _digest(entry: bytes) -> str:
    return blake2b(entry, digest_size=_DIGEST_BYTES).hexdigest()
