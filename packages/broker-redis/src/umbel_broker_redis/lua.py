"""Lua that several scripts begin with."""

from __future__ import annotations

from typing import Final

#: `now(text)`: unix milliseconds; the server's own clock where `text` is empty, so that the clocks
#: of nodes need not agree.
NOW: Final = """
local function now(text)
  if text ~= '' then return tonumber(text) end
  local time = redis.call('TIME')
  return time[1] * 1000 + math.floor(time[2] / 1000)
end
"""

#: `free(hash)`: what frees memory goes first: a script that has written before goes on writing
#: where Redis is full, and messages can be taken, run and removed.
FREE: Final = """
local function free(hash) redis.call('HDEL', hash, '') end
"""

#: `whole(number)`: its digits, without the exponent that Lua gives to large ones.
WHOLE: Final = """
local function whole(number) return string.format('%d', number) end
"""

#: `read_mark(entry)`: deliveries, strikes, once, ``:due`` or '', and the envelope behind its brace;
#: nothing where there is no mark of ours. What a stranger has forged costs no more than its length,
#: and no number in it is too large for Redis.
READ_MARK: Final = """
local function read_mark(entry)
  if string.sub(entry, 1, 10) ~= '{"umbel":"' then return nil end
  local last = string.find(entry, '",', 11, true)
  if not last then return nil end
  local deliveries, strikes, once, due =
    string.match(string.sub(entry, 11, last - 1), '^(%d+):(%d+):(%x*)(.*)$')
  if not deliveries or #deliveries > 15 or #strikes > 15 or #once % 2 == 1 then return nil end
  if due ~= '' and (#due > 16 or not string.find(due, '^:%d+$')) then return nil end
  return deliveries, strikes, once, due, string.sub(entry, last + 2)
end
"""

#: `handed_back(entry, strikes)`: the entry as it waits again after a delivery: see `entries`.
HANDED_BACK: Final = (
    WHOLE
    + READ_MARK
    + """
local function handed_back(entry, strikes)
  local deliveries, struck, once, due, rest = read_mark(entry)
  if deliveries then
    return '{"umbel":"' .. whole(deliveries + 1) .. ':' .. whole(struck + strikes) .. ':' .. once
      .. due .. '",' .. rest, once
  end
  if string.sub(entry, 1, 1) ~= '{' then return entry, '' end
  return '{"umbel":"1:' .. whole(strikes) .. ':",' .. string.sub(entry, 2), ''
end
"""
)

#: `unhex(text)`: the bytes that hexadecimal digits stand for.
UNHEX: Final = """
local function unhex(text)
  return (string.gsub(text, '..', function(pair) return string.char(tonumber(pair, 16)) end))
end
"""

#: `once_key(start, entry)`: the key by which a message that was sent once is known; else nil.
#: `start` is what such keys begin with.
ONCE_KEY: Final = (
    READ_MARK
    + UNHEX
    + """
local function once_key(start, entry)
  local _, _, once = read_mark(entry)
  if not once or once == '' then return nil end
  return start .. unhex(once)
end
"""
)

#: `make_ready(ready, entry)`: puts what was delayed where `receive` looks: what was handed out
#: before at its old place, all else behind what waits.
MAKE_READY: Final = """
local function make_ready(ready, entry)
  local back = string.match(entry, '^{"umbel":"(%d+):')
  redis.call((back and back ~= '0') and 'RPUSH' or 'LPUSH', ready, entry)
end
"""
