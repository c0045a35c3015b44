"""Look into queues and empty them: names, depths, what comes next."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, NamedTuple

from umbel.messages import Malformed, Message, QueueStats
from umbel_broker_redis.entries import read_entry
from umbel_broker_redis.envelope import Codec, sent_at
from umbel_broker_redis.keys import Keys, Lane
from umbel_broker_redis.lua import NOW, ONCE_KEY
from umbel_broker_redis.paging import Merged
from umbel_broker_redis.queue_names import bound_queues, used_queues
from umbel_redis_client import Call, Client, Script, raised

#: KEYS: ready, delayed, consumers, dead. ARGV: now, what the keys of claimed and of pending begin
#: with. Returns: see `_Depth`.
_DEPTH: Final = Script(
    NOW
    + """
local at, held = now(ARGV[1]), 0
for _, consumer in ipairs(redis.call('HKEYS', KEYS[3])) do
  held = held + redis.call('LLEN', ARGV[2] .. consumer) + redis.call('HLEN', ARGV[3] .. consumer)
end
local due = redis.call('ZCOUNT', KEYS[2], '-inf', at)
return {
  at, redis.call('LLEN', KEYS[1]), due, redis.call('ZCARD', KEYS[2]) - due, held,
  redis.call('ZCARD', KEYS[4]), redis.call('LINDEX', KEYS[1], -1),
  redis.call('ZRANGE', KEYS[2], 0, 0, 'WITHSCORES')[2] or false,
}
"""
)
#: Most that one script drops: entries, and bytes of them, so that Redis is held up for a few
#: milliseconds only.
_CHUNK: Final = 1000
_CHUNK_BYTES: Final = 4 << 20
#: Drops what waits, and that it was sent once: what was purged isn't known any more.
#: KEYS: ready or delayed. ARGV: the command that takes the next one out, how many at most, bytes
#: after which it is enough, what the keys of what was sent once begin with. Returns: how many.
_DROP: Final = Script(
    ONCE_KEY
    + """
local bytes, count = 0, 0
while count < tonumber(ARGV[2]) and bytes < tonumber(ARGV[3]) do
  local entry = redis.call(ARGV[1], KEYS[1])
  if type(entry) == 'table' then entry = entry[1] end
  if not entry then break end
  local once = once_key(ARGV[4], entry)
  if once then redis.call('DEL', once) end
  bytes, count = bytes + #entry, count + 1
end
return count
"""
)
#: As `receive` makes ready what is due: of the first thousand, what was handed out before goes to
#: its old place. KEYS: delayed. ARGV: how many are due. Returns: the ranks of these.
_BACK: Final = Script(
    """
local ranks = {}
for index, entry in ipairs(redis.call('ZRANGE', KEYS[1], 0, math.min(ARGV[1], 1000) - 1)) do
  local back = string.match(entry, '^{"umbel":"(%d+):')
  if back and back ~= '0' then ranks[#ranks + 1] = index - 1 end
end
return ranks
"""
)


class _Depth(NamedTuple):
    """How a lane stands."""

    #: Unix milliseconds of the look.
    at: int
    ready: int
    #: In the delay set, and due: the next `receive` makes it ready.
    due: int
    delayed: int
    held: int
    dead: int
    #: The entry that is taken next.
    next: bytes | None
    #: Score of the first one in the delay set.
    first_due: bytes | None


class Inspector:
    """Looks into queues, and empties them."""

    def __init__(self, client: Client, keys: Keys, codec: Codec) -> None:
        self._client, self._keys, self._codec = client, keys, codec

    def queues(self) -> list[str]:
        """Return the names of all queues that were ever used or that Celery has bound, sorted.

        Raises: ReplyError, ConnectionLostError.
        """
        used = used_queues(self._client, self._keys)
        return sorted({*used, *bound_queues(self._client, self._keys)})

    def stats(self, queue: str, now: str) -> QueueStats:
        """Return how `queue` stands at `now` (unix milliseconds; empty: the server's own clock).

        Raises: ReplyError, ConnectionLostError.
        """
        depths = self._depths(queue, now)
        ages = [age for each in depths for age in self._ages_s(each, queue)]
        return QueueStats(
            name=queue,
            ready=sum(each.ready + each.due for each in depths),
            delayed=sum(each.delayed for each in depths),
            held=sum(each.held for each in depths),
            dead=sum(each.dead for each in depths),
            oldest_age_s=max(ages, default=None),
        )

    def peek(self, queue: str, *, limit: int, offset: int, now: str) -> list[Message | Malformed]:
        """Return what is ready, next first, then what is delayed, next due first.

        Raises: ReplyError, ConnectionLostError.
        """
        lanes, depths = self._keys.lanes(queue), self._depths(queue, now)
        ready = sum(each.ready + each.due for each in depths)
        found: list[bytes] = []
        if offset < ready:
            found = self._ready(lanes, depths, limit, max(offset, 0))
        if len(found) < limit:
            above = f"({max(each.at for each in depths)}"
            later = Merged(self._client, [lane.delayed for lane in lanes], above=above)
            page = later.page(limit - len(found), max(offset - ready, 0))
            found += [each.member for each in page]
        return [self._codec.decode(read_entry(raw).envelope, queue) for raw in found]

    def purge(self, queue: str) -> int:
        """Drop all that waits in `queue`, the delayed included; return how many.

        What comes while it runs may stay: no more is dropped than there was at first.

        Raises: ReplyError, ConnectionLostError.
        """
        sources = [
            (command, key, lane)
            for lane in self._keys.lanes(queue)
            for command, key in (("RPOP", lane.ready), ("ZPOPMIN", lane.delayed))
        ]
        sizes = self._do(
            [Call.of("LLEN" if command == "RPOP" else "ZCARD", key) for command, key, _ in sources]
        )
        return sum(
            self._drop(command, key, self._keys.once(lane, ""), size)
            for (command, key, lane), size in zip(sources, sizes, strict=True)
            if size
        )

    def _drop(self, command: str, key: str, once: str, size: int) -> int:
        dropped = 0
        while dropped < size:
            most = min(size - dropped, _CHUNK)
            count = self._client.eval(_DROP, (key,), (command, most, _CHUNK_BYTES, once))
            if not count:
                break
            dropped += count
        return dropped

    def _depths(self, queue: str, now: str) -> list[_Depth]:
        """Return how the lanes of `queue` stand, the most urgent first; one round trip."""
        runs = [
            (
                (lane.ready, lane.delayed, lane.consumers, lane.dead),
                (now, lane.claimed(""), lane.pending("")),
            )
            for lane in self._keys.lanes(queue)
        ]
        return [_Depth(*reply) for reply in raised(self._client.scripts(_DEPTH, runs))]

    def _ages_s(self, depth: _Depth, queue: str) -> list[float]:
        """Return how many seconds the oldest of a lane have waited, as far as one can tell."""
        at = depth.at / 1000
        since = []
        if depth.due and depth.first_due is not None:
            since.append(float(depth.first_due) / 1000)
        if (
            depth.next is not None
            and (sent := self._waits_since(depth.next, queue, at)) is not None
        ):
            since.append(sent)
        return [max(at - each, 0.0) for each in since]

    def _waits_since(self, raw: bytes, queue: str, at: float) -> float | None:
        """Return since when an entry is ready: since its sending, or since it was due."""
        sent = sent_at(raw)
        if sent is None:
            return None  # a foreign sender doesn't tell
        message = self._codec.decode(raw, queue)
        due = message.due_at if isinstance(message, Message) else None
        return due if due is not None and sent < due <= at else sent

    def _ready(
        self, lanes: Sequence[Lane], depths: Sequence[_Depth], limit: int, offset: int
    ) -> list[bytes]:
        """Return a page of what is ready: lane by lane, with what is due in its place."""
        calls: list[Call] = []
        for lane, depth, back in zip(lanes, depths, self._handed_back(lanes, depths), strict=True):
            handed_back = set(back)
            new = [rank for rank in range(depth.due) if rank not in handed_back]
            for ranks in (back, depth.ready, new):
                size = ranks if isinstance(ranks, int) else len(ranks)
                start, count = offset, min(size - offset, limit)
                offset = max(offset - size, 0)
                if count <= 0:
                    continue
                limit -= count
                if isinstance(ranks, int):
                    calls.append(Call.of("LRANGE", lane.ready, -start - count, -start - 1))
                else:
                    page = ranks[start : start + count]
                    calls += [Call.of("ZRANGE", lane.delayed, rank, rank) for rank in page]
        return [entry for reply in self._do(calls) for entry in reply[::-1]]

    def _handed_back(self, lanes: Sequence[Lane], depths: Sequence[_Depth]) -> list[list[int]]:
        """Return what will be ready before all else of its lane: ranks in the delay set."""
        some = [index for index, depth in enumerate(depths) if depth.due]
        runs = [((lanes[index].delayed,), (depths[index].due,)) for index in some]
        found: list[list[int]] = [[] for _ in lanes]
        if runs:
            for index, ranks in zip(some, raised(self._client.scripts(_BACK, runs)), strict=True):
                found[index] = ranks[::-1]
        return found

    def _do(self, calls: Sequence[Call]) -> list[Any]:
        return raised(self._client.pipeline(calls))
