"""Writing results: the rank rule as scripts, and batches cut to what a script may take.

Measured on Redis 7.0, with batches of 200 documents of 160 bytes; CPU of Redis and of the worker
for each result:

    one script a batch: SET NX, then PUBLISH     3.0 µs   0.4 µs
    a script a result, pipelined                 4.5      1.3
    SET NX and PUBLISH without a script          2.3      1.8    tells of what was refused, too
    SET NX, then PUBLISH of what was taken       2.5      1.8    another round trip
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from umbel.outcomes import StoredResult
from umbel.states import order_in_rank
from umbel_backend_redis.keys import Keys
from umbel_backend_redis.records import FIRST_RANK, USUAL_HEADS, write
from umbel_redis_client import Client, Script, raised

#: Results and bytes in one script, so that it blocks Redis for 2 ms or so.
_CHUNK, _CHUNK_BYTES = 500, 1 << 20

# A result gives way to one of the same or a higher rank and order. Orders as in
# umbel.states.order_in_rank; the forms that are read here are those of umbel_backend_redis.records.
# The key beside a result is in its slot, and touched only where there is one.
_STANDING = """
local ORDER = {SUCCESS = 1, FAILURE = 1, REVOKED = 1, REJECTED = 1, IGNORED = 1,
               PENDING = -1, RECEIVED = -1, STARTED = -1}
local function beside(key)
    local tagged = string.find(key, '^[^{]*{[^}]+}') and key or '{' .. key .. '}'
    return 'umbel:' .. tagged .. ':rank'
end
local function put(key, value, ttl)
    if ttl ~= '' then redis.call('SET', key, value, 'PX', ttl) else redis.call('SET', key, value) end
end
local function replace(key, value, mark, ttl, retries, token, order)
    local old, was_beside = redis.call('GET', key), false
    if old then
        local its_retries, its_token = 0, 1
        local state = string.match(old, '^{"status": ?"([^"\\\\]*)"')
        if state then
            local r, t = string.match(string.sub(old, -80), ',"umbel_rank":%[(-?%d+),(-?%d+)%]}$')
            if r then its_retries, its_token = tonumber(r), tonumber(t) end
        else
            local its_mark = redis.call('GET', beside(key))
            if its_mark then
                local r, t, s = string.match(its_mark, '^(-?%d+) (-?%d+) (.*)$')
                its_retries, its_token, state, was_beside = tonumber(r), tonumber(t), s, true
            else
                state = string.match(old, 'status[^%a]+([%u_]+)')
            end
        end
        if its_retries ~= retries then
            if its_retries > retries then return false end
        elseif its_token ~= token then
            if its_token > token then return false end
        elseif (ORDER[state] or 0) > order then
            return false
        end
    end
    put(key, value, ttl)
    if mark ~= '' then put(beside(key), mark, ttl)
    elseif was_beside then redis.call('DEL', beside(key)) end
    return true
end
"""

# Final documents of rank (0, 1). ARGV: how long they are kept (ms; '' for ever), the documents.
# Returns places of what was refused.
FIRST = Script(
    _STANDING
    + """
local refused, ttl = {}, ARGV[1]
local kept = ttl ~= ''
for i, key in ipairs(KEYS) do
    local value, taken = ARGV[i + 1], nil
    if kept then taken = redis.call('SET', key, value, 'PX', ttl, 'NX')
    else taken = redis.call('SET', key, value, 'NX') end
    if taken or replace(key, value, '', ttl, 0, 1, 1) then redis.call('PUBLISH', key, value)
    else refused[#refused + 1] = i end
end
return refused
"""
)

# Any results. ARGV, of each: value, what stands beside it, how long it is kept (ms; '' for ever),
# retries, token and order. Returns places of what was refused.
ANY = Script(
    _STANDING
    + """
local refused = {}
for i, key in ipairs(KEYS) do
    local at = 6 * (i - 1)
    local value, mark, ttl = ARGV[at + 1], ARGV[at + 2], ARGV[at + 3]
    local retries, token = tonumber(ARGV[at + 4]), tonumber(ARGV[at + 5])
    if replace(key, value, mark, ttl, retries, token, tonumber(ARGV[at + 6])) then
        redis.call('PUBLISH', key, value)
    else
        refused[#refused + 1] = i
    end
end
return refused
"""
)


def store(client: Client, keys: Keys, results: Sequence[StoredResult]) -> list[str]:
    """Store `results`; return ids of the tasks whose result was refused.

    Raises: ReplyError, ConnectionLostError: unknown what was stored.
    """
    # By how long they are kept, which is the same for nearly all.
    usual: dict[float | None, list[StoredResult]] = {}
    others: list[StoredResult] = []
    for result in results:
        head = USUAL_HEADS.get(result.state)
        if head is not None and result.rank == FIRST_RANK and result.body.startswith(head):
            usual.setdefault(result.ttl_s, []).append(result)
        else:
            others.append(result)
    most = 1 if client.is_cluster else _CHUNK  # the keys of a script must be of one slot
    refused: list[str] = []
    for group in usual.values():
        chunks = list(_chunks(group, most))
        refused += _refused(client, FIRST, chunks, [_first(keys, chunk) for chunk in chunks])
    if others:
        chunks = list(_chunks(others, most))
        refused += _refused(client, ANY, chunks, [_any(keys, chunk) for chunk in chunks])
    return refused


def _chunks(results: list[StoredResult], most: int) -> Iterator[list[StoredResult]]:
    if len(results) <= most and sum([len(one.body) for one in results]) <= _CHUNK_BYTES:
        yield results
        return
    chunk: list[StoredResult] = []
    size = 0
    for result in results:
        if chunk and (len(chunk) >= most or size + len(result.body) > _CHUNK_BYTES):
            yield chunk
            chunk, size = [], 0
        chunk.append(result)
        size += len(result.body)
    yield chunk


_Run = tuple[list[str], list[Any]]


def _first(keys: Keys, results: list[StoredResult]) -> _Run:
    prefix = keys.result
    args: list[Any] = [ttl_ms(results[0].ttl_s)]
    args += [one.body for one in results]
    return [prefix + one.task_id for one in results], args


def _any(keys: Keys, results: list[StoredResult]) -> _Run:
    args: list[Any] = []
    for one in results:
        record = write(one)
        args += (record.value, record.beside, ttl_ms(one.ttl_s))
        args += (one.retries, one.token, order_in_rank(one.state))
    return [keys.result + one.task_id for one in results], args


def ttl_ms(ttl_s: float | None) -> int | str:
    """Return how long something is kept, as scripts take it."""
    return "" if ttl_s is None else max(1, int(ttl_s * 1000))


def _refused(
    client: Client, script: Script, chunks: list[list[StoredResult]], runs: list[_Run]
) -> Iterator[str]:
    for chunk, places in zip(chunks, raised(client.scripts(script, runs)), strict=True):
        for place in places:
            yield chunk[place - 1].task_id
