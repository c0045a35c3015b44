"""Counting the parts of chords in Celery's keys, as Celery's own workers do.

`.s` size, `.j` parts by index, `.d` what was counted, `.t` how many were added, `.c` who sends the
body; the bare key has the shape of a header with groups in it. Celery's workers up to 5.6 know only the first two and `.t`; so `.j` is what is counted.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from itertools import repeat
from math import inf
from typing import Any

import msgspec

from umbel.errors import BackendError
from umbel.outcomes import ChordPart
from umbel_backend_redis.keys import Keys
from umbel_backend_redis.saved_groups import fold
from umbel_backend_redis.storing import ttl_ms
from umbel_redis_client import Client, ReplyError, Script

#: In one script.
_CHUNK = 500
#: In the claim on a body. The same for all workers of umbel: one that takes a part again after a
#: crash must be able to send the body, and that body's id makes two of them one.
_CLAIM = "umbel"
#: Seconds for which a claim lasts, as Celery has it with its default join timeout, and for which a
#: chord is known to be over.
_CLAIM_S, _OVER_S = 6, 300

_OPEN = Script("""
local size, joined, done, added, claim = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5]
if redis.call('GET', claim) == 'done' then redis.call('DEL', claim, joined, done, added) end
if ARGV[2] ~= '' then redis.call('SET', size, ARGV[1], 'PX', ARGV[2])
else redis.call('SET', size, ARGV[1]) end
return 1
""")

# ARGV: our claim, its ms, how long the chord is kept (ms; '' for ever), whether in order, and of
# each part what it is counted as, its score and what it says. Returns nothing,
# or whether the parts are in order, all of them, then with their scores, and the saved group.
_JOIN = Script("""
local size, joined, done, added, claim, group = unpack(KEYS)
local holder = redis.call('GET', claim)
if holder == 'done' then return false end
local form = redis.call('TYPE', joined).ok
local in_order = form == 'zset' or (form == 'none' and ARGV[4] == '1')
for at = 5, #ARGV, 3 do
    if redis.call('SADD', done, ARGV[at]) == 1 then
        local score, member = ARGV[at + 1], ARGV[at + 2]
        if in_order then
            -- A task may stand at two places with one result: a space more is the same JSON.
            local place = redis.call('ZSCORE', joined, member)
            while place and place ~= score do
                member = member .. ' '
                place = redis.call('ZSCORE', joined, member)
            end
            if not place then redis.call('ZADD', joined, score, member) end
        else
            redis.call('RPUSH', joined, member)
        end
    end
end
for _, key in ipairs({joined, added, size, done, group}) do
    if ARGV[3] ~= '' then redis.call('PEXPIRE', key, ARGV[3]) else redis.call('PERSIST', key) end
end
local wanted = redis.call('GET', size)
if not wanted then return false end
local count = in_order and redis.call('ZCARD', joined) or redis.call('LLEN', joined)
if count < tonumber(wanted) + tonumber(redis.call('GET', added) or 0) then return false end
if holder and holder ~= ARGV[1] then return false end
redis.call('SET', claim, ARGV[1], 'PX', ARGV[2])
local saved = redis.pcall('GET', group)
if type(saved) == 'table' then saved = saved.err end
if in_order then return {1, redis.call('ZRANGE', joined, 0, -1, 'WITHSCORES'), saved} end
return {0, redis.call('LRANGE', joined, 0, -1), saved}
""")

_CLOSE = Script("""
redis.call('DEL', KEYS[1], KEYS[2], KEYS[3], KEYS[4])
redis.call('SET', KEYS[5], 'done', 'EX', ARGV[1])
return 1
""")

#: ``[1, "task id", "STATE", result]``, which is taken as it stands.
_TEXT = rb'"((?:[^"\\]|\\.)*)"'
_MEMBER = re.compile(
    rb"\s*\[\s*1\s*,\s*%b\s*,\s*%b\s*,\s*(.*\S)\s*\]\s*" % (_TEXT, _TEXT), re.DOTALL
)


def open_chord(
    client: Client, keys: Keys, group_id: str, size: int, *, ttl_s: float | None
) -> None:
    """Say how many parts it has. Raises: ReplyError, ConnectionLostError."""
    client.eval(_OPEN, keys.chord(group_id), [size, ttl_ms(ttl_s)])


def join_chord(
    client: Client, keys: Keys, parts: Iterable[ChordPart], *, in_order: bool
) -> Mapping[str, Sequence[ChordPart]]:
    """Count `parts`; return all those of the chords that are complete and for us to go on with.

    Args:
        in_order: Of a chord without any part yet, keep the parts in their order.
    Raises: ReplyError, ConnectionLostError: unknown what was counted. BackendError: a part that
        somebody else counted can't be read.
    """
    groups: dict[str, list[ChordPart]] = {}
    for part in parts:
        groups.setdefault(part.group_id, []).append(part)
    names: list[str] = []
    runs: list[tuple[Sequence[str], Sequence[Any]]] = []
    for group_id, all_parts in groups.items():
        for start in range(0, len(all_parts), _CHUNK):
            names.append(group_id)
            chunk = all_parts[start : start + _CHUNK]
            runs.append((keys.chord(group_id), _join_args(chunk, in_order=in_order)))
    found: dict[str, Sequence[ChordPart]] = {}
    for group_id, reply in zip(names, client.scripts(_JOIN, runs), strict=True):
        if isinstance(reply, ReplyError):
            raise reply
        if reply is not None:
            found[group_id] = _parts(group_id, reply)
    return found


def close_chord(client: Client, keys: Keys, group_ids: Sequence[str]) -> None:
    """Forget the parts, and count no more. Raises: ReplyError, ConnectionLostError."""
    for reply in client.scripts(_CLOSE, [(keys.chord(each), [_OVER_S]) for each in group_ids]):
        if isinstance(reply, ReplyError):
            raise reply


def _join_args(parts: Sequence[ChordPart], *, in_order: bool) -> list[Any]:
    args: list[Any] = [_CLAIM, _CLAIM_S * 1000, ttl_ms(parts[-1].ttl_s), int(in_order)]
    for part in parts:
        score, place = ("+inf", "inf") if part.index is None else (part.index, part.index)
        member = b"[1, %b, %b, %b]" % (_encode(part.task_id), _encode(part.state), part.result)
        args += (f"{part.task_id}:{score}", place, member)
    return args


def _encode(text: str) -> bytes:
    return msgspec.json.encode(str(text))


def _parts(group_id: str, reply: list[Any]) -> list[ChordPart]:
    in_order, members, saved = reply
    scores: Iterable[bytes] = repeat(b"inf")
    if in_order:
        members, scores = members[::2], members[1::2]
    pairs = zip(members, scores, strict=False)
    parts = [_part(group_id, member, float(score)) for member, score in pairs]
    return parts if saved is None else fold(group_id, saved, parts)


def _part(group_id: str, member: bytes, score: float) -> ChordPart:
    found = _MEMBER.fullmatch(member)
    if found is None:
        raise BackendError(
            f"a part of the chord {group_id!r} isn't JSON as umbel and Celery write it: "
            f"{member!r:.200}"
        )
    return ChordPart(
        group_id=group_id,
        index=None if score == inf else int(score),
        task_id=msgspec.json.decode(b'"%b"' % found[1], type=str),
        state=msgspec.json.decode(b'"%b"' % found[2], type=str),
        result=found[3],
    )
