"""Taking messages: promote what is due, take a batch, hold it; one round trip, one script."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, NamedTuple, Protocol

from umbel.messages import Delivery
from umbel_broker_redis.deliveries import delivery_of
from umbel_broker_redis.envelope import Codec
from umbel_broker_redis.keys import Lane
from umbel_broker_redis.lua import FREE, MAKE_READY, NOW, READ_MARK, WHOLE
from umbel_redis_client import Call, Client, Script

#: `fetch(KEYS, ARGV)`. Keys of each lane: ready, delayed, consumers, claimed, pending, paused.
#: ARGV: now, how many, consumer, node, what receipts begin with, the number of the first receipt,
#: 1: the consumer is about to wait in Redis and so is to be known in all lanes; 0: what it claimed
#: is left alone; then the fields of claimed entries that were delivered already.
#: Returns: milliseconds until the next one is due (-1: none is), indexes of paused lanes, then for
#: each lane with something: its index and its entries. Receipts are numbered on through all.
FETCHING: Final = (
    NOW
    + WHOLE
    + FREE
    + READ_MARK
    + MAKE_READY
    + """
local function fetch(KEYS, ARGV)
local at, limit = now(ARGV[1]), tonumber(ARGV[2])
local number, next_due = tonumber(ARGV[6]), -1
local paused = {}
local found = {0, paused}

local function promote(ready, delayed)
  local first = redis.call('ZRANGE', delayed, 0, 0, 'WITHSCORES')[2]
  if not first then return end
  if tonumber(first) > at then
    local left = math.ceil(first - at)
    if next_due < 0 or left < next_due then next_due = left end
    return
  end
  local due = redis.call('ZRANGEBYSCORE', delayed, '-inf', at, 'LIMIT', 0, 1000)
  for _, entry in ipairs(due) do make_ready(ready, entry) end
  redis.call('ZREM', delayed, unpack(due))  -- last: should a push fail, none is lost
  next_due = 0  -- there may be more of them
end

local delivered = {}
for index = 8, #ARGV do delivered[ARGV[index]] = true end

local function claims(claimed, pending)
  local new = {}
  local entries = redis.call('LRANGE', claimed, 0, -1)
  if #entries == 0 then return new end
  redis.call('DEL', claimed)
  for index = #entries, 1, -1 do
    local field = 'c' .. redis.sha1hex(entries[index])
    if delivered[field] then
      delivered[field] = nil  -- another one of the same bytes is a message of its own
      redis.call('HSET', pending, field, entries[index])
    else
      new[#new + 1] = entries[index]
    end
  end
  return new
end

local function take(ready, claimed, pending, room)
  local taken = ARGV[7] == '0' and {} or claims(claimed, pending)
  while #taken > room do redis.call('RPUSH', ready, table.remove(taken)) end
  if #taken < room then
    local more = redis.call('RPOP', ready, room - #taken)
    if #taken == 0 then return more or taken end
    for _, entry in ipairs(more or {}) do taken[#taken + 1] = entry end
  end
  return taken
end

-- Puts aside what a list holds that isn't due yet: see `entries`. Only marked entries can be.
local function due_of(taken, delayed)
  local due
  for index, entry in ipairs(taken) do
    if string.byte(entry, 3) == 117 then
      local deliveries, strikes, once, mark, rest = read_mark(entry)
      if mark and mark ~= '' then
        if not due then
          due = {}
          for before = 1, index - 1 do due[before] = taken[before] end
        end
        local time = string.sub(mark, 2)
        entry = '{"umbel":"' .. deliveries .. ':' .. strikes .. ':' .. once .. '",' .. rest
        if tonumber(time) > at then
          redis.call('ZADD', delayed, time, entry)
          local left = math.ceil(time - at)
          if next_due < 0 or left < next_due then next_due = left end
          entry = nil
        end
      end
    end
    if due and entry then due[#due + 1] = entry end
  end
  return due or taken
end

local function hold(taken, consumers, pending)
  if ARGV[7] ~= '1' then redis.call('HSET', consumers, ARGV[3], ARGV[4]) end
  for from = 1, #taken, 2000 do
    local pairs = {}
    for index = from, math.min(from + 1999, #taken) do
      pairs[#pairs + 1] = ARGV[5] .. whole(number)
      pairs[#pairs + 1] = taken[index]
      number = number + 1
    end
    redis.call('HSET', pending, unpack(pairs))
  end
end

free(KEYS[3])
for index = 0, #KEYS / 6 - 1 do
  local ready, delayed, consumers, claimed, pending, pause = unpack(KEYS, index * 6 + 1, index * 6 + 6)
  if ARGV[7] == '1' then redis.call('HSET', consumers, ARGV[3], ARGV[4]) end
  promote(ready, delayed)
  local is_paused = redis.call('EXISTS', pause) == 1
  if is_paused then paused[#paused + 1] = index end
  local taken = take(ready, claimed, pending, is_paused and 0 or limit)
  taken = due_of(taken, delayed)
  if #taken > 0 then
    limit = limit - #taken
    hold(taken, consumers, pending)
    found[#found + 1] = index
    found[#found + 1] = taken
  end
end
found[1] = next_due
return found
end
"""
)

#: What `FETCHING` is told by one who waits next, and by one who leaves what was claimed alone.
ABOUT_TO_WAIT, LEAVES_CLAIMS = "1", "0"

_FETCH: Final = Script(FETCHING + "return fetch(KEYS, ARGV)")


class Look(NamedTuple):
    """What one look at some lanes has brought."""

    deliveries: list[Delivery]
    #: Seconds until something delayed is due; None: nothing is delayed.
    due_in_s: float | None
    paused: frozenset[Lane]
    #: Replies to the calls that were sent along.
    replies: list[Any]
    #: Where the deliveries are from.
    lanes: list[Lane]
    #: It took all that was there.
    is_drained: bool


class LookFor(Protocol):
    """Takes what is there."""

    def __call__(self, along: Sequence[Call], takes: bool, /) -> Look:
        """Do `along`, then take what is there (unless told not to), in one round trip."""


class Asked(NamedTuple):
    """What a look asks for."""

    lanes: Sequence[Lane]
    limit: int
    consumer: str
    #: The number of the first receipt.
    first: int
    keys: list[str]
    args: list[str | int]


class Fetcher:
    """Takes batches for one consumer."""

    def __init__(self, client: Client, codec: Codec, mark: str) -> None:
        """Take with receipts that begin with `mark`, which no other handle uses."""
        self._client, self._codec, self._mark = client, codec, f"{mark}."
        self._next = 1

    def fetch(
        self,
        lanes: Sequence[Lane],
        limit: int,
        *,
        consumer: str,
        node: str,
        now: str,
        along: Sequence[Call] | None = None,
        delivered: Sequence[str] = (),
        claims: bool = True,
    ) -> Look:
        """Take up to `limit` from `lanes`, the first one first.

        Args:
            lanes: Where to look.
            limit: 0 gives back what was claimed while the consumer waited in Redis.
            consumer: Who takes.
            node: Whose lease it takes under.
            now: Unix milliseconds; empty: the server's own clock.
            along: Calls to send before, in the same round trip, by one who is about to wait.
            delivered: Fields of claimed entries that `claimed` made deliveries of.
            claims: Take what was claimed, too; else it is left to a thread that waits.
        Raises: ReplyError, ConnectionLostError.
        """
        waits = "" if claims else LEAVES_CLAIMS
        if along is not None:
            waits = ABOUT_TO_WAIT
        if not self._client.is_cluster:
            asked = self.ask(lanes, limit, consumer, node, now, waits, delivered)
            return self._fetch(asked, along or ())
        replies = self._client.pipeline(along or ())
        deliveries: list[Delivery] = []
        due: list[float] = []
        paused: set[Lane] = set()
        touched: list[Lane] = []
        for lane in lanes:  # each is in a slot of its own, and the first goes first
            left = limit - len(deliveries)
            look = self._fetch(self.ask((lane,), left, consumer, node, now, waits, delivered))
            deliveries += look.deliveries
            paused |= look.paused
            touched += look.lanes
            if look.due_in_s is not None:
                due.append(look.due_in_s)
        return Look(
            deliveries,
            min(due, default=None),
            frozenset(paused),
            replies,
            touched,
            len(deliveries) < limit,
        )

    def _fetch(self, asked: Asked, along: Sequence[Call] = ()) -> Look:
        *replies, reply = self._client.run(_FETCH, asked.keys, asked.args, along=along)
        return self.found(asked, reply, replies)

    def ask(
        self,
        lanes: Sequence[Lane],
        limit: int,
        consumer: str,
        node: str,
        now: str,
        waits: str,
        delivered: Sequence[str],
    ) -> Asked:
        """Return what `FETCHING` is told: see there."""
        first = self._next
        self._next += limit  # also where the reply is lost: a receipt is never used again
        keys: list[str] = []
        for lane in lanes:
            keys += (lane.ready, lane.delayed, lane.consumers)
            keys += (lane.claimed(consumer), lane.pending(consumer), lane.paused)
        args: list[str | int] = [now, limit, consumer, node, self._mark, first, waits]
        args += delivered
        return Asked(lanes, limit, consumer, first, keys, args)

    def found(self, asked: Asked, reply: Any, replies: list[Any]) -> Look:
        """Return what `FETCHING` has brought, and the `replies` to what was sent along."""
        lanes, first = asked.lanes, asked.first
        due, paused, *found = reply
        deliveries: list[Delivery] = []
        for index, entries in zip(found[::2], found[1::2], strict=True):
            deliveries += self._deliveries(lanes[index], entries, asked.consumer, first)
            first += len(entries)
        return Look(
            deliveries,
            None if due < 0 else due / 1000,
            frozenset([lanes[index] for index in paused]),
            replies,
            [lanes[index] for index in found[::2]],
            len(deliveries) < asked.limit,
        )

    def handed(self, asked: Asked, place: int, entry: bytes, replies: list[Any]) -> Look:
        """Return what was taken without a look at anything: one entry of the lane at `place`."""
        lane = asked.lanes[place]
        field = f"{self._mark}{asked.first}"
        delivery = delivery_of(entry, field, lane, asked.consumer, self._codec)
        return Look([delivery], None, frozenset(), replies, [lane], is_drained=False)

    def _deliveries(
        self, lane: Lane, entries: list[bytes], consumer: str, first: int
    ) -> list[Delivery]:
        decode, queue, deliveries = self._codec.decode, lane.queue, []
        # As `write_receipt` would, for the many that were not sent once.
        head, tail = f"{lane.step}/{self._mark}", f"//{consumer}"
        for number, raw in enumerate(entries, first):
            if raw.startswith(b'{"umbel'):
                field = f"{self._mark}{number}"
                deliveries.append(delivery_of(raw, field, lane, consumer, self._codec))
            else:
                deliveries.append(
                    Delivery(
                        message=decode(raw, queue), queue=queue, receipt=f"{head}{number}{tail}"
                    )
                )
        return deliveries
