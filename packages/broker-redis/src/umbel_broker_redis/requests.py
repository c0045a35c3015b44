"""One script that stores messages, looks before it writes, and settles deliveries beside them.

On a single server one run does all. In a Cluster there is a run for each slot, the settling last.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple

import msgspec

from umbel.errors import AlreadySentError, QueueFullError
from umbel.messages import Delivery, Message, OnConflict
from umbel_broker_redis.consumed import Consumed
from umbel_broker_redis.entries import mark_of
from umbel_broker_redis.keys import Keys, Lane
from umbel_broker_redis.lua import NOW, WHOLE
from umbel_broker_redis.receipts import Held, by_lane
from umbel_broker_redis.settling import ACKNOWLEDGE
from umbel_redis_client import Call, Client, ReplyError, Script, pack

#: Milliseconds that a message stays known while nobody settles it, after its due time: a Celery
#: worker that takes it from a shared queue leaves its key behind.
_KNOWN_MS: Final = 7 * 86_400_000
#: KEYS: of all lanes, and of what is sent once. ARGV: a request as msgpack: see `_Request`.
#: Returns: what came of it, and the details of that.
_SEND: Final = Script(
    NOW
    + WHOLE
    + ACKNOWLEDGE
    + """
local request = cmsgpack.unpack(ARGV[1])
local at = now(request.now)
local function key(number) return KEYS[number] end

-- Returns what is held of a lane, without the marks that deliveries make.
local held_of = {}
local function held(own)
  local found = held_of[own]
  if found then return found end
  found = {}
  local function add(entries)
    for _, each in ipairs(entries) do
      found[string.match(each, '^{"umbel":"[^"]*",(.*)$') or string.sub(each, 2)] = true
    end
  end
  for _, consumer in ipairs(redis.call('HKEYS', own .. 'consumers')) do
    add(redis.call('HVALS', own .. 'pending:' .. consumer))
    add(redis.call('LRANGE', own .. 'claimed:' .. consumer, 0, -1))
  end
  held_of[own] = found
  return found
end

-- One `send` stored all or nothing of a lane, and what stands last in it is taken last: while that
-- waits, all of them were stored. One search then does for all, as a list may be long.
local last_of, waits_of = {}, {}
for _, item in ipairs(request.items) do last_of[item.own .. item.doubt] = item end
local function waits_still(item)
  local name = item.own .. item.doubt
  if waits_of[name] == nil then
    local last = last_of[name]
    waits_of[name] = redis.call('LPOS', key(last.ready), last.doubted, 'MAXLEN', request.far) ~= false
  end
  return waits_of[name]
end

local function is_stored(item)
  if waits_still(item) or redis.call('ZSCORE', key(item.delayed), item.doubted) then return true end
  return held(item.own)[string.sub(item.doubted, 2)] ~= nil
end

-- Returns where the known message waits; '1' where it is held or finished; false: unknown.
local function known(item)
  if item.once == 0 then return false end
  local place = redis.call('GET', key(item.once))
  if place then return place end
  if item.doubted ~= '' and is_stored(item) then return '1' end
  return false
end

local function is_finished(item)
  local left = redis.call('PTTL', key(item.once))
  return left >= 0 and left <= request.window
end

local function waits(place)
  local ready, delayed, entry = unpack(cmsgpack.unpack(place))
  if redis.call('ZSCORE', delayed, entry) then return true end
  return redis.call('LPOS', ready, entry) ~= false
end

local known_ids, fresh, replaced = {}, {}, {}
for index, item in ipairs(request.items) do
  local place = known(item)
  if not place then
    fresh[#fresh + 1] = item
  else
    known_ids[#known_ids + 1] = index - 1
    if request.conflict == 'replace' then
      if place ~= '1' and waits(place) then
        replaced[#replaced + 1] = {item, place}
      elseif place == '1' and is_finished(item) then
        fresh[#fresh + 1] = item
      else
        return {'held', {index - 1}}
      end
    elseif item.doubted ~= '' and place == '1' and request.window > 0 then
      redis.call('SET', key(item.once), '1', 'PX', request.window, 'NX')
    end
  end
end
if request.conflict == 'raise' and #known_ids > 0 then return {'known', known_ids} end

for _, bound in ipairs(request.bounds) do
  local adding, waiting = 0, 0
  for _, item in ipairs(fresh) do if item.queue == bound.queue then adding = adding + 1 end end
  for _, each in ipairs(replaced) do
    local was = cmsgpack.unpack(each[2])[1]
    local moves = each[1].queue == bound.queue
    for _, number in ipairs(bound.ready) do if key(number) == was then moves = false end end
    if moves then adding = adding + 1 end
  end
  if adding > 0 then
    waiting = bound.elsewhere
    for _, number in ipairs(bound.ready) do waiting = waiting + redis.call('LLEN', key(number)) end
    for _, number in ipairs(bound.delayed) do
      waiting = waiting + redis.call('ZCARD', key(number))
    end
    if waiting + adding > bound.most then return {'full', bound.queue, adding} end
  end
end

local wakes = {}
local function mark(item, deliveries)
  local listed = item.is_listed and item.due > at
  if item.once == 0 and not listed then return item.envelope end
  return '{"umbel":"' .. deliveries .. ':0:' .. item.mark .. (listed and ':' .. whole(item.due) or '')
    .. '",' .. string.sub(item.envelope, 2)
end
local function note(item, entry)
  if item.once == 0 then return end
  local place = '1'
  if request.replaceable then
    place = cmsgpack.pack({key(item.ready), key(item.delayed), entry})
  end
  local left = request.keep
  if item.due > at then left = left + item.due - at end
  redis.call('SET', key(item.once), place, 'PX', whole(left))
end
local function put(item, entry)
  if item.due > at and not item.is_listed then
    redis.call('ZADD', key(item.delayed), whole(item.due), entry)
    local left = item.due - at
    if not wakes[item.channel] or left < wakes[item.channel] then wakes[item.channel] = left end
  else
    redis.call('LPUSH', key(item.ready), entry)
  end
  note(item, entry)
end

for _, item in ipairs(fresh) do put(item, mark(item, '0')) end
for _, each in ipairs(replaced) do
  local item = each[1]
  local ready, delayed, old = unpack(cmsgpack.unpack(each[2]))
  -- The mark is kept: results of earlier deliveries must not outrank the next one's.
  local entry = mark(item, string.match(old, '^{"umbel":"(%d+):') or '0')
  if ready == key(item.ready) and item.due <= at and redis.call('LPOS', ready, old) then
    redis.call('LINSERT', ready, 'BEFORE', old, entry)
    redis.call('LREM', ready, -1, old)
    note(item, entry)
  else
    if redis.call('ZREM', delayed, old) == 0 then redis.call('LREM', ready, -1, old) end
    put(item, entry)
  end
end
for channel, left in pairs(wakes) do
  redis.call('PUBLISH', channel, 'due:' .. whole(math.ceil(left)))
end

local lost = {}
for index, group in ipairs(request.acks) do
  local once = {}
  for number, place in ipairs(group.once) do once[number] = place > 0 and key(place) or '' end
  local gone = acknowledge(key(group.pending), key(group.claimed), group.fields, once, request.window)
  for _, number in ipairs(gone) do
    lost[#lost + 1] = index - 1
    lost[#lost + 1] = number
  end
end
return {'sent', known_ids, lost}
"""
)


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
    """What `_SEND` is told."""

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
        held = by_lane(self._keys, acks)
        ours = {id(delivery) for group in held for _, delivery in group.each}
        lost = [delivery for delivery in acks if id(delivery) not in ours]
        if not self._client.is_cluster:
            known, more = self._run(drafts, held, terms)
            return known, lost + more
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

    def _run(
        self, drafts: Sequence[Draft], held: Sequence[Held], terms: Terms
    ) -> tuple[list[str], list[Delivery]]:
        table = _KeyTable()
        once = terms.on_conflict is not None
        request = _Request(
            now=terms.now,
            conflict=str(terms.on_conflict or OnConflict.RETURN),
            window=round(terms.window_s * 1000),
            keep=_KNOWN_MS,
            replaceable=terms.replaceable,
            items=[self._item(draft, table, once=once) for draft in drafts],
            bounds=self._bounds(drafts, terms.bounds, table),
            acks=[self._acks(group, table) for group in held],
        )
        data = msgspec.msgpack.encode(request)
        word, *details = self._client.eval(_SEND, table.all(), (data,))
        if word == b"full":
            queue = details[0].decode()
            raise queue_full(queue, terms.bounds[queue], details[1])
        known = [drafts[index].message.id for index in details[0]]
        if word != b"sent":
            raise AlreadySentError(known)
        lost = zip(details[1][::2], details[1][1::2], strict=True)
        return known, [held[group].each[index][1] for group, index in lost]

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
                raise queue_full(queue, most, adding)

    def _waiting(self, lanes: Sequence[Lane]) -> int:
        calls = []
        for lane in lanes:
            key = lane.ready.encode()
            calls.append(Call(key, pack(("LLEN", lane.ready))))
            calls.append(Call(key, pack(("ZCARD", lane.delayed))))
        waiting = 0
        for reply in self._client.pipeline(calls):
            if isinstance(reply, ReplyError):
                raise reply
            waiting += reply
        return waiting


def queue_full(queue: str, most: int, adding: int) -> QueueFullError:
    """Return the error of a queue that hasn't room for `adding` more."""
    if adding > most:
        return QueueFullError(
            f"{adding} messages at once don't fit into queue {queue!r}, whose max_length is "
            f"{most}, and nothing was sent; send smaller batches",
            queue=queue,
        )
    return QueueFullError(
        f"queue {queue!r} is full: its max_length is {most}, and {adding} more would go beyond "
        f"it, so nothing was sent; try again later, or let the queue block (overflow='block')",
        queue=queue,
    )


def _by_slot(drafts: Sequence[Draft]) -> list[list[Draft]]:
    groups: dict[str, list[Draft]] = {}
    for draft in drafts:
        groups.setdefault(draft.lane.own, []).append(draft)
    return list(groups.values())
