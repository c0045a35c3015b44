"""Leases of nodes, and what becomes of what a dead process or node held.

A lease is judged by the server's clock. What fences is the receipt: whoever gives a message back
takes its receipt away, and a late acknowledgement finds nothing. So nothing here needs to be one
transaction: a crash half-way leaves work for the next one who looks.
"""

from __future__ import annotations

import time
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Final

from umbel.messages import Delivery
from umbel_broker_redis.claims import claimed_field, hold_claimed
from umbel_broker_redis.deliveries import delivery_of
from umbel_broker_redis.envelope import Codec
from umbel_broker_redis.keys import STEPS, Keys, Lane
from umbel_broker_redis.lua import NOW, WHOLE
from umbel_broker_redis.settling import Settler
from umbel_redis_client import Call, Client, Script, raised

#: Seconds for which the leavings of an ended process are looked through again: Redis may have
#: handed something to its connection before it noticed the end.
_GONE_S: Final = 60.0
#: … and of one that may only be frozen, and has something under way to Redis.
_FROZEN_S: Final = 3600.0
#: Seconds between two such looks.
_LOOK_EVERY_S: Final = 10.0
#: Between a node and a consumer in `Keys.gone`.
_BAR: Final = "\x1f"
#: What a node's lease says once others have begun to take over.
_TAKEN: Final = 1

#: KEYS: nodes. ARGV: now, node, length (ms), whether an end that is there stays (1), whether who
#: asks only helps out (1): then half a millisecond tells the next renewal that there was none.
#: Returns: 1, or 0 where the node had been taken over or wasn't there.
_RENEW: Final = Script(
    NOW
    + WHOLE
    + """
local ends = tonumber(redis.call('ZSCORE', KEYS[1], ARGV[2]) or 0)
if ends <= 1 or ARGV[4] ~= '1' then
  redis.call('ZREM', KEYS[1], '')  -- as `lua.FREE`: a lease is kept where Redis is full
  local half = ARGV[5] == '1' and '.5' or ''
  redis.call('ZADD', KEYS[1], whole(now(ARGV[1]) + ARGV[3]) .. half, ARGV[2])
end
return (ends > 1 and ends == math.floor(ends)) and 1 or 0
"""
)

#: Marks leases that have run out as taken. KEYS: nodes. ARGV: now. Returns: their nodes.
_TAKE: Final = Script(
    NOW
    + """
local nodes = redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', '(' .. now(ARGV[1]), 'LIMIT', 0, 100)
for _, node in ipairs(nodes) do redis.call('ZADD', KEYS[1], 1, node) end
return nodes
"""
)

#: Ends leases that nobody renewed since they were taken. KEYS: nodes. ARGV: nodes.
_DROP: Final = Script(
    """
for _, node in ipairs(ARGV) do
  if redis.call('ZSCORE', KEYS[1], node) == '1' then redis.call('ZREM', KEYS[1], node) end
end
return 1
"""
)

#: KEYS: pending. ARGV: cursor. Returns: the next one, and fields.
_FIELDS: Final = Script(
    """
local cursor, found = unpack(redis.call('HSCAN', KEYS[1], ARGV[1], 'COUNT', 500))
local fields = {}
for index = 1, #found, 2 do fields[#fields + 1] = found[index] end
return {cursor, fields}
"""
)


#: Tells the first one who asks, once a while. KEYS: looked. ARGV: milliseconds.
_IS_TURN: Final = Script(
    """
if redis.call('EXISTS', KEYS[1]) == 1 then return 0 end
redis.call('DEL', KEYS[1])  -- as `lua.FREE`
redis.call('SET', KEYS[1], '', 'PX', ARGV[1])
return 1
"""
)
#: As `lua.FREE`: what a dead process holds is given back where Redis is full.
#: KEYS: gone. ARGV: score, member.
_NOTE: Final = Script(
    """
redis.call('ZREM', KEYS[1], '')
return redis.call('ZADD', KEYS[1], ARGV[1], ARGV[2])
"""
)


class Leases:
    """Keeps the leases of nodes, and recovers what was held under those that ended."""

    def __init__(self, client: Client, keys: Keys, codec: Codec, settler: Settler) -> None:
        self._client, self._keys, self._codec, self._settler = client, keys, codec, settler
        self._looked_at = 0.0

    def renew(
        self, node: str, lease_s: float, *, now: str, keeps: bool = False, helps: bool = False
    ) -> bool:
        """Prolong the lease of `node`; False: it had none, or others have taken over.

        Args:
            node: Whose lease.
            lease_s: Seconds from now.
            now: Unix milliseconds; empty: the server's own clock.
            keeps: Take a lease where there is none, and leave one that is there as it is.
            helps: It is for others to know that there was none: the next renewal says so still.
        """
        marks = ("1" if keeps else "", "1" if helps else "")
        args = (now, node, max(round(lease_s * 1000), 1), *marks)
        return bool(self._client.eval(_RENEW, (self._keys.nodes,), args))

    def held(self, consumer: str) -> list[Delivery]:
        """Return what `consumer` holds, what it claimed in waiting too."""
        return self.held_of(consumer, self._lanes_of(consumer))

    def held_of(
        self, consumer: str, lanes: Sequence[Lane], delivered: Container[str] | None = None
    ) -> list[Delivery]:
        """Return what `consumer` holds of `lanes`.

        Args:
            consumer: Who holds.
            lanes: Which it may hold something of.
            delivered: Fields of the claimed entries that count; None: all do. A consumer of this
                process hasn't seen the others yet: their replies are under way to it.
        """
        claims = [Call.of("LRANGE", lane.claimed(consumer), "0", "-1") for lane in lanes]
        calls = [Call.of("HGETALL", lane.pending(consumer)) for lane in lanes]
        replies = raised(self._client.pipeline(claims + calls))
        found: dict[tuple[Lane, str], bytes] = {}
        for lane, entries in zip(lanes, replies, strict=False):
            fields = {claimed_field(entry): entry for entry in entries}
            for field, entry in fields.items():
                if delivered is None or field in delivered:
                    found[lane, field] = entry
        for lane, flat in zip(lanes, replies[len(lanes) :], strict=True):
            for field, entry in zip(flat[::2], flat[1::2], strict=True):
                found[lane, field.decode()] = entry
        return [
            delivery_of(entry, field, lane, consumer, self._codec)
            for (lane, field), entry in found.items()
        ]

    def recover_consumer(
        self,
        consumer: str,
        *,
        now: str,
        struck: Mapping[str, float] = MappingProxyType({}),
        node: str = "",
    ) -> int:
        """Give back all that a dead consumer holds; return how many.

        Args:
            consumer: Who is dead.
            now: Unix milliseconds; empty: the server's own clock.
            struck: Field of a pending hash → seconds to wait; these get a strike.
            node: Of one that may only be frozen.
        """
        seconds = _FROZEN_S if node else _GONE_S
        forget_at = round((time.time() + seconds) * 1000)
        # Noted first: should this process die half-way, another one looks again.
        self._client.eval(_NOTE, (self._keys.gone,), (forget_at, f"{node}{_BAR}{consumer}"))
        lanes = self._lanes_of(consumer)
        hold_claimed(self._client, [(lane, consumer) for lane in lanes])
        return sum(self._recover_lane(lane, consumer, now=now, struck=struck) for lane in lanes)

    def _recover_lane(
        self, lane: Lane, consumer: str, *, now: str, struck: Mapping[str, float]
    ) -> int:
        returned = {
            field: (1, struck[field]) if field in struck else (0, 0.0)
            for field in self._fields(lane.pending(consumer))
        }
        return self._settler.give_back_fields(lane, consumer, returned, now=now)

    def _fields(self, pending: str) -> Iterator[str]:
        """Yield the fields of a hash, some more than once; Redis serves others meanwhile."""
        cursor = b"0"
        while True:
            cursor, fields = self._client.eval(_FIELDS, (pending,), (cursor,))
            yield from map(bytes.decode, fields)
            if cursor == b"0":
                return

    def recover_expired(self, *, now: str) -> int:
        """Give back what nodes with an expired lease hold, and what ended processes left behind."""
        count = self._look_after_gone(now=now)
        nodes = [node.decode() for node in self._client.eval(_TAKE, (self._keys.nodes,), (now,))]
        if not nodes:
            return count
        count += sum(self._recover_node(node, now=now, is_frozen=True) for node in nodes)
        self._client.eval(_DROP, (self._keys.nodes,), nodes)
        return count

    def leave(self, node: str, *, now: str) -> None:
        """End the lease of `node`, and give back all that its consumers hold."""
        self._recover_node(node, now=now, is_frozen=False)
        self._client.call(self._keys.nodes, "ZREM", self._keys.nodes, node)

    def _recover_node(self, node: str, *, now: str, is_frozen: bool) -> int:
        consumers: dict[str, None] = {}
        lanes = self._lanes()
        calls = [Call.of("HGETALL", lane.consumers) for lane in lanes]
        for flat in raised(self._client.pipeline(calls)):
            consumers.update(
                (consumer.decode(), None)
                for consumer, owner in zip(flat[::2], flat[1::2], strict=True)
                if owner.decode() == node
            )
        return sum(
            self.recover_consumer(consumer, now=now, node=node if is_frozen else "")
            # Each goes to the head of its list: who came last goes first.
            for consumer in reversed(consumers)
        )

    def _look_after_gone(self, *, now: str) -> int:
        """Look through what processes that ended a while ago may have been handed since."""
        if time.monotonic() - self._looked_at < _LOOK_EVERY_S:
            return 0
        self._looked_at = time.monotonic()
        # One of a fleet is enough: there may be thousands of them after a deployment.
        lasts_ms = round(_LOOK_EVERY_S * 800)
        if not self._client.eval(_IS_TURN, (self._keys.looked,), (lasts_ms,)):
            return 0
        gone = self._keys.gone
        flat = self._client.call(gone, "ZRANGE", gone, 0, 999, "WITHSCORES")
        count = 0
        for member, score in zip(flat[::2], flat[1::2], strict=True):
            node, _, consumer = member.decode().partition(_BAR)
            if node and self._client.call(self._keys.nodes, "ZSCORE", self._keys.nodes, node):
                self._client.call(gone, "ZREM", gone, member)  # it was frozen, and is back
                continue
            lanes = self._lanes_of(consumer)
            hold_claimed(self._client, [(lane, consumer) for lane in lanes])
            count += sum(self._recover_lane(lane, consumer, now=now, struck={}) for lane in lanes)
            if float(score) <= time.time() * 1000:
                self._client.pipeline([Call.of("HDEL", lane.consumers, consumer) for lane in lanes])
                self._client.call(gone, "ZREM", gone, member)
        return count

    # -- lanes --------------------------------------------------------------------------------

    def _lanes(self) -> list[Lane]:
        names = self._client.call(self._keys.queues, "SMEMBERS", self._keys.queues)
        return [self._keys.lane(name.decode(), step) for name in sorted(names) for step in STEPS]

    def _lanes_of(self, consumer: str) -> list[Lane]:
        """Return the lanes that know `consumer`: only there it may hold something."""
        lanes = self._lanes()
        calls = [Call.of("HEXISTS", lane.consumers, consumer) for lane in lanes]
        replies = raised(self._client.pipeline(calls))
        return [lane for lane, reply in zip(lanes, replies, strict=True) if reply]


def fields_of(receipts: Iterable[tuple[str, float]]) -> dict[str, float]:
    """Return fields of pending hashes and what was said of each receipt."""
    return {text.split("/", 2)[1]: value for text, value in receipts if text.count("/") >= 2}
