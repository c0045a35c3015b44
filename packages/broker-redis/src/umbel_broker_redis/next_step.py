"""The next step of a task: its only follow-up, taken by the one who sends it.

One script acknowledges, sends and takes, so that a chain needs no other process to wake. Where
nothing else waits the follow-up doesn't even pass through its list: it is held at once.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, NamedTuple

from umbel.messages import Delivery
from umbel_broker_redis.entries import marked
from umbel_broker_redis.keys import Keys, Lane
from umbel_broker_redis.receipts import Held, by_lane
from umbel_broker_redis.receiving import FETCHING, Asked
from umbel_broker_redis.requests import KNOWN_MS, Draft
from umbel_broker_redis.settling import ACKNOWLEDGE
from umbel_redis_client import Arg, Run, Script

#: KEYS: those of `FETCHING`, then what the follow-up is known by, pending and claimed of what is
#: acknowledged, then a key for each of that which was sent once.
#: ARGV: the number of lanes, the place of the follow-up's lane among them, its entry, how long it
#: stays known, and what is acknowledged (ms both), how many of that, the field of each, for each
#: the number of its key after `claimed` or 0; then those of `FETCHING`.
#: Returns: indexes of what wasn't held any more, and what `fetch` does; nothing: the follow-up is
#: held, and nothing else was looked for.
_STEP: Final = Script(
    FETCHING
    + ACKNOWLEDGE
    + """
local lanes, place, entry = tonumber(ARGV[1]), tonumber(ARGV[2]), ARGV[3]
local count, own = tonumber(ARGV[6]), lanes * 6
local asked = 6 + 2 * count

local function is_idle()
  for at = 0, own - 6, 6 do
    local names = {KEYS[at + 1], KEYS[at + 2], KEYS[at + 4], KEYS[at + 6]}
    if redis.call('EXISTS', unpack(names)) > 0 then return false end
  end
  return true
end

local is_held = false
if redis.call('EXISTS', KEYS[own + 1]) == 0 then
  is_held = is_idle()
  if is_held then
    redis.call('HSET', KEYS[place * 6 + 3], ARGV[asked + 3], ARGV[asked + 4])
    redis.call('HSET', KEYS[place * 6 + 5], ARGV[asked + 5] .. ARGV[asked + 6], entry)
  else
    redis.call('LPUSH', KEYS[place * 6 + 1], entry)
  end
  -- Last: where the push fails, a repeat must not take it for one that was sent.
  redis.call('SET', KEYS[own + 1], '1', 'PX', ARGV[4])
end

local fields, once = {}, {}
for index = 1, count do
  fields[index] = ARGV[6 + index]
  once[index] = KEYS[own + 3 + tonumber(ARGV[6 + count + index])]
  if ARGV[6 + count + index] == '0' then once[index] = '' end
end
local lost = acknowledge(KEYS[own + 2], KEYS[own + 3], fields, once, tonumber(ARGV[5]))
if is_held then return {lost} end

local keys, args = {}, {}
for index = 1, own do keys[index] = KEYS[index] end
for index = asked + 1, #ARGV do args[#args + 1] = ARGV[index] end
return {lost, fetch(keys, args)}
"""
)


class Step(NamedTuple):
    """What is done in one script."""

    held: Held
    lanes: tuple[Lane, ...]
    #: Where among them the follow-up goes.
    place: int
    entry: bytes
    #: What keeps it from being sent twice.
    known_by: str
    #: Keys of what is acknowledged and was sent once, in order.
    once: list[str]

    @classmethod
    def of(
        cls, keys: Keys, deliveries: Sequence[Delivery], draft: Draft, lanes: tuple[Lane, ...]
    ) -> Step | None:
        """Return the step from `deliveries` to `draft`; None where it isn't a plain one.

        The draft is of one of `lanes`, and to be run at once.
        """
        groups = by_lane(keys, deliveries)
        is_whole = len(groups) == 1 and len(groups[0].each) == len(deliveries)
        if not is_whole or draft.doubted:
            return None
        (held,) = groups
        message = draft.message
        return cls(
            held,
            lanes,
            lanes.index(draft.lane),
            marked(draft.envelope, once=message.once_key),
            keys.once(draft.lane, message.once_key),
            [keys.once(held.lane, receipt.once) for receipt, _ in held.each if receipt.once],
        )

    def run(self, asked: Asked, *, window_s: float) -> Run:
        """Return the run of the script; what was sent once stays known for `window_s` seconds."""
        lane, consumer, each = self.held
        keys = [*asked.keys, self.known_by, lane.pending(consumer), lane.claimed(consumer)]
        keys += self.once
        args: list[Arg] = [len(self.lanes), self.place, self.entry]
        args += (KNOWN_MS, round(window_s * 1000), len(each))
        args += [receipt.field for receipt, _ in each]
        number = 0
        for receipt, _ in each:
            number += bool(receipt.once)
            args.append(number if receipt.once else 0)
        return Run(_STEP, keys, [*args, *asked.args])

    def read(self, reply: Any) -> tuple[list[Delivery], Any]:
        """Return what wasn't held any more, and what was found; None: the follow-up is held."""
        lost, *found = reply
        return [self.held.each[index][1] for index in lost], found[0] if found else None
