"""What is done to the keys of a chord in one step each, as scripts.

`KEYS` are those of `ChordKeys`, in order. The hash of ours has the fields ``size``, ``done`` and
``failed``, ``added`` (how many parts `grow_chord` added), ``over`` (the body was sent) and, until
then, ``body``. The set of ours has ``=<task id>:<index>`` for each part without a result, and
``+<id>`` for each id that the chord has grown by. What makes a chord complete stands in Celery's keys alone.
"""

from __future__ import annotations

from umbel_redis_client import Script

_KEYS = """
local size, joined, done, added, claim, group, told, once = unpack(KEYS)
local function keep(ttl, keys)
    for _, key in ipairs(keys) do
        if ttl ~= '' then redis.call('PEXPIRE', key, ttl) else redis.call('PERSIST', key) end
    end
end
"""

# Whether it was closed. That stands in the hash for longer than in the claim; there it means
# nothing where Celery's client has opened the chord again.
_CLOSED = """
local holder = redis.call('GET', claim)
if holder == 'done' then return CLOSED end
if redis.call('HEXISTS', told, 'over') == 1 then
    if redis.call('EXISTS', size) == 0 then return CLOSED end
    redis.call('DEL', told, once)
end
"""

# ARGV: the size, how long the chord is kept (ms; '' for ever), its body where it is known.
OPEN = Script(
    _KEYS
    + """
if redis.call('GET', claim) == 'done' or redis.call('HEXISTS', told, 'over') == 1 then
    redis.call('DEL', claim, joined, done, added, told, once)
end
redis.call('SET', size, ARGV[1])
redis.call('HSET', told, 'size', ARGV[1])
if ARGV[3] then redis.call('HSET', told, 'body', ARGV[3]) end
keep(ARGV[2], {size, told})
return 1
"""
)

# ARGV: how long the chord is kept (ms; '' for ever), ids. Returns whether it is open.
GROW = Script(
    _KEYS
    + _CLOSED.replace("CLOSED", "0")
    + """
if redis.call('EXISTS', size) == 0 then return 0 end
local more = 0
for at = 2, #ARGV do more = more + redis.call('SADD', once, '+' .. ARGV[at]) end
if more > 0 then
    redis.call('INCRBY', added, more)
    redis.call('HINCRBY', told, 'added', more)
end
keep(ARGV[1], {joined, added, size, done, told, once})
return 1
"""
)

# ARGV: our claim, its ms, how long the chord is kept (ms; '' for ever), whether in order, whether
# to abort it, and of each part what it is counted as, whether it failed, its score and what it
# says, which is empty for one without a result. Returns nothing, or whether the parts are in order,
# all of them, then with their scores, and the saved group, unless the chord isn't complete.
JOIN = Script(
    _KEYS
    + _CLOSED.replace("CLOSED", "false")
    + """
local form = redis.call('TYPE', joined).ok
local in_order = form == 'zset' or (form == 'none' and ARGV[4] == '1')
local with_results, new, failed = false, 0, 0
local plain = {['0'] = {}, ['1'] = {}}
for at = 6, #ARGV, 4 do
    local member = ARGV[at + 3]
    if member == '' then
        table.insert(plain[ARGV[at + 1]], '=' .. ARGV[at])
    else
        with_results = true
        if redis.call('SADD', done, ARGV[at]) == 1 then
            new, failed = new + 1, failed + ARGV[at + 1]
            if in_order then
                -- A task may stand at two places with one result: a space more is the same JSON.
                local score = ARGV[at + 2]
                while redis.call('ZADD', joined, 'NX', score, member) == 0
                    and redis.call('ZSCORE', joined, member) ~= score do
                    member = member .. ' '
                end
            else
                redis.call('RPUSH', joined, member)
            end
        end
    end
end
for has_failed, members in pairs(plain) do
    if #members > 0 then
        local more = redis.call('SADD', once, unpack(members))
        new, failed = new + more, failed + more * has_failed
    end
end
if new > 0 then redis.call('HINCRBY', told, 'done', new) end
if failed > 0 then redis.call('HINCRBY', told, 'failed', failed) end
if not with_results then
    keep(ARGV[3], {added, size, told, once})
    return false
end
keep(ARGV[3], {joined, added, size, done, group, told, once})
local wanted = redis.call('GET', size)
if not wanted then return false end
local count = in_order and redis.call('ZCARD', joined) or redis.call('LLEN', joined)
local complete = count >= tonumber(wanted) + tonumber(redis.call('GET', added) or 0)
if not complete and ARGV[5] == '0' then return false end
if holder and holder ~= ARGV[1] then return false end
redis.call('SET', claim, ARGV[1], 'PX', ARGV[2])
local saved = complete and redis.pcall('GET', group)
if type(saved) == 'table' then saved = saved.err end
if in_order then return {1, redis.call('ZRANGE', joined, 0, -1, 'WITHSCORES'), saved} end
return {0, redis.call('LRANGE', joined, 0, -1), saved}
"""
)

# ARGV: how long the claim says so (s), how long it is known at most (ms).
CLOSE = Script(
    _KEYS
    + """
if redis.call('EXISTS', told) == 1 then
    redis.call('HSET', told, 'over', 1)
    redis.call('HDEL', told, 'body')
    local total, more = redis.call('GET', size), redis.call('GET', added)
    if total then redis.call('HSET', told, 'size', total) end
    if more then redis.call('HSET', told, 'added', more) end
    local left = redis.call('PTTL', told)
    if left < 0 or left > tonumber(ARGV[2]) then redis.call('PEXPIRE', told, ARGV[2]) end
end
redis.call('DEL', size, joined, done, added, once)
redis.call('SET', claim, 'done', 'EX', ARGV[1])
return 1
"""
)

# Returns how many parts it has, how many are done and how many failed; nothing where it is unknown.
# What Celery's workers have added and joined stands in Celery's keys alone, and they drop these
# once all parts are done.
PROGRESS = Script(
    _KEYS
    + """
local fields = redis.call('HMGET', told, 'size', 'added', 'done', 'failed', 'over')
local wanted = redis.call('GET', size)
local total = wanted or fields[1]
if not total then return false end
total = total + (redis.call('GET', added) or fields[2] or 0)
local found = tonumber(fields[3] or 0)
if not wanted and not fields[5] then
    found = total
else
    local form = redis.call('TYPE', joined).ok
    if form == 'zset' then found = math.max(found, redis.call('ZCARD', joined))
    elseif form == 'list' then found = math.max(found, redis.call('LLEN', joined)) end
end
return {total, found, tonumber(fields[4] or 0)}
"""
)
