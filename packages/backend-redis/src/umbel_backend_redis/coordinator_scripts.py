"""What a coordinator does in more than one step, as scripts: nobody gets in between."""

from __future__ import annotations

from typing import Final

from umbel_redis_client import Script

#: KEYS: counter. ARGV: to add, milliseconds. Returns the sum, as text: a number of Lua's is exact
#: to 53 bits only.
INCREMENT: Final = Script("""
redis.call('INCRBY', KEYS[1], ARGV[1])
redis.call('PEXPIRE', KEYS[1], ARGV[2])
return redis.call('GET', KEYS[1])
""")

#: KEYS: lease, counter of tokens. ARGV: holder, milliseconds ('': for ever). Returns the token;
#: nil: somebody else has it.
#: A token is the server's microseconds, or one more than the last where that is higher: so it
#: grows when the server's clock is set back, and as well when the counter was lost with a server.
ACQUIRE: Final = Script("""
local held, token = redis.call('GET', KEYS[1]), nil
if held then
  local colon = string.find(held, ':', 1, true)
  if string.sub(held, colon + 1) ~= ARGV[1] then
    return false
  end
  token = string.sub(held, 1, colon - 1)
else
  local now = redis.call('TIME')
  local last = tonumber(redis.call('GET', KEYS[2]) or '0')
  token = string.format('%.0f', math.max(last + 1, now[1] * 1000000 + now[2]))
  redis.call('SET', KEYS[2], token)
end
if ARGV[2] == '' then
  redis.call('SET', KEYS[1], token .. ':' .. ARGV[1])
else
  redis.call('SET', KEYS[1], token .. ':' .. ARGV[1], 'PX', ARGV[2])
end
return token
""")

#: KEYS: lease. ARGV: what it holds if it is still the caller's. Returns whether it was.
RELEASE: Final = Script("""
if redis.call('GET', KEYS[1]) ~= ARGV[1] then
  return 0
end
return redis.call('DEL', KEYS[1])
""")

#: KEYS: rate. ARGV: limit, seconds of its period, cost, now ('': by the server's clock). Returns
#: as text the seconds to wait, 0 where it was taken.
#: The key holds when all units are free again (the theoretical arrival time of the algorithm);
#: never further off than a period: the clock was set back, or the rate was slower before.
TAKE: Final = Script("""
local limit, period, cost = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
local now = tonumber(ARGV[4])
if not now then
  local time = redis.call('TIME')
  now = time[1] + time[2] / 1000000
end
local free_at = tonumber(redis.call('GET', KEYS[1]) or now)
free_at = math.min(math.max(now, free_at), now + period) + cost * period / limit
local wait = free_at - now - period
if wait > 0.000001 then
  return string.format('%.17g', wait)
end
if ARGV[4] == '' then
  local ends = string.format('%.0f', math.ceil((free_at - now) * 1000) + 1)
  redis.call('SET', KEYS[1], string.format('%.17g', free_at), 'PX', ends)
else
  redis.call('SET', KEYS[1], string.format('%.17g', free_at))
end
return '0'
""")
