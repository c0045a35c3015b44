"""The script that stores messages, each once where it is asked for, and settles beside them.

It looks first and writes after: nothing of a request is stored where something of it is refused.
"""

from __future__ import annotations

from typing import Final

from umbel_broker_redis.lua import NOW, WHOLE
from umbel_broker_redis.settling import ACKNOWLEDGE
from umbel_redis_client import Script

#: KEYS: of all lanes, and of what is sent once. ARGV: a request as msgpack: see `requests`.
#: Returns: what came of it, and the details of that.
SEND: Final = Script(
    NOW
    + WHOLE
    + ACKNOWLEDGE
    + """
local request = cmsgpack.unpack(ARGV[1])
local at = now(request.now)
local function key(number) return KEYS[number] end

-- Returns what is or was held of a lane, without the marks that deliveries make.
local held_of = {}
local function held(item)
  local own = item.own
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
  -- What was given back since is at the head again, or waits for its next try.
  add(redis.call('LRANGE', key(item.ready), -1000, -1))
  add(redis.call('ZRANGE', key(item.delayed), 0, 999))
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
  return held(item)[string.sub(item.doubted, 2)] ~= nil
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
