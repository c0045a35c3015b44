"""What a consumer claimed while it waited in Redis, and runs straight from there.

Such an entry lies in the consumer's claimed list. Its receipt names it by a digest of its bytes:
each delivery of a message has other bytes, since the mark in them counts deliveries. Acknowledging
removes it from the list; all else moves it to the pending hash first, under the same name.
"""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import sha1
from typing import Final

from umbel_broker_redis.keys import Lane
from umbel_broker_redis.receipts import Held
from umbel_redis_client import Client, Script, raised

#: What fields of claimed entries begin with.
CLAIMED: Final = "c"

#: Moves claimed entries to the pending hash. KEYS: claimed, pending. ARGV: fields; none: all.
#: Returns: how many.
_HOLD: Final = Script(
    """
local held, wanted = 0, {}
for _, field in ipairs(ARGV) do wanted[field] = true end
for _, entry in ipairs(redis.call('LRANGE', KEYS[1], 0, -1)) do
  local field = 'c' .. redis.sha1hex(entry)
  if #ARGV == 0 or wanted[field] then
    wanted[field] = nil
    redis.call('LREM', KEYS[1], 1, entry)  -- first: see `lua.FREE`
    while redis.call('HSETNX', KEYS[2], field, entry) == 0 do field = field .. '.' end
    held = held + 1
  end
end
return held
"""
)

#: `drop_claimed(claimed, field)`: removes the claimed entry of that name; tells whether it was there.
DROP_CLAIMED: Final = """
local function drop_claimed(claimed, field)
  if string.sub(field, 1, 1) ~= 'c' then return false end
  for _, entry in ipairs(redis.call('LRANGE', claimed, 0, -1)) do
    if 'c' .. redis.sha1hex(entry) == field then
      return redis.call('LREM', claimed, 1, entry) == 1
    end
  end
  return false
end
"""


def claimed_field(entry: bytes) -> str:
    """Return the name of a claimed entry."""
    return CLAIMED + sha1(entry, usedforsecurity=False).hexdigest()


def hold_claimed(client: Client, places: Sequence[tuple[Lane, str]]) -> None:
    """Make all that dead consumers claimed part of what they hold, lane by lane.

    Raises: ReplyError, ConnectionLostError.
    """
    _hold(client, [(_keys(lane, consumer), ()) for lane, consumer in places])


def hold_for(client: Client, groups: Sequence[Held]) -> None:
    """Do so for the claimed ones among `groups`, whose consumer may have claimed others since.

    Those it hasn't seen yet: it would take them for lost where they don't lie in its list.
    """
    runs = []
    for group in groups:
        fields = [each.field for each, _ in group.each if each.field.startswith(CLAIMED)]
        if fields:
            runs.append((_keys(group.lane, group.consumer), fields))
    _hold(client, runs)


def _keys(lane: Lane, consumer: str) -> tuple[str, str]:
    return lane.claimed(consumer), lane.pending(consumer)


def _hold(client: Client, runs: Sequence[tuple[Sequence[str], Sequence[str]]]) -> None:
    raised(client.scripts(_HOLD, runs))
