"""Acknowledging and giving back: a script on what one consumer holds of one lane."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple

from umbel.messages import Delivery
from umbel_broker_redis.claims import DROP_CLAIMED, hold_for
from umbel_broker_redis.keys import Keys, Lane
from umbel_broker_redis.lua import HANDED_BACK, NOW, UNHEX
from umbel_broker_redis.receipts import Held, by_lane, foreign
from umbel_redis_client import Call, Client, Run, Script, raised

#: Most that one script gives back: it shall not hold up Redis for longer than a few milliseconds.
_CHUNK: Final = 250

#: `acknowledge(pending, claimed, fields, once, window)`: drops what is held. What was sent once
#: stays known for `window` milliseconds: `once` holds the key of each, or ''. Returns the indexes of
#: what wasn't held any more.
ACKNOWLEDGE: Final = (
    DROP_CLAIMED
    + """
local function acknowledge(pending, claimed, fields, once, window)
  local lost = {}
  for index, field in ipairs(fields) do
    if redis.call('HDEL', pending, field) == 0 and not drop_claimed(claimed, field) then
      lost[#lost + 1] = index - 1
    elseif once and once[index] and once[index] ~= '' then
      if window > 0 then
        redis.call('SET', once[index], '1', 'PX', window)
      else
        redis.call('DEL', once[index])
      end
    end
  end
  return lost
end
"""
)

#: KEYS: pending, claimed. ARGV: fields.
_ACK: Final = Script(ACKNOWLEDGE + "return acknowledge(KEYS[1], KEYS[2], ARGV)")

#: KEYS: pending, claimed, then a key for each that was sent once. ARGV: window, how many fields, fields, for
#: each the index of its key or 0.
_ACK_ONCE: Final = Script(
    ACKNOWLEDGE
    + """
local count, fields, once = tonumber(ARGV[2]), {}, {}
for index = 1, count do
  fields[index] = ARGV[2 + index]
  once[index] = KEYS[tonumber(ARGV[2 + count + index])] or ''
end
return acknowledge(KEYS[1], KEYS[2], fields, once, tonumber(ARGV[1]))
"""
)

#: Gives back, the last one first, so that the oldest is the next to be taken.
#: KEYS: ready, delayed, pending. ARGV: now, what the keys of what was sent once begin with, then in
#: turn field, strikes to add, delay (ms).
#: Returns: how many were held, and the shortest delay (-1: none was delayed).
_GIVE_BACK: Final = Script(
    NOW
    + HANDED_BACK
    + UNHEX
    + """
local at, given, shortest = now(ARGV[1]), 0, -1
for index = 3, #ARGV, 3 do
  local entry = redis.call('HGET', KEYS[3], ARGV[index])
  if entry then
    redis.call('HDEL', KEYS[3], ARGV[index])
    local back, once = handed_back(entry, tonumber(ARGV[index + 1]))
    local delay = tonumber(ARGV[index + 2])
    if delay > 0 then
      redis.call('ZADD', KEYS[2], whole(at + delay), back)
      if shortest < 0 or delay < shortest then shortest = delay end
    else
      redis.call('RPUSH', KEYS[1], back)
    end
    if once ~= '' then
      local place = cmsgpack.pack({KEYS[1], KEYS[2], back})
      redis.call('SET', ARGV[2] .. unhex(once), place, 'XX', 'KEEPTTL')
    end
    given = given + 1
  end
end
return {given, shortest}
"""
)


class Acks(NamedTuple):
    """What acknowledges deliveries."""

    groups: list[Held]
    #: One for each of the groups.
    runs: list[Run]
    #: Those whose receipt is none of this broker's.
    foreign: list[Delivery]

    def calls(self) -> list[Call]:
        """Return the commands."""
        return [run.call() for run in self.runs]


class Settler:
    """Acknowledges and gives back."""

    def __init__(self, client: Client, keys: Keys) -> None:
        self._client, self._keys = client, keys

    def ack(self, deliveries: Sequence[Delivery], *, window_s: float) -> list[Delivery]:
        """Drop `deliveries` for good; return those that weren't held any more."""
        acks = self.acks(deliveries, window_s=window_s)
        return self.lost(acks, self._client.pipeline(acks.calls()))

    def acks(self, deliveries: Sequence[Delivery], *, window_s: float) -> Acks:
        """Return what drops `deliveries` for good."""
        groups = by_lane(self._keys, deliveries)
        window = round(window_s * 1000)
        runs = []
        for group in groups:
            if any(receipt.once for receipt, _ in group.each):
                runs.append(Run(_ACK_ONCE, *self._once_run(group, window)))
            else:
                fields = [receipt.field for receipt, _ in group.each]
                runs.append(Run(_ACK, _keys_of(group), fields))
        return Acks(groups, runs, foreign(deliveries, groups))

    def lost(self, acks: Acks, replies: list[Any]) -> list[Delivery]:
        """Return what wasn't held any more, going by the replies to `acks`."""
        lost = acks.foreign
        for group, reply in zip(
            acks.groups, raised(self._client.taught(acks.runs, replies)), strict=True
        ):
            lost += [group.each[index][1] for index in reply]
        return lost

    def _once_run(self, group: Held, window: int) -> tuple[list[str], list[str | int]]:
        keys = _keys_of(group)
        places: list[str | int] = []
        for receipt, _ in group.each:
            if receipt.once:
                keys.append(self._keys.once(group.lane, receipt.once))
            places.append(len(keys) if receipt.once else 0)
        fields = [receipt.field for receipt, _ in group.each]
        return keys, [window, len(fields), *fields, *places]

    def give_back(self, deliveries: Sequence[Delivery], *, delay_s: float, now: str) -> None:
        """Give `deliveries` back, to be taken after `delay_s`; what isn't held is passed over."""
        groups = by_lane(self._keys, deliveries)
        hold_for(self._client, groups)
        for lane, consumer, each in groups:
            self.give_back_fields(
                lane,
                consumer,
                {receipt.field: (0, delay_s) for receipt, _ in each},
                now=now,
            )

    def give_back_fields(
        self, lane: Lane, consumer: str, fields: Mapping[str, tuple[int, float]], *, now: str
    ) -> int:
        """Give back what a consumer holds of a lane; return how many of it were held.

        Args:
            lane: Where it was taken from.
            consumer: Who holds it.
            fields: Field of the pending hash → strikes to add, seconds to wait.
            now: Unix milliseconds; empty: the server's own clock.
        """
        keys = (lane.ready, lane.delayed, lane.pending(consumer))
        once = self._keys.once(lane, "")
        newest_first = sorted(fields, key=_number, reverse=True)
        given, shortest = 0, -1
        for start in range(0, len(newest_first), _CHUNK):
            args: list[str | int] = [now, once]
            for field in newest_first[start : start + _CHUNK]:
                strikes, delay_s = fields[field]
                args += (field, strikes, max(round(delay_s * 1000), 1) if delay_s > 0 else 0)
            count, delay = self._client.eval(_GIVE_BACK, keys, args)
            given += count
            shortest = delay if shortest < 0 else min(shortest, max(delay, 0))
        if shortest > 0:
            self._client.call(
                lane.ready, "PUBLISH", self._keys.channel(lane.queue), f"due:{shortest}"
            )
        return given


def _keys_of(group: Held) -> list[str]:
    return [group.lane.pending(group.consumer), group.lane.claimed(group.consumer)]


def _number(field: str) -> int:
    """Return the number of a receipt within its handle: it grows. What was claimed has none."""
    number = field.rpartition(".")[2]
    return int(number) if number.isdigit() else 0
